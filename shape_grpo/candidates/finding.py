"""Find the candidates of a response: in its token ids, turn by turn, or in texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shape_grpo.candidates.candidate import Candidate, ResponseText
from shape_grpo.candidates.candidate_set import CandidateSet
from shape_grpo.candidates.parsing import find_in_turn
from shape_grpo.candidates.rules import CandidateRules
from shape_grpo.candidates.spans import DecodedTokens
from shape_grpo.candidates.vocabulary import Tokenizer


def find_candidates(
    tokenizer: Tokenizer,
    response_ids: Sequence[int],
    rules: CandidateRules,
    *,
    cut: bool,
    prompt_ids: Sequence[int] = (),
    turns: Sequence[tuple[int, int]] | None = None,
) -> CandidateSet:
    """Find the candidates of a response under the rules.

    Args:
        tokenizer: A Hugging Face tokenizer.
        response_ids: Token ids of the response, (T,), as sampled.
        rules: Where candidates are, and which of them count.
        cut: Whether the response ended at its length limit. Of many formats the last candidate is
            truncated only then.
        prompt_ids: Token ids of the prompt. Chat templates of some models open the thought there.
        turns: Tokens (start, end) of each turn of the policy in the response; None: all tokens are
            one turn.

    Raises:
        Exception: What a custom format raises.
    """
    ids: list[int] = response_ids.tolist() if hasattr(response_ids, "tolist") else [*response_ids]
    written = [(0, len(ids))] if turns is None else list(turns)
    candidates: list[Candidate] = []
    spans: list[tuple[int, int]] = []
    thoughts, before, left_open = rules.known_thoughts, prompt_ids, ""
    for number, (start, end) in enumerate(written):
        if start:
            before = ids[written[number - 1][1] if number else 0 : start]
        tokens = DecodedTokens(tokenizer, ids[start:end])
        prompt = thoughts.turn_start_of_ids(tokenizer, before, left_open)
        if number < len(written) - 1:
            opened = thoughts.open_thought(prompt, tokens.text.text)
            left_open = opened.open if opened else ""
            if rules.turns == "last":
                continue
        found = find_in_turn(
            tokens.text, rules.answer_format, thoughts, prompt=prompt, cut=cut and end == len(ids)
        )
        candidates += found
        spans += [(start + first, start + last) for first, last in tokens.spans(found)]
    return CandidateSet.from_candidates(candidates, spans, rules)


def find_in_text(
    text: str,
    rules: CandidateRules,
    *,
    cut: bool,
    prompt: str = "",
    turns: Sequence[tuple[int, int]] | None = None,
) -> CandidateSet:
    """Find the candidates of a response of which only the text is known.

    Args:
        text: The response. Offsets and spans of candidates are in its characters.
        rules: As for `find_candidates`.
        cut: As for `find_candidates`.
        prompt: Text of the rendered prompt, or its end.
        turns: Characters (start, end) of each turn of the policy; None: all text is one turn.

    Raises:
        Exception: What a custom format raises.
    """
    written = [(0, len(text))] if turns is None else list(turns)
    candidates: list[Candidate] = []
    for start, end in written if rules.turns == "all" else written[-1:]:
        found = find_in_turn(
            ResponseText(text[start:end]),
            rules.answer_format,
            rules.known_thoughts,
            prompt=rules.known_thoughts.turn_start(text[:start] or prompt),
            cut=cut and end == len(text),
        )
        candidates += (
            replace(each, start=start + each.start, end=start + each.end) for each in found
        )
    spans = [(each.start, each.end) for each in candidates]
    return CandidateSet.from_candidates(candidates, spans, rules)
