"""best_of_k against the formulas of pass@k and max@k training, written in plain loops.

PKPO is Walder and Karkhanis (arXiv 2505.15201), max@k Bagirov et al. (arXiv 2510.23393).
"""

import itertools
import math
import random
from statistics import fmean

import pytest
import torch

from shape_grpo.credit import BestOfK, LeaveOneOut, allocate, make_allocator, set_utility

SIZES = [(n, k) for n in (1, 2, 5, 8) for k in range(1, n + 1)]
every_size = pytest.mark.parametrize(("n", "k"), SIZES)


def drawn(n, k, values):
    rng = random.Random(100 * n + k)
    return [values(rng) for _ in range(n)]


def shares(rewards, k):
    return allocate([rewards], allocator=BestOfK(k), utility="max")[0].tolist()


def pkpo_weights(rewards, k):
    """s_i of PKPO: over all sets of k that hold i, the sum of the best, by the binomial
    coefficients of the sorted rewards, over the number of sets."""
    n = len(rewards)
    order = sorted(range(n), key=rewards.__getitem__)
    weights = [0.0] * n
    for i, row in enumerate(order, start=1):
        total = math.comb(i - 1, k - 1) * rewards[row]
        for j in range(i + 1, n + 1):
            total += (math.comb(j - 2, k - 2) if k > 1 else 0) * rewards[order[j - 1]]
        weights[row] = total / math.comb(n, k)
    return weights


def max_at(rewards, k):
    """The unbiased estimate of max@k, by the binomial coefficients of the sorted rewards."""
    total = sum(math.comb(j, k - 1) * reward for j, reward in enumerate(sorted(rewards)))
    return total / math.comb(len(rewards), k)


@every_size
@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_pkpos_leave_one_out_minus_one_times_the_number_over_k(n, k, sign):
    """s^(loo-1)_i = s_i less k / n times max@(k - 1) of the others."""
    rewards = drawn(n, k, lambda rng: sign * rng.choice([0.0, 0.5, 1.0, rng.random()]))
    weights = pkpo_weights(rewards, k)
    for i, share in enumerate(shares(rewards, k)):
        others = rewards[:i] + rewards[i + 1 :]
        baseline = k / n * max_at(others, k - 1) if k > 1 else 0.0
        assert share * k / n == pytest.approx(weights[i] - baseline, abs=1e-6)


@every_size
def test_without_its_baseline_it_is_the_gradient_weight_of_max_at_k(n, k):
    """The mean over all sets of k of the best, if i is among them: by listing them."""
    rewards = drawn(n, k, lambda rng: rng.uniform(-1, 1))
    sets = list(itertools.combinations(range(n), k))
    for i, share in enumerate(shares(rewards, k)):
        weight = sum(max(rewards[j] for j in each) for each in sets if i in each) / len(sets)
        others = rewards[:i] + rewards[i + 1 :]
        fewer = [max(each) for each in itertools.combinations(others, k - 1)] if k > 1 else [0.0]
        assert k / n * (share + fmean(fewer)) == pytest.approx(weight, abs=1e-6)
        assert pkpo_weights(rewards, k)[i] == pytest.approx(weight)


@every_size
def test_pass_or_fail(n, k):
    """Who passes is paid the chance that k - 1 of the others all fail; who fails nothing."""
    for passed in range(n + 1):
        rewards = [1.0] * passed + [0.0] * (n - passed)
        chance = math.comb(n - passed, k - 1) / math.comb(n - 1, k - 1)
        assert shares(rewards, k) == pytest.approx([r * chance for r in rewards], abs=1e-6)
        # PKPO's weights for 0/1 rewards: k / n, or that times pass@(k - 1) of the others.
        for reward, weight in zip(rewards, pkpo_weights(rewards, k), strict=True):
            fail = 0 if reward else math.comb(n - 1 - passed, k - 1) / math.comb(n - 1, k - 1)
            assert weight == pytest.approx(k / n * (1 - fail))


@every_size
def test_shares_sum_to_what_the_last_of_k_draws_adds(n, k):
    rewards = drawn(n, k, lambda rng: rng.uniform(-1, 1))
    gain = max_at(rewards, k) - (max_at(rewards, k - 1) if k > 1 else 0)
    assert fmean(shares(rewards, k)) == pytest.approx(gain, abs=1e-6)


def test_a_set_smaller_than_k_is_looked_at_as_a_whole():
    rewards = [[5.0, 4.0, 3.0, 1.0], [4.0, 2.0, 9.0, 9.0], [7.0, 9.0, 9.0, 9.0]]
    mask = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    found = allocate(rewards, mask, allocator=BestOfK(3))
    assert found.tolist() == [pytest.approx(row) for row in
        ([4 / 3, 1 / 3, 0, 0], [2, 0, 0, 0], [7, 0, 0, 0])]  # fmt: skip
    huge = allocate(rewards, mask, allocator=BestOfK(10**9))
    torch.testing.assert_close(huge, allocate(rewards, mask, allocator=LeaveOneOut()))
    assert set_utility(rewards, mask).tolist() == [5, 4, 7]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2", None])
def test_k_is_a_whole_number_above_0(k):
    with pytest.raises(ValueError, match=r"best_of_k.*k.* whole number above 0"):
        make_allocator("best_of_k", k=k)
