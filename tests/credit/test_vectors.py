"""Utilities of vectors: ragged sets of any size, projections, and custom utilities."""

import itertools
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shape_grpo.credit import (
    Attention,
    Banzhaf,
    BestPerComponent,
    BetaShapley,
    Coverage,
    LeaveOneOut,
    Shapley,
    SubsetUtility,
    Utility,
    allocate,
    check_rewards,
    make_utility,
    set_utility,
    times_best,
)
from shape_grpo.credit.vectors import FEW, comparators, sort_columns
from tests.credit import oracles

steady = settings(deadline=None, derandomize=True, max_examples=60)
LOOKS = [0.3, 0, 0.2, 0.5]
LAWS = {
    "shapley": (Shapley(), lambda n: [1 / n] * n),
    "banzhaf": (Banzhaf(), lambda n: oracles.stats.binom.pmf(range(n), n - 1, 0.5).tolist()),
    "leave one out": (LeaveOneOut(), lambda n: [0] * (n - 1) + [1]),
    "beta 3, 1": (BetaShapley(3, 1), oracles.beta_binomial(3, 1)),
    "beta 0.5, 2": (BetaShapley(0.5, 2), oracles.beta_binomial(0.5, 2)),
    "attention": (Attention(LOOKS), oracles.seen(LOOKS)),
}
numbers = st.one_of(st.sampled_from([0.0, 0.25, 1.0]), st.floats(0, 50, allow_subnormal=False))
vectors = st.lists(numbers, min_size=3, max_size=3)
sets = st.lists(vectors, min_size=1, max_size=6)


class OwnSubsets(SubsetUtility):
    """Defines its value and no more; harmed by candidates that are bad at the second component."""

    takes_vectors = True

    def value(self, rewards, mask):
        best = rewards[:, :, 0].amax(1)
        return best * best - rewards[:, :, 1:].sum((1, 2)) / 7


def own_value(rewards):
    best = max([0.0, *(vector[0] for vector in rewards)])
    return best * best - sum(sum(vector[1:]) for vector in rewards) / 7


def ragged_sets(seed):
    """Sets of 0 to 8 candidates in any columns of 8, of vectors of 0 to 4 numbers."""
    generator = np.random.default_rng(seed)
    for count in range(9):
        values = [0.0, 0.5, 2.0, *generator.uniform(0, 5, 4)]
        yield [
            generator.choice(values, size=generator.integers(0, 5)).tolist() for _ in range(count)
        ]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("utility", "value"),
    [
        (BestPerComponent(), oracles.best_of_each([1] * 4)),
        (BestPerComponent([0.5, 0, 3, 1]), oracles.best_of_each([0.5, 0, 3, 1])),
        (OwnSubsets(), own_value),
    ],
    ids=["best per component", "weighted", "own"],
)
def test_ragged_sets_of_0_to_8_by_all_their_subsets(utility, value, law):
    semivalue, chances = LAWS[law]
    generator, players = np.random.default_rng(5), list(ragged_sets(seed=2))
    rewards, mask = np.full((9, 8, 4), np.nan), np.zeros((9, 8), dtype=bool)
    for row, of_set in enumerate(players):
        for column, vector in zip(generator.permutation(8), of_set, strict=False):
            rewards[row, column] = [*vector, *[0.0] * (4 - len(vector))]
            mask[row, column] = True
    found = allocate(rewards, mask, utility=utility, allocator=semivalue)
    for row in range(9):
        of_set = rewards[row, mask[row]].tolist()
        expected = oracles.by_sizes(chances)(value, of_set) if of_set else []
        if isinstance(semivalue, Banzhaf) and sum(expected):
            total = sum(expected)
            whole = oracles.worth(value, of_set)
            expected = [share * whole / total for share in expected]
        assert found[row, mask[row]].tolist() == pytest.approx(expected, abs=1e-11)
        assert found[row, ~mask[row]].eq(0).all()


