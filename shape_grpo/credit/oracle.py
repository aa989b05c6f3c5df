"""A utility that is known by asking: a function of subsets of a response's candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from shape_grpo.credit.allocators import Allocator, Uniform, WinnerTakesAll
from shape_grpo.credit.semivalues import LeaveOneOut, Semivalue
from shape_grpo.credit.subsets import all_subsets, draw_arrivals, present_after
from shape_grpo.credit.utilities import Utility, register_utility
from shape_grpo.credit.without_closed_form import SubsetUtility

Subset = tuple[int, ...]
"""Indices of candidates, ascending."""

LEAST_ORDERS = 4
"""Number of orders of arrival that an estimate needs at least."""


@register_utility("oracle")
@dataclass(kw_only=True)
class Oracle(Utility):
    """U(S) = result of the reward function ``utility(solutions, ...)`` for the texts of S.
    U(empty) = 0, without a call.

    Semivalues are exact if the subsets that they are made of can be asked about within
    ``max_calls``: all those of 6 candidates with 64 calls, pairs and single ones for ``best_of_k``
    with k = 2, all but one for leave-one-out. Others are estimated from as many random orders of
    arrival as the calls allow. Each subset is asked about once. A candidate's reward is its utility
    alone.

    Attributes:
        max_calls: Number of calls per response.
    """

    max_calls: int = 64

    takes_texts = True

    def __post_init__(self) -> None:
        if self.max_calls < 1:
            raise ValueError(f"utility option max_calls={self.max_calls}: must be 1 or more")

    def plan(self, count: int, allocator: Allocator, seed: int = 0) -> Plan:
        """Choose the subsets of ``count`` candidates to ask about.

        Args:
            count: Number of candidates, 1 or more.
            allocator: Allocator that will split the utility.
            seed: Seed of the orders of arrival.

        Raises:
            ValueError: ``max_calls`` is too few for that many candidates.
        """
        whole = tuple(range(count))
        needed = [(k,) for k in whole] + [whole]
        if isinstance(allocator, LeaveOneOut):
            needed += [whole[:k] + whole[k + 1 :] for k in whole]
        if isinstance(allocator, LeaveOneOut | Uniform | WinnerTakesAll):
            plan = Plan(_distinct(needed))
            if len(plan.subsets) > self.max_calls:
                raise self._too_few(count, len(plan.subsets))
            return plan
        law = allocator.sizes(count).tolist() if isinstance(allocator, Semivalue) else [1] * count
        if 2**count <= max(self.max_calls + 1, 2**12):
            subsets = map(_members, all_subsets(count).tolist())
            # A subset is read with one of its members as the last, and with one more.
            read = _distinct(
                [*needed, *(s for s in subsets if any(law[max(len(s) - 1, 0) : len(s) + 1]))]
            )
            if len(read) <= self.max_calls:
                return Plan(read, exact_up_to=count)
        return self._orders(count, needed, seed)

    def _orders(self, count: int, needed: Sequence[Subset], seed: int) -> Plan:
        asked = {*needed}
        arrivals = draw_arrivals(count, max(self.max_calls, LEAST_ORDERS), seed)
        samples = 0
        for pair in arrivals.split(2):
            present = present_after(pair).flatten(0, 1).tolist()
            further = {*map(_members, present)} - asked - {()}
            if samples >= LEAST_ORDERS and len(asked) + len(further) > self.max_calls:
                break
            asked |= further
            samples += 2
        if len(asked) > self.max_calls:
            raise self._too_few(count, len(asked))
        return Plan(_distinct(asked), samples=samples, seed=seed)

    def _too_few(self, count: int, least: int) -> ValueError:
        return ValueError(
            f"utility_options.max_calls={self.max_calls} is too few for {count} candidates: write "
            f"{least} or more, or a smaller max_candidates, or allocator=leave_one_out"
        )

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        raise TypeError("the utility oracle has the values that Plan.bind is given")

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        return self.value(rewards, mask)


@dataclass(frozen=True)
class Plan:
    """Subsets of a response's candidates to ask about.

    Attributes:
        subsets: The subsets, single candidates first.
        exact_up_to: Number of candidates up to which all subsets that count are among them.
        samples: Number of orders of arrival, where not all are.
        seed: Seed of these orders.
    """

    subsets: Sequence[Subset]
    exact_up_to: int = 0
    samples: int = LEAST_ORDERS
    seed: int = 0

    def bind(self, values: Mapping[Subset, float]) -> Utility:
        """Return the utility of sets (1, K) that has these values.

        Args:
            values: The function's result for each of ``subsets``.
        """
        options = {name: getattr(self, name) for name in ("exact_up_to", "samples", "seed")}
        return _Asked(values={(): 0.0, **values}, **options)


@dataclass(kw_only=True)
class _Asked(SubsetUtility):
    """A utility given by its values."""

    values: Mapping[Subset, float] = field(default_factory=dict)

    keeps_order = True

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        # One that was not asked about has no weight.
        values = [self.values.get(_members(present), 0.0) for present in mask.tolist()]
        return torch.tensor(values, dtype=torch.float64)


def _members(present: Sequence[bool]) -> Subset:
    return tuple(k for k, there in enumerate(present) if there)


def _distinct(subsets: Iterable[Subset]) -> list[Subset]:
    """Return each subset once, by size, without the empty one."""
    return sorted({*subsets} - {()}, key=lambda subset: (len(subset), subset))
