"""Several rewards per candidate, each scaled by its spread over the candidates of the group."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from statistics import stdev

from shape_grpo.advantage.formulas import NO_SPREAD
from shape_grpo.advantage.records import CandidateRecord
from shape_grpo.advantage.statistics import GroupIndex, group_numbers


def scale_rewards(
    records: Sequence[CandidateRecord], index: GroupIndex, weights: Mapping[str, float]
) -> list[CandidateRecord]:
    """Return records whose rewards are weighted sums of scaled numbers.

    Each number is divided by its standard deviation (ddof 1) over the candidates of the group, as
    GDPO does (arXiv 2601.05242), but without the mean, which would let an average candidate be
    worth nothing. Where the deviation is below `NO_SPREAD` the number counts 0. Rewards under the
    rule ``floor``, which have no such numbers, are kept.

    Args:
        records: (N,) records with the numbers of each candidate in ``parts``.
        index: (N,) group ids.
        weights: Name to weight.
    """
    values: dict[tuple[Hashable, str], list[float]] = {}
    groups = group_numbers(index).tolist()
    for record, group in zip(records, groups, strict=True):
        for name in weights:
            found = [x for x in record.parts.get(name, ()) if x is not None]
            values.setdefault((group, name), []).extend(found)
    spreads = {key: stdev(found) if len(found) > 1 else 0.0 for key, found in values.items()}
    factors = {
        (group, name): weights[name] / spread if spread >= NO_SPREAD else 0.0
        for (group, name), spread in spreads.items()
    }

    def scaled(record: CandidateRecord, group: int) -> CandidateRecord:
        rewards = list(record.rewards)
        for k, reward in enumerate(rewards):
            numbers = {name: record.parts[name][k] for name in weights if name in record.parts}
            terms = [factors[group, name] * x for name, x in numbers.items() if x is not None]
            if reward is not None and len(terms) == len(weights):
                rewards[k] = sum(terms)
        return replace(record, rewards=rewards)

    return [scaled(*each) for each in zip(records, groups, strict=True)]


def lower_floors(
    records: Sequence[CandidateRecord],
    index: GroupIndex,
    score: Callable[[Sequence[CandidateRecord]], Sequence[float]],
) -> list[CandidateRecord]:
    """Return records whose floors are the lowest of their group, and at most 0.

    Args:
        records: (N,) records with scaled rewards.
        index: (N,) group ids.
        score: Returns the scores of the records' sets.
    """
    groups = group_numbers(index).tolist()
    rewards, scores = dict.fromkeys(groups, 0.0), dict.fromkeys(groups, 0.0)
    for record, group in zip(records, groups, strict=True):
        rewards[group] = min([rewards[group], *record.returned_rewards])  # type: ignore[assignment]

    def paid(record: CandidateRecord, group: int) -> CandidateRecord:
        places = set(record.floor_places)
        lowered = [rewards[group] if k in places else r for k, r in enumerate(record.rewards)]
        return replace(record, rewards=lowered)

    # A set's score follows from the floors in it.
    all_paid = [paid(*each) for each in zip(records, groups, strict=True)]
    for record, group, of_set in zip(all_paid, groups, score(all_paid), strict=True):
        if record.returned_rewards:
            scores[group] = min(scores[group], rewards[group], of_set)
    return [
        replace(record, floor=None if record.returned_rewards else scores[group])
        for record, group in zip(all_paid, groups, strict=True)
    ]