@pytest.mark.parametrize("law", [law for law, _ in LAWS.values()], ids=LAWS)
@pytest.mark.parametrize("count", [FEW, FEW + 1, 40, 1500])
def test_many_candidates_are_a_max_per_component(count, law):
    generator = torch.Generator().manual_seed(count)
    rewards = torch.rand(2, count, 3, generator=generator, dtype=torch.float64)
    rewards[0, : count // 2] = rewards[0, count // 2 : count // 2 * 2]
    if isinstance(law, Banzhaf):
        law = LeaveOneOut()  # Scaled to sum to U, it is no sum over components.
    expected = sum(
        weight * allocate(rewards[:, :, component], allocator=law)
        for component, weight in enumerate([2.0, 0.5, 1.0])
    )
    utility = BestPerComponent([2.0, 0.5, 1.0])
    found = allocate(rewards, utility=utility, allocator=law)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("law", LAWS)
@steady
@given(of_set=st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3), min_size=1))
def test_of_zeros_and_ones_it_is_coverage(law, of_set):
    semivalue, options = LAWS[law][0], {"weights": [1, 2, 0.5]}
    found, expected = (
        allocate([of_set], utility=make_utility(name, **options), allocator=semivalue)
        for name in ("best_per_component", "coverage")
    )
    torch.testing.assert_close(found, expected)
    assert isinstance(make_utility("coverage"), Coverage)


@steady
@given(of_set=sets, which=st.integers(0, 5), component=st.integers(0, 2), more=st.floats(0.1, 9))
def test_a_better_component_earns_its_candidate_no_less(of_set, which, component, more):
    better = [list(vector) for vector in of_set]
    better[which % len(of_set)][component] += more
    before, after = (
        allocate(torch.tensor([each], dtype=torch.float64), utility="best_per_component")[0]
        for each in (of_set, better)
    )
    assert after[which % len(of_set)] >= before[which % len(of_set)] - 1e-12
    others = [k for k in range(len(of_set)) if k != which % len(of_set)]
    assert (after[others] <= before[others] + 1e-12).all()


@steady
@given(sets, vectors)
def test_a_constant_vector_more_is_shared_equally(of_set, constant):
    rewards = torch.tensor([of_set], dtype=torch.float64)
    more = torch.tensor(constant, dtype=torch.float64)
    before, after = (
        allocate(each, utility="best_per_component") for each in (rewards, rewards + more)
    )
    torch.testing.assert_close(after, before + more.sum() / len(of_set), rtol=1e-9, atol=1e-9)


@steady
@given(sets)
def test_equals_have_equal_shares_to_the_bit_and_the_dominated_none_of_leave_one_out(of_set):
    rewards = torch.tensor([[*of_set, of_set[0]]], dtype=torch.float64)
    assert len(set(allocate(rewards, utility="best_per_component")[0][[0, -1]].tolist())) == 1
    shares = allocate(rewards, utility="best_per_component", allocator="leave_one_out")
    assert shares[0, [0, -1]].tolist() == [0, 0]


@pytest.mark.parametrize("count", range(1, FEW + 1))
def test_the_network_sorts_zeros_and_ones_and_so_all_numbers(count):
    columns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=count))).T
    rows = sort_columns(columns)
    assert all(torch.equal(*pair) for pair in zip(rows, columns.sort(0).values, strict=True))
    assert all(low < high for low, high in comparators(count))


# Weightings.


@pytest.mark.parametrize(
    "options", [{}, {"number": 3, "concentration": 0.1}, {"corners": True}], ids=str
)
def test_weightings_by_their_definition(options):
    """The mean over weight vectors of the best weighted sum, by plain loops."""
    utility = make_utility("weightings", components=3, **options)
    of_set = [[3.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 2.5, 0.5], [0.2, 0.2, 0.2]]
    weights = utility.weights("a prompt").tolist()
    assert all(sum(w) == pytest.approx(1) and min(w) >= 0 for w in weights)

    def value(vectors):
        return fmean(
            max(sum(a * b for a, b in zip(w, vector, strict=True)) for vector in vectors)
            for w in weights
        )

    projected = utility.project(of_set, "a prompt").unsqueeze(0)
    assert projected.shape == (1, 4, len(weights))
    assert set_utility(projected, utility=utility).item() == pytest.approx(value(of_set))
    for law, chances in LAWS.values():
        if isinstance(law, Banzhaf):
            continue
        expected = oracles.by_sizes(chances)(value, of_set)
        found = allocate(projected, utility=utility, allocator=law)[0].tolist()
        assert found == pytest.approx(expected, abs=1e-12)


