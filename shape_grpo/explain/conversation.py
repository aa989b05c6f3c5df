"""A made-up answer behind a rendered prompt: does the parser find what it holds?

Chat templates open thoughts, tokenizers have special tokens, formats need line breaks: all of it
shows in one round trip from text to token ids and back, before a training starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shape_grpo.candidates import CandidateRules, Marks, decode_response, find_candidates
from shape_grpo.explain.reading import encode

_SHAPES: tuple[Callable[[int], str], ...] = (
    lambda n: f"made-up candidate {n}",
    lambda n: "candidate" + "x" * n,
    lambda n: "Candidate" + "x" * n,
    lambda n: "CANDIDATE" + "X" * n,
    str,
)
"""Made-up candidates: patterns of regular expressions may take only some of them."""
_OPENING_TAG = re.compile(r"<([A-Za-z][\w:-]*)>\s*\Z")
_END = 40
"""Number of characters of the prompt's end that are shown."""


class NotFound(ValueError):
    """Error for an answer whose candidates the parser does not find; the message says why."""


@dataclass(frozen=True)
class Conversation:
    """A prompt and a made-up answer to it, as the parser reads them.

    Attributes:
        prompt_end: End of the rendered prompt.
        marks: Thought marks of known families that the tokenizer or the chat template has.
        opened: Mark of the thought that the prompt leaves open; None if there is none.
        written: Number of candidates that were written; 0 if the format cannot write any.
        length: Length of the answer in tokens, without a thought.
        limit: Maximum response length in tokens.
    """

    prompt_end: str
    marks: Sequence[str]
    opened: str | None
    written: int
    length: int
    limit: int

    def lines(self) -> Iterator[str]:
        """Yield what a user should know, in five lines."""
        tag = _OPENING_TAG.search(self.prompt_end) if self.opened is None else None
        hint = (
            ""
            if tag is None
            else (f' If this opens a thought, write thoughts=["<{tag[1]}>", "</{tag[1]}>"].')
        )
        yield f"The prompt ends with {self.prompt_end!r}.{hint}"
        known = "; ".join(self.marks) or "none of this model"
        yield f"Known marks of thoughts: {known}."
        if self.opened is None:
            yield "The prompt leaves no thought open."
        else:
            yield f"The prompt leaves a thought open ({self.opened}): until its end all is thought."
        if not self.written:
            yield "Candidates: not tried, as the format has no example (format_options.example)."
            return
        yield f"Candidates: {self.written} of {self.written} made-up ones were found."
        room = "" if self.length <= self.limit // 2 else ": longer ones may be cut off"
        yield (
            f"Their answer of short texts has {self.length} tokens; max_response_length is "
            f"{self.limit}{room}."
        )


def try_conversation(
    tokenizer: Any, prompt: str, rules: CandidateRules, count: int, limit: int
) -> Conversation:
    """Write a made-up answer behind a prompt, and read it back from its token ids.

    Args:
        tokenizer: The policy's.
        prompt: The prompt as the chat template renders it.
        rules: Where candidates are.
        count: Number of candidates that the prompt asks for.
        limit: Maximum response length in tokens.

    Raises:
        NotFound: Other candidates are found than were written.
    """
    prompt_ids = encode(tokenizer, prompt)
    thoughts = rules.known_thoughts
    start = thoughts.turn_start_of_ids(tokenizer, prompt_ids)
    opened = thoughts.open_thought(start)
    candidates, answer = _made_up(rules, count)
    marks = _marks(tokenizer, rules)
    has_channels = "<|channel|>" in tokenizer.get_vocab()
    beginnings = _beginnings(rules, start, opened, marks, answer, has_channels)
    for before in beginnings if candidates else ():
        ids = encode(tokenizer, before + answer)
        found = find_candidates(tokenizer, ids, rules, cut=False, prompt_ids=prompt_ids)
        texts = [candidate.text for candidate in found.candidates]
        if texts != candidates:
            text = decode_response(tokenizer, ids)
            raise NotFound(_reason(rules, before, answer, candidates, texts, text))
    return Conversation(
        prompt[-_END:],
        [f"{each.open} {each.close}" for each in marks]
        + ["<|channel|>, of which final is the answer"] * has_channels,
        opened.open if opened else None,
        len(candidates),
        len(encode(tokenizer, answer)),
        limit,
    )


def _made_up(rules: CandidateRules, count: int) -> tuple[list[str], str]:
    """Return made-up candidates that the format takes, and an answer that holds them."""
    candidates, answer = [], ""
    for shape in _SHAPES:
        candidates = list(map(shape, range(1, count + 1)))
        written = rules.answer_format.write(candidates)
        if written is None:
            return [], ""
        answer = written
        found = rules.answer_format.find(answer, cut=False)
        if [rules.answer_format.read(answer[start:end]) for start, end, _ in found] == candidates:
            break
    return candidates, answer


def _marks(tokenizer: Any, rules: CandidateRules) -> list[Marks]:
    """Return the marks that are tokens of the tokenizer or stand in its chat template."""
    vocabulary, template = tokenizer.get_vocab(), str(tokenizer.chat_template or "")
    return [
        marks
        for marks in rules.known_thoughts.marks
        if marks.close in vocabulary or marks.close in template
    ]


def _beginnings(
    rules: CandidateRules,
    start: str,
    opened: Marks | None,
    marks: Sequence[Marks],
    answer: str,
    has_channels: bool,
) -> list[str]:
    """Return what a model may write before its answer: the rest of a thought, a thought, nothing.

    Thoughts hold the same candidates as the answer, so that a thought which is not known shows.
    """
    if opened is not None:
        return [f"{answer}\n{opened.close}\n\n"]
    if rules.known_thoughts.harmony and has_channels and "<|start|>" in start:
        final = "<|channel|>final<|message|>"
        return [f"<|channel|>analysis<|message|>{answer}<|end|><|start|>assistant{final}", final]
    return ["", *(f"{each.open}\n{answer}\n{each.close}\n\n" for each in marks)]


def _reason(
    rules: CandidateRules,
    before: str,
    answer: str,
    written: Sequence[str],
    found: Sequence[str],
    text: str,
) -> str:
    """Return why candidates are not found as they were written."""
    numbers = f"{len(found)} of {len(written)} made-up candidates were found as they were written"
    if not text.endswith(answer):
        return (
            f"{numbers}: the tokenizer changes the text of the format {rules.format}. Written: "
            f"{(before + answer)[-200:]!r}; after encoding and decoding: {text[-200:]!r}."
        )
    if len(written) > rules.allowed:
        return (
            f"{numbers}: the prompt asks for {len(written)}, and max_candidates="
            f"{rules.max_candidates} keeps no more."
        )
    begin, end = rules.known_thoughts.answer(text)
    if begin == end or len(found) > len(written):
        return (
            f"{numbers}: with thoughts={rules.thoughts} the answer of {text[-200:]!r} is "
            f"{text[begin:end][-200:]!r}. Write thoughts=none, or the marks of this model."
        )
    return (
        f"{numbers}: format={rules.format} with {dict(rules.format_options)} reads {list(found)!r} "
        f"in {text[-200:]!r}."
    )
