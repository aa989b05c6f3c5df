"""Counts of the groups of a step that teach little, or teach the wrong thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from shape_grpo.advantage.formulas import NO_SPREAD
from shape_grpo.advantage.records import CandidateRecord
from shape_grpo.advantage.statistics import GroupIndex, group_numbers

GROUP_COUNTS = ("shape_grpo/groups_without_spread", "shape_grpo/floor_above_reward")
"""Metrics that are numbers of groups or responses."""


@dataclass(frozen=True)
class GroupCounts:
    """Counts of the groups of a step, and of responses whose floor is too high.

    Attributes:
        groups: Number of groups with a known score.
        without_spread: Score to the number of groups whose responses with rewards all have it; None
            for groups without such a response. Responses without candidates are left out, because
            a constant reward function differs from them.
        floor_above: Number of responses in which the floor is worth more than what a response of
            the group got from the reward function: that of a candidate under the rule ``floor`` is
            above a reward, or that of a response without candidates above a score.
        example: Such a floor, and what it is above.
    """

    groups: int
    without_spread: Counter[float | None]
    floor_above: int
    example: tuple[float, float] | None

    @property
    def metrics(self) -> dict[str, float]:
        """`GROUP_COUNTS` to numbers."""
        counts = self.without_spread.total(), self.floor_above
        return dict(zip(GROUP_COUNTS, map(float, counts), strict=True))


def count_groups(
    records: Sequence[CandidateRecord], scores: Sequence[float], index: GroupIndex
) -> GroupCounts:
    """Count the groups of N responses.

    Args:
        records: (N,) records. Of vectors no floor is compared but that of whole sets.
        scores: (N,) scores of the sets.
        index: (N,) group ids.
    """
    groups: dict[Hashable, list[tuple[CandidateRecord, float]]] = {}
    for group, record, score in zip(group_numbers(index).tolist(), records, scores, strict=True):
        if not record.is_unknown:
            groups.setdefault(group, []).append((record, score))
    without: Counter[float | None] = Counter()
    above = []
    for pairs in groups.values():
        known = [score for record, score in pairs if record.returned_rewards]
        if not known or max(known) - min(known) < NO_SPREAD:
            without[known[0] if known else None] += 1
        above += [example for record, score in pairs for example in _above(record, score, pairs)]
    return GroupCounts(len(groups), without, len(above), above[0] if above else None)


def _above(
    record: CandidateRecord, score: float, group: Sequence[tuple[CandidateRecord, float]]
) -> list[tuple[float, float]]:
    """Return up to one example of a floor of this response above a reward or score of its group."""
    if record.floor is None and not record.floor_places:
        return []
    if record.floor is not None:
        floors = [score]
        others = [score for each, score in group if each.returned_rewards]
    else:
        floors = [record.rewards[place] for place in record.floor_places]  # type: ignore[misc]
        others = [r for each, _ in group for r in each.returned_rewards]  # type: ignore[misc]
    pairs = [(f, r) for f in floors for r in others if isinstance(f, int | float) and f > r]
    return sorted(pairs, key=lambda pair: pair[1])[:1]