def test_a_draw_is_of_its_name_alone():
    one, same = (make_utility("weightings", components=4) for _ in range(2))
    assert torch.equal(one.weights("7"), same.weights(7))
    assert not torch.equal(one.weights("7"), one.weights("8"))
    corners = make_utility("weightings", components=4, corners=True)
    assert corners.weights("7").tolist() == torch.eye(4).tolist()


@pytest.mark.parametrize(("concentration", "spread"), [(0.05, 0.4), (1.0, 0.19), (500.0, 0.01)])
def test_weights_spread_less_the_higher_the_concentration(concentration, spread):
    """The standard deviation of a Dirichlet weight, sqrt((1/M)(1 - 1/M) / (M a + 1))."""
    utility = make_utility("weightings", components=4, number=20_000, concentration=concentration)
    weights = utility.weights(0)
    expected = (3 / 16 / (4 * concentration + 1)) ** 0.5
    assert weights.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    assert weights.std(0).tolist() == pytest.approx([expected] * 4, rel=0.05)
    assert expected == pytest.approx(spread, abs=0.01)


@pytest.mark.parametrize(
    "vector",
    [
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        [],
        [1.0, -0.1, 0.0],
        [1.0, float("nan"), 0.0],
        [1.0, float("inf"), 0.0],
    ],
)
def test_vectors_that_are_not_projected(vector):
    utility = make_utility("weightings", components=3)
    with pytest.raises(ValueError, match="components=3 takes vectors of 3 finite numbers of 0 and"):
        utility.project(vector, 0)


# Custom utilities.


def test_an_own_utility_ranks_by_the_utility_alone_and_says_what_it_takes():
    utility = OwnSubsets()
    rewards = torch.tensor([[[2.0, 0.0], [3.0, 7.0], [0.0, 0.0]]])
    assert utility.ranking(rewards).tolist() == [[4.0, 8.0, 0.0]]
    assert utility.ranking(torch.zeros(2, 0, 3)).shape == (2, 0)
    assert utility.domain == "vectors of finite numbers"
    assert Utility.domain == "finite numbers"
    won = allocate(rewards, utility=utility, allocator="winner_takes_all")
    assert won.tolist() == [[0.0, 8.0, 0.0]]
    with pytest.raises(ValueError, match="allowed are vectors of finite numbers"):
        check_rewards([[[1.0, float("nan")]]], utility=utility)


def test_an_own_utility_is_shown_candidates_in_their_order():
    """A column beside the rewards, such as a text, stays with its candidate."""
    seen = []

    class Order(OwnSubsets):
        def value(self, rewards, mask):
            seen.append(rewards[mask.all(1), :, 0].tolist())
            return super().value(rewards, mask)

    rewards = [[[1.0], [9.0], [5.0], [7.0]]]
    allocate(rewards, [[1, 0, 1, 1]], utility=Order())
    assert seen == [[[1.0, 5.0, 7.0]]]


def test_equal_vectors_of_a_large_set_have_equal_shares():
    rewards = torch.rand(1, 15, 2, generator=torch.Generator().manual_seed(0))
    rewards[0, 4] = rewards[0, 11]
    shares = allocate(rewards, utility=OwnSubsets(samples=64))[0]
    assert shares[4] == shares[11]
    assert len(set(shares.tolist())) == 14


def test_who_is_best_for_how_many_components():
    rewards = torch.tensor([[[1.0, 2.0, 0.0], [1.0, 3.0, 0.0]], [[0.0] * 3, [0.0, 0.0, 1.0]]])
    assert times_best(rewards).tolist() == [[1, 2], [0, 1]]
