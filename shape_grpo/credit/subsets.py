"""Semivalues of any set utility, from its values on subsets of the candidates."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from shape_grpo.credit.semivalues import LeaveOneOut, Semivalue

Value = Callable[[Tensor, Tensor], Tensor]
"""``(rewards, mask) -> U`` of each row, as `shape_grpo.credit.Utility.value`."""

ELEMENTS_AT_ONCE = 2**22
"""Rewards of subsets that one call of a utility is given; bounds the memory."""


def subset_semivalue(
    value: Value,
    rewards: Tensor,
    mask: Tensor,
    law: Semivalue,
    *,
    exact_up_to: int = 12,
    samples: int = 512,
    seed: int = 0,
    keep_order: bool = False,
) -> Tensor:
    """Semivalues (N, K), float64; a row's do not depend on the other rows.

    Rows of up to ``exact_up_to`` candidates: exact, from all 2^K subsets. Leave-one-out: exact,
    from K + 1 subsets. Others: `sample_semivalue`.

    With ``keep_order``, and for vectors, candidates are told apart by their columns, not by their
    rewards.
    """
    result = rewards.new_zeros(mask.shape, dtype=torch.float64)
    counts = mask.sum(dim=1)
    # Best first, so that the columns do not matter, not even to the rounding or the drawn orders.
    by_column = keep_order or rewards.dim() > 2
    ranked = mask.double() if by_column else rewards.masked_fill(~mask, -math.inf)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    for count in counts[counts > 0].unique().tolist():
        rows = (counts == count).nonzero()
        columns = order[rows.squeeze(1), :count]
        candidates = rewards[rows, columns].double()
        if isinstance(law, LeaveOneOut):
            found = _leave_one_out(value, candidates)
        elif count <= exact_up_to:
            found = _all_subsets(value, candidates, law)
        else:
            found, _ = sample_semivalue(value, candidates, law, samples=samples, seed=seed)
            found = found if keep_order else _mean_over_ties(found, candidates)
        result[rows, columns] = found
    return result


def sample_semivalue(
    value: Value, rewards: Tensor, law: Semivalue, *, samples: int = 512, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Semivalues estimated from random orders of arrival, and their standard errors.

    Each order is followed by its reverse (antithetic sampling: Mitchell et al., 2022, JMLR 23), and
    a pair is one draw of the standard error. A gain made after s others have come counts with K
    times the law's probability of s: once, for the Shapley value, whose estimates therefore sum to
    U exactly.

    Args:
        value: The utility.
        rewards: (N, K), or (N, K, M) vectors, all of them candidates.
        law: Which semivalue.
        samples: Number of orders, 4 or more.
        seed: Seed of the orders, which are the same for all rows.

    Returns:
        ``(estimate, standard_error)``, each (N, K) float64.
    """
    k, pairs, device = rewards.shape[1], samples // 2, rewards.device
    arrival = draw_arrivals(k, samples, seed).to(device)
    present = present_after(arrival)
    weights = law.sizes(k).to(device) * k

    def draws(rewards: Tensor) -> Tensor:
        values = _values(value, rewards, present.flatten(0, 1))
        gains = values.view(-1, 2 * pairs, k + 1).diff(dim=2) * weights
        by_candidate = gains.gather(2, arrival.expand(len(rewards), -1, -1))
        return by_candidate.view(-1, pairs, 2, k).mean(dim=2)

    by_pair = _in_chunks(draws, rewards, subsets=2 * pairs * (k + 1))
    return by_pair.mean(dim=1), by_pair.std(dim=1) / math.sqrt(pairs)


def draw_arrivals(count: int, samples: int, seed: int) -> Tensor:
    """Return (samples, count) int64: the place of each candidate in random orders of arrival, each
    order followed by its reverse.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(samples // 2, count, generator=generator).argsort(dim=1)
    return torch.stack([orders, count - 1 - orders], dim=1).flatten(0, 1)


def present_after(arrival: Tensor) -> Tensor:
    """Return (samples, K + 1, K) bool: who is there after 0, 1, ..., K arrivals."""
    places = torch.arange(arrival.shape[1] + 1, device=arrival.device)
    return arrival.unsqueeze(1) < places.unsqueeze(1)


def all_subsets(count: int) -> Tensor:
    """Return (2^count, count) bool: every subset, the empty one first."""
    numbers = torch.arange(2**count).unsqueeze(1)
    return (numbers >> torch.arange(count)) & 1 == 1


def _all_subsets(value: Value, rewards: Tensor, law: Semivalue) -> Tensor:
    """Sum over the subsets S without k of P(S) (U(S + k) - U(S)), as a product of matrices."""
    k, device = rewards.shape[1], rewards.device
    present = all_subsets(k).to(device)
    subsets_of_size = torch.tensor([math.comb(k - 1, s) for s in range(k)])
    chance = torch.nn.functional.pad(law.sizes(k) / subsets_of_size, (1, 1)).to(device)
    size = present.sum(dim=1, keepdim=True)
    factors = torch.where(present, chance[size], -chance[size + 1])
    return _in_chunks(
        lambda rewards: _values(value, rewards, present).view(-1, 2**k) @ factors, rewards, 2**k
    )


def _leave_one_out(value: Value, rewards: Tensor) -> Tensor:
    k = rewards.shape[1]
    present = torch.ones(k + 1, k, dtype=torch.bool, device=rewards.device)
    present[1:].fill_diagonal_(False)

    def differences(rewards: Tensor) -> Tensor:
        values = _values(value, rewards, present).view(-1, k + 1)
        return values[:, :1] - values[:, 1:]

    return _in_chunks(differences, rewards, subsets=k + 1)


def _values(value: Value, rewards: Tensor, present: Tensor) -> Tensor:
    """U (N * C,) of the C subsets ``present`` (C, K) of each row."""
    mask = present.repeat(len(rewards), 1)
    repeated = rewards.repeat_interleave(len(present), dim=0)
    absent = ~mask if rewards.dim() == 2 else ~mask.unsqueeze(2)
    return value(repeated.masked_fill_(absent, 0.0), mask).double()


def _in_chunks(method: Callable[[Tensor], Tensor], rewards: Tensor, subsets: int) -> Tensor:
    rows = max(ELEMENTS_AT_ONCE // (subsets * rewards[0].numel()), 1)
    return torch.cat([method(chunk) for chunk in rewards.split(rows)])


def _mean_over_ties(values: Tensor, rewards: Tensor) -> Tensor:
    """Equal rewards, equal values, which no finite number of draws would give."""
    equal = rewards.unsqueeze(1) == rewards.unsqueeze(2)
    equal = (equal if rewards.dim() == 2 else equal.all(dim=3)).to(values.dtype)
    return (equal @ values.unsqueeze(2)).squeeze(2) / equal.sum(dim=2)
