"""Shapley values of the max game, against oracles that know nothing of the closed form."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shape_grpo.credit import set_utility, shapley_values

SETS = {
    "figure 1 of the paper": [5, 4, 3],
    "one": [2.5],
    "one, negative": [-2.5],
    "all equal": [1, 1, 1, 1],
    "tie for the best": [3, 1, 3],
    "tie for the worst": [0.5, 4, 0.5],
    "all zero": [0, 0, 0],
    "binary": [1, 0, 0, 1, 0],
    "zeros among positives": [0, 2, 0, 5],
    "all negative": [-1, -4, -2],
    "negative ties": [-3, -3, -1, -1],
    "mixed signs": [-2, 3, 0, -2, 3],
    "seven, with everything": [0.3, -1.2, 0.3, 0, 7, -1.2, 7],
}

# The same examples in every run, however slow the machine.
steady = settings(deadline=None, derandomize=True)

rewards_of_a_set = st.lists(
    st.one_of(
        st.integers(-3, 3).map(float),  # ties
        st.floats(-100, 100, allow_subnormal=False),
    ),
    min_size=1,
    max_size=7,
)


def brute_force(rewards):
    """Mean marginal contribution over all K! orders of arrival."""
    shares = [0.0] * len(rewards)
    for order in itertools.permutations(range(len(rewards))):
        present, before = [], 0.0
        for k in order:
            present.append(rewards[k])
            shares[k] += max(present) - before
            before = max(present)
    return [share / math.factorial(len(rewards)) for share in shares]


def shares_of(rewards):
    return shapley_values(torch.tensor([rewards], dtype=torch.float64))[0]


def test_figure_1():
    assert shapley_values([[5, 4, 3]]).tolist() == [[2.5, 1.5, 1.0]]


@pytest.mark.parametrize("rewards", SETS.values(), ids=SETS.keys())
def test_all_orders(rewards):
    assert shares_of(rewards).tolist() == pytest.approx(brute_force(rewards), abs=1e-12)


@settings(steady, max_examples=60)
@given(rewards_of_a_set.filter(lambda rewards: len(rewards) < 7))
def test_all_orders_of_random_sets(rewards):
    assert shares_of(rewards).tolist() == pytest.approx(brute_force(rewards), abs=1e-10)


@pytest.mark.parametrize("rewards", SETS.values(), ids=SETS.keys())
def test_shapiq(rewards):
    shapiq = pytest.importorskip("shapiq")

    def game(coalitions):
        chosen = np.where(coalitions, rewards, -np.inf).max(axis=1)
        return np.where(coalitions.any(axis=1), chosen, 0.0)

    exact = shapiq.ExactComputer(game=game, n_players=len(rewards))("SV").get_n_order_values(1)
    assert shares_of(rewards).tolist() == pytest.approx(exact.tolist(), abs=1e-10)


def test_ragged_batch_is_each_set_alone():
    """Candidates in any columns; what stands between them is never read."""
    generator = np.random.default_rng(0)
    rewards = np.full((len(SETS), 9), np.nan)
    mask = np.zeros(rewards.shape, dtype=bool)
    for row, values in enumerate(SETS.values()):
        columns = generator.permutation(9)[: len(values)]
        rewards[row, columns], mask[row, columns] = values, True
    rewards[~mask] = generator.choice([np.nan, np.inf, -np.inf, 1e30], (~mask).sum())

    shares = shapley_values(torch.tensor(rewards), torch.tensor(mask))
    for row in range(len(SETS)):
        alone = brute_force(rewards[row, mask[row]].tolist())
        assert shares[row, mask[row]].tolist() == pytest.approx(alone, abs=1e-12)
    assert shares[~mask].tolist() == [0.0] * int((~mask).sum())


@steady
@given(rewards_of_a_set)
def test_efficiency(rewards):
    assert shares_of(rewards).sum().item() == pytest.approx(max(rewards), abs=1e-10)
    assert set_utility([rewards]).item() == pytest.approx(max(rewards), rel=1e-6)


@steady
@given(rewards_of_a_set, st.data())
def test_symmetry(rewards, data):
    """Equal rewards, equal shares, to the last bit."""
    twin = data.draw(st.sampled_from(rewards))
    shares = shares_of([*rewards, twin]).tolist()
    assert shares[rewards.index(twin)] == shares[-1]


@steady
@given(rewards_of_a_set.map(lambda rewards: [abs(r) for r in rewards]))
def test_null_player(rewards):
    """Beside rewards of 0 and more, a reward of 0 adds nothing: it earns 0 and costs nobody."""
    shares = shares_of([*rewards, 0.0])
    assert shares[-1].item() == 0.0
    torch.testing.assert_close(shares[:-1], shares_of(rewards), rtol=0, atol=1e-10)


@steady
@given(rewards_of_a_set.flatmap(lambda r: st.tuples(st.just(r), st.permutations(range(len(r))))))
def test_permutation_equivariance(rewards_and_order):
    rewards, order = rewards_and_order
    assert torch.equal(shares_of([rewards[k] for k in order]), shares_of(rewards)[order])


@steady
@given(rewards_of_a_set, st.floats(1e-3, 1e3))
def test_scale_equivariance(rewards, factor):
    scaled = shares_of([factor * r for r in rewards])
    torch.testing.assert_close(scaled, factor * shares_of(rewards), rtol=1e-9, atol=1e-9)


def test_float32_loses_nothing_where_steps_cancel():
    """-2000 + 2004 and more: the float32 result is the exact one, rounded."""
    rewards = torch.rand(1, 500, generator=torch.Generator().manual_seed(0))
    rewards[0, 7] = -1e6
    shares = shapley_values(rewards)
    assert shares.dtype == torch.float32
    ranks = {k: rank for rank, k in enumerate(rewards[0].argsort(stable=True).tolist())}
    ordered = [Fraction(r) for r in rewards[0].sort().values.tolist()]
    running, exact = Fraction(0), []
    for rank, r in enumerate(ordered):
        running += (r - (ordered[rank - 1] if rank else 0)) / (500 - rank)
        exact.append(float(running))
    expected = torch.tensor([exact[ranks[k]] for k in range(500)], dtype=torch.float32)
    torch.testing.assert_close(shares[0], expected, rtol=2**-23, atol=0)
