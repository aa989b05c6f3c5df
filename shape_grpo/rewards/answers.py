"""Warnings about a training whose responses are cut off or hold no candidates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from shape_grpo.advantage import CandidateRecord

MOST_CUT = 0.9
"""Share of responses at the length limit above which there is a warning."""
MOST_WITHOUT = 0.5
"""Share of responses without candidates above which there is a warning."""
BATCHES = 5
"""Number of batches that the shares are taken over."""


class AnswerWatch:
    """Gives one warning if most responses are cut off, and one if most hold no candidate.

    Both look like a training that goes on, with rewards that say little.

    Args:
        limit: Maximum response length in tokens.
        setting: Name of the setting of that limit.
        samples: Where responses can be read, for the warning's text.
        warn: Called with the text of a warning.
    """

    def __init__(self, limit: int, setting: str, samples: str, warn: Callable[[str], None]) -> None:
        self.limit = limit
        self.setting = setting
        self.samples = samples
        self.warn = warn
        self._shares: deque[tuple[float, float]] = deque(maxlen=BATCHES)
        self._said: set[str] = set()

    def see(self, lengths: Sequence[int], records: Sequence[CandidateRecord]) -> None:
        """Look at the responses of a batch.

        Args:
            lengths: (N,) their lengths in tokens.
            records: (N,) their records.
        """
        if not records:
            return
        count = len(records)
        cut = sum(length >= self.limit for length in lengths) / count
        without = sum(not record.rewards for record in records) / count
        self._shares.append((cut, without))
        if len(self._shares) < BATCHES:
            return
        cut, without = (sum(shares) / BATCHES for shares in zip(*self._shares, strict=True))
        if cut >= MOST_CUT:
            self._say(
                f"{cut:.0%} of the responses of the last {BATCHES} batches end at {self.setting}="
                f"{self.limit} tokens. A cut answer loses its last candidate, and a cut thought "
                f"all of them. Write a larger {self.setting}, or ask for shorter answers. "
                f"{self.samples}",
                "cut",
            )
        if without >= MOST_WITHOUT:
            self._say(
                f"{without:.0%} of the responses of the last {BATCHES} batches hold no candidate. "
                f"{self.samples} Do they have the form of the settings format and thoughts? "
                "python -m shape_grpo explain --response FILE shows what is found in a response.",
                "without",
            )

    def _say(self, warning: str, kind: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.warn(f"{warning} This is said once.")
