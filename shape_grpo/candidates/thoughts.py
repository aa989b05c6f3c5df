"""Find the answer in a turn of a model: what it thinks before holds no candidates.

Models mark thoughts by strings of their chat template, which may be special tokens. Some templates
open the thought in the prompt, and the response then begins within it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from shape_grpo.candidates.families import FAMILIES, Marks
from shape_grpo.candidates.vocabulary import Tokenizer, Vocabulary, decode

FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
"""Header of the answer in gpt-oss's format, Harmony (package openai-harmony, docs/format.md)."""
# At the start of a message. Elsewhere it is a word of an answer.
_CHANNEL = re.compile(r"(?:\A\s*|<\|start\|>[^<]*)<\|channel\|>")
_HARMONY_MARKS = ("<|channel|>", "<|message|>", "<|constrain|>")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_LONGEST_TURN_START = 4096
"""Maximum number of tokens of the prompt that are read for a thought left open."""


@dataclass(frozen=True)
class Thoughts:
    """The setting ``thoughts``: which marks enclose thoughts.

    Attributes:
        marks: Marks of thoughts.
        harmony: Whether channels of gpt-oss's format count: only ``final`` is an answer then.
    """

    marks: tuple[Marks, ...] = FAMILIES
    harmony: bool = True

    @classmethod
    def from_setting(cls, setting: Any) -> Thoughts:
        """Read ``auto``, ``none``, or a pair of marks.

        Raises:
            ValueError: It is none of these.
        """
        if setting == "auto":
            return cls()
        if setting in ("none", None):
            return cls((), harmony=False)
        pair = list(setting) if isinstance(setting, Sequence) else []
        if len(pair) == 2 and all(isinstance(mark, str) and mark for mark in pair):
            opening, closing = pair
            if not isinstance(setting, str) and opening != closing:
                return cls((Marks(opening, closing, closes_alone=True),), harmony=False)
        raise ValueError(
            f"thoughts={setting}: write auto (the marks of known models), none (all text is "
            'answer), or two different marks, as ["<think>", "</think>"].'
        )

    def answer(self, text: str, prompt: str = "") -> tuple[int, int]:
        """Return the offsets (start, end) of the answer in a turn's text.

        The answer begins after the last thought. A later thought that is not closed ends it: what
        the length limit cut off is no answer.

        Args:
            text: What the model wrote.
            prompt: What the prompt holds of the same turn: `turn_start`.
        """
        whole, shift = prompt + text, len(prompt)
        if self.is_harmony(text, prompt):
            begin, end = _final_channel(whole)
        else:
            begin, opened, opened_at = self._last_thought(whole, shift)
            end = len(whole) if opened is None else opened_at
        begin = max(begin - shift, 0)
        return begin, max(begin, end - shift)

    def is_harmony(self, text: str, prompt: str) -> bool:
        """Return whether a turn is written in gpt-oss's format."""
        return self.harmony and bool(_CHANNEL.search(prompt + text))

    def open_thought(self, prompt: str, text: str = "") -> Marks | None:
        """Return the marks of the thought that a turn so far leaves open; None if there is none."""
        return self._last_thought(prompt + text, len(prompt))[1]

    def _last_thought(self, text: str, turn: int) -> tuple[int, Marks | None, int]:
        """Return the end of the last closed thought, and the marks and start of an open one.

        Args:
            text: A turn, with what the prompt holds of it.
            turn: Offset at which the model's own text begins.
        """
        end, opened_at = 0, 0
        first_word = len(text) - len(text[turn:].lstrip())
        opened: Marks | None = None
        # A closing mark alone is one of the family that was seen, or else a word of an answer.
        closing_alone = self._closing_alone
        for mark in _pattern(self.marks).finditer(text) if self.marks else ():
            if opened is not None:
                if mark[0] in self._closing[opened.open]:
                    end, opened = mark.end(), None
            elif mark[0] in closing_alone:
                end = mark.end()
                closing_alone = {mark[0]}
            else:
                family = self._opening.get(mark[0])
                if family is not None and not (family.at_start and mark.start() > first_word):
                    opened, opened_at = family, mark.start()
                    closing_alone = self._closing_alone & self._closing[family.open]
        return end, opened, opened_at

    @cached_property
    def _marks(self) -> str:
        """All marks, with a character between them that is in none."""
        return "\0".join([*_HARMONY_MARKS, *(m.open + "\0" + m.close for m in self.marks)])

    @cached_property
    def _opening(self) -> dict[str, Marks]:
        return {family.open: family for family in self.marks}

    @cached_property
    def _closing(self) -> dict[str, set[str]]:
        """Opening mark to the closing marks that go with it."""
        return {
            opening: {family.close for family in self.marks if family.open == opening}
            for opening in self._opening
        }

    @cached_property
    def _closing_alone(self) -> set[str]:
        return {family.close for family in self.marks if family.closes_alone}

    def turn_start(self, prompt: str) -> str:
        """Return what a prompt's text holds of the turn that follows.

        Without its token ids, a thought is open only where the prompt ends with its mark: a user's
        message may speak of marks, too.
        """
        _, start, turn = prompt.rpartition("<|start|>")
        if self.harmony and start and turn.startswith("assistant"):
            return start + turn
        end = prompt.rstrip()
        marks = (m.open for m in self.marks if m.open.strip())
        ends = (mark for mark in marks if end.endswith(mark.rstrip()))
        return max(ends, key=len, default="")

    def turn_start_of_ids(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], left_open: str = ""
    ) -> str:
        """Return what a prompt's token ids hold of the turn that follows.

        A chat template opens a turn by a special token and at most the name of a role. From the
        last such token on, the prompt is part of the turn. Without one, this is `turn_start` of the
        prompt's text.

        Args:
            tokenizer: A Hugging Face tokenizer.
            prompt_ids: Token ids of the prompt, or its last ones.
            left_open: Mark of the thought that the text before these ids left open. It goes on if
                no turn begins in them: a tool's result may stand within a thought.
        """
        if not self.marks:
            return ""
        ids = [int(token_id) for token_id in prompt_ids[-_LONGEST_TURN_START:]]
        vocabulary = Vocabulary.of(tokenizer, set(ids))
        # These may stand at the ends of a sequence, too, where turns begin with words.
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        outer = {getattr(tokenizer, name, None) for name in names}
        for place in reversed(range(len(ids))):
            token_id = ids[place]
            is_special = vocabulary.token_bytes.get(token_id) == b""
            # A mark may consist of several tokens.
            if is_special and vocabulary.special.get(token_id, "\0\0") not in self._marks:
                turn = decode(tokenizer, ids[place:], special=True)
                role = decode(tokenizer, ids[place + 1 :], special=True)
                mark = _pattern(self.marks).search(role)
                before = role[: mark.start()] if mark else role
                is_role = len(before.split()) <= 1 and (before.endswith("\n") or not before)
                if is_role if token_id in outer else mark is None or len(before.split()) <= 1:
                    return turn
                break
        if left_open:
            return left_open
        return self.turn_start(decode(tokenizer, ids, special=True))


@lru_cache
def _pattern(marks: tuple[Marks, ...]) -> re.Pattern[str]:
    strings = {string for family in marks for string in (family.open, family.close)}
    return re.compile("|".join(map(re.escape, sorted(strings, key=len, reverse=True))))


def _final_channel(text: str) -> tuple[int, int]:
    """Return the offsets of the last message in the channel ``final``; of nothing without one."""
    begin = max((header.end() for header in FINAL_CHANNEL.finditer(text)), default=len(text))
    end = _END_OF_MESSAGE.search(text, begin)
    return begin, end.start() if end else len(text)
