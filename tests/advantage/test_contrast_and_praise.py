"""The advantages ``contrast`` and ``praise``: by their formulas, and their invariants on random
groups."""

from statistics import stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shape_grpo.credit import (
    ALLOCATORS,
    UTILITIES,
    allocate,
    make_allocator,
    make_utility,
    set_utility,
)
from tests.advantage.methods import candidate_advantages

FORMULAS = ["contrast", "praise"]
OPTIONS = {
    "beta_shapley": {"alpha": 3, "beta": 1},
    "attention": {"looks": [0.5, 0, 0.3, 0.2]},
    "best_of_k": {"k": 2},
}
EVERY_ALLOCATOR = sorted(ALLOCATORS)
ALLOCATOR = {name: make_allocator(name, **OPTIONS.get(name, {})) for name in EVERY_ALLOCATOR}
UNSCALED = ["shapley", "leave_one_out", *OPTIONS]
UTILITY_OPTIONS = {
    "top_m": {"m": 2},
    "owa": {"weights": [1, -0.5, 0.25]},
    "softmax": {"temperature": 1.0},
    "custom": {"function": lambda rewards, mask: rewards.abs().sum(1)},
    "weightings": {"components": 2},
}
UTILITY = {
    name: make_utility(name, **UTILITY_OPTIONS.get(name, {}))
    for name, kind in UTILITIES.items()
    if not kind.takes_texts
}
UTILITY["top_m, mean"] = make_utility("top_m", m=2, average=True)
NUMBERS = sorted(name for name, utility in UTILITY.items() if not utility.takes_vectors)
# The same constant for all rewards is one for the utility.
SHIFTED = ["max", "mean", "softmax", "top_m, mean"]

every_formula = pytest.mark.parametrize("formula", FORMULAS)
every_allocator = pytest.mark.parametrize("allocator", EVERY_ALLOCATOR)
# The same examples in every run, however slow the machine.
steady = settings(deadline=None, derandomize=True, max_examples=25)

# Quarters, so that sums are exact and nothing is almost a tie.
quarters = st.integers(-20, 20).map(lambda n: n / 4)
extremes = st.sampled_from([0.0, 1.0, -1.0, 1e-12, -1e-7, 1e-6, 1e30, -1e300, 1e300])
groups = st.lists(st.lists(quarters, min_size=1, max_size=4), min_size=2, max_size=4)
sets_with_empty = st.lists(st.lists(quarters, max_size=4), min_size=1, max_size=4)


def padded(sets, fill=0.0):
    width = max(map(len, sets), default=0)
    rows = [[*of_set, *[fill] * (width - len(of_set))] for of_set in sets]
    return torch.tensor(rows, dtype=torch.float64).view(len(sets), width)


def advantages(sets, allocator="shapley", lengths=None, **options):
    """Of one group: candidates (N, K), shared (N,) and their mask."""
    rewards = padded(sets)
    mask = padded([[1] * len(of_set) for of_set in sets]).bool()
    candidate, shared = candidate_advantages(
        rewards,
        mask,
        torch.ones(mask.shape) if lengths is None else lengths,
        ["q"] * len(sets),
        allocator=allocator,
        allocator_options=OPTIONS.get(allocator),
        **options,
    )
    return candidate, shared, mask


def as_chances(sets):
    return [[(reward + 5) / 10 for reward in of_set] for of_set in sets]


def rewards_for(name, sets):
    """The same sets as rewards that the utility takes."""
    return as_chances(sets) if name == "noisy_or" else sets


def draw_lengths(data, sets, least):
    rows = [[data.draw(st.integers(least, 9)) for _ in of_set] for of_set in sets]
    return padded(rows).long()


# --- by their formulas --------------------------------------------------------------------------


@every_allocator
@pytest.mark.parametrize("length_correction", [True, False])
@pytest.mark.parametrize("norm_by_std", [True, False])
def test_contrast_by_its_formula(allocator, length_correction, norm_by_std):
    """In a group of sets of one size, by plain sums."""
    sets = [[5.0, 4.0, 3.0], [2.0, 2.0, 4.5], [1.0, 0.5, -3.0], [5.0, 5.0, 1.0]]
    lengths = [[1, 2, 3], [4, 1, 1], [2, 2, 2], [1, 7, 3]]
    found, shared, _ = advantages(
        sets,
        allocator,
        lengths,
        advantage="contrast",
        length_correction=length_correction,
        norm_by_std=norm_by_std,
    )
    psi = allocate(padded(sets), allocator=ALLOCATOR[allocator])
    spread = stdev(psi.flatten().tolist()) + 1e-6 if norm_by_std else 1
    psi = psi.tolist()
    for row in range(4):
        counted = lengths[row] if length_correction else [1, 1, 1]
        mean = sum(n * p for n, p in zip(counted, psi[row], strict=True)) / sum(counted)
        expected = [shared[row].item() + (p - mean) / spread for p in psi[row]]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-9)


def test_contrast_of_sets_of_different_size_by_hand():
    """Shares 2.5, 1.5, 1 and 2, 1; of sets of the lowest reward, 2, they are 2/3 and 1."""
    (three, two), shared, _ = advantages([[5, 4, 3], [3, 2]], advantage="contrast", epsilon=1e-300)
    spread = stdev([2.5 - 2 / 3, 1.5 - 2 / 3, 1 - 2 / 3, 2 - 1, 1 - 1])
    assert shared.tolist() == pytest.approx([2**-0.5, -(2**-0.5)])
    expected = [2**-0.5 + difference / spread for difference in (5 / 6, -1 / 6, -4 / 6)]
    assert three.tolist() == pytest.approx(expected)
    assert two[:2].tolist() == pytest.approx([-(2**-0.5) + d / spread for d in (0.5, -0.5)])


@every_allocator
@pytest.mark.parametrize("length_correction", [True, False])
def test_praise_by_its_formula(allocator, length_correction):
    sets = [[5.0, 4.0, 3.0], [2.0, 4.5], [1.0, 0.5, -3.0], [5.0, 5.0, 1.0, 0.0], []]
    lengths = torch.tensor([[1, 2, 3, 0], [4, 1, 0, 0], [2, 2, 2, 0], [1, 7, 3, 1], [0] * 4])
    found, shared, mask = advantages(
        sets, allocator, lengths, advantage="praise", length_correction=length_correction
    )
    assert [a > 0 for a in shared.tolist()] == [True, True, False, True, False]
    for row, of_set in enumerate(sets):
        if shared[row] <= 0:
            expected = [shared[row].item()] * len(of_set)
        else:
            # -3 is the lowest reward of the group.
            raised = torch.tensor([[reward + 3 for reward in of_set]]).double()
            psi = allocate(raised, allocator=ALLOCATOR[allocator])
            psi, counted = psi[0].tolist(), lengths[row, : len(of_set)].tolist()
            if not length_correction:
                counted = [1] * len(of_set)
            mean = sum(n * p for n, p in zip(counted, psi, strict=True)) / sum(counted)
            # Leave-one-out pays nobody in a set whose best two tie.
            expected = [shared[row].item() * (p / mean if mean else 1) for p in psi]
        assert found[row, mask[row]].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_candidate_that_harms_its_set_is_not_praised():
    """Mean of 4 and 0: shares 3 and -1."""
    (good, poor), shared, _ = advantages([[4, 0], [1, 1]], utility="mean", advantage="praise")
    assert good.tolist() == pytest.approx([2 * shared[0].item(), 0])
    assert poor.tolist() == shared[1:].expand(2).tolist()


def test_a_level_that_all_candidates_share_earns_no_credit():
    """Shares of ratings of 4.2, 4.0 and 3.9 differ little, so weights do; psi does not see 3.9."""
    sets = [[4.2, 4.0, 3.9], [3.9, 3.9, 4.0]]
    expected = {
        "reweight": [1.11, 0.96, 0.93],
        # Shares of 0.3, 0.1, 0: 0.25, 0.05, 0.
        "praise": [2.5, 0.5, 0.0],
    }
    for formula, weights in expected.items():
        candidate, shared, _ = advantages(sets, advantage=formula)
        assert (candidate[0] / shared[0]).tolist() == pytest.approx(weights, abs=0.005)


def test_a_poor_sets_best_candidate_is_blamed_most_by_reweight_alone():
    sets = [[5.0, 5.0], [3.0, 0.0]]
    blame = {
        formula: advantages(sets, advantage=formula)[0][1].tolist()
        for formula in ("reweight", "contrast", "praise")
    }
    assert blame["reweight"][0] < blame["reweight"][1]
    assert blame["praise"][0] == blame["praise"][1] < 0
    assert blame["contrast"][0] > blame["contrast"][1]


# --- invariants ---------------------------------------------------------------------------------


@every_formula
@every_allocator
@steady
@given(data=st.data(), name=st.sampled_from(NUMBERS))
def test_the_token_mean_is_grpos(formula, allocator, data, name):
    """Corrected at any lengths, some of them 0; plain at equal lengths. For praise in poor sets
    too, where all get the same."""
    sets = rewards_for(name, data.draw(sets_with_empty))
    for length_correction in (True, False):
        least = 0 if length_correction else 1
        lengths = draw_lengths(data, sets, least)
        if not length_correction:
            lengths = torch.full_like(lengths, 3)
        candidate, shared, mask = advantages(
            sets,
            allocator,
            lengths,
            utility=UTILITY[name],
            advantage=formula,
            length_correction=length_correction,
        )
        lengths = lengths * mask
        some = lengths.sum(dim=1) > 0
        mean = (lengths * candidate).sum(dim=1)[some] / lengths.sum(dim=1)[some]
        torch.testing.assert_close(mean, shared[some], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("formula", "allocator"),
    [
        *(("contrast", allocator) for allocator in UNSCALED),
        *(("praise", allocator) for allocator in EVERY_ALLOCATOR),
    ],
)
@steady
@given(
    sets=groups,
    name=st.sampled_from(SHIFTED),
    shift=quarters,
    factor=st.floats(0.5, 100),
    data=st.data(),
)
def test_a_constant_and_a_factor_of_all_rewards_change_nothing(
    formula, allocator, sets, name, shift, factor, data
):
    """In sets of different size, of unequal lengths; two and more, as verl's GRPO leaves the reward
    of a group of one as it is."""
    lengths = draw_lengths(data, sets, 0)
    shifted = [[reward + shift for reward in of_set] for of_set in sets]
    scaled = [[reward * factor for reward in of_set] for of_set in sets]
    warmer = make_utility("softmax", temperature=factor) if name == "softmax" else UTILITY[name]
    for length_correction in (True, False):
        before, after, larger = (
            advantages(
                some,
                allocator,
                lengths,
                utility=utility,
                advantage=formula,
                length_correction=length_correction,
            )[0]
            for some, utility in (
                (sets, UTILITY[name]),
                (shifted, UTILITY[name]),
                (scaled, warmer),
            )
        )
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(larger, before, rtol=1e-4, atol=1e-4)


@every_allocator
@steady
@given(data=st.data(), name=st.sampled_from(NUMBERS))
def test_praise_turns_no_sign(allocator, data, name):
    """Under utilities that a candidate can harm as well; and blame is even."""
    sets = rewards_for(name, data.draw(sets_with_empty))
    lengths = draw_lengths(data, sets, 0)
    candidate, shared, mask = advantages(
        sets,
        allocator,
        lengths,
        utility=UTILITY[name],
        advantage="praise",
        length_correction=data.draw(st.booleans()),
    )
    signs = candidate.sign() * shared.sign().unsqueeze(1)
    assert (signs[mask] >= 0).all()
    poor = mask & (shared <= 0).unsqueeze(1)
    assert torch.equal(candidate[poor], shared.unsqueeze(1).expand_as(candidate)[poor])


@every_formula
@every_allocator
@steady
@given(
    sets=st.lists(st.lists(extremes, max_size=4), min_size=1, max_size=4),
    name=st.sampled_from([name for name in NUMBERS if name != "noisy_or"]),
    data=st.data(),
)
def test_finite_for_every_input(formula, allocator, sets, name, data):
    lengths = draw_lengths(data, sets, 0)
    for norm_by_std in (True, False):
        candidate, shared, _ = advantages(
            sets,
            allocator,
            lengths,
            utility=UTILITY[name],
            advantage=formula,
            length_correction=data.draw(st.booleans()),
            norm_by_std=norm_by_std,
        )
        assert candidate.isfinite().all()
        assert shared.isfinite().all()


@every_formula
@every_allocator
def test_an_unknown_response_is_as_if_it_were_not_there(formula, allocator):
    sets = [[5.0, 4.0], [-50.0, 80.0], [3.0, 1.0], [2.0, 2.5]]
    options = {"advantage": formula}
    known = [0, 2, 3]
    scores = set_utility(padded(sets))
    scores[1] = torch.nan
    candidate, shared, _ = advantages(sets, allocator, scores=scores, **options)
    expected, shared_expected, _ = advantages([sets[row] for row in known], allocator, **options)
    assert not candidate[1].any() and shared[1] == 0
    torch.testing.assert_close(candidate[known], expected)
    torch.testing.assert_close(shared[known], shared_expected)


@every_formula
def test_groups_do_not_touch_each_other(formula):
    first, second = [[5.0, 4.0, 3.0], [2.0, 2.5, 0.0]], [[-9.0, 70.0, 3.0], [1.0, 0.0, 8.0]]
    together, _ = candidate_advantages(
        padded([*first, *second]), None, torch.ones(4, 3), "aabb", advantage=formula
    )
    alone = [advantages(sets, advantage=formula)[0] for sets in (first, second)]
    torch.testing.assert_close(together, torch.cat(alone))


@every_formula
def test_a_candidate_without_tokens_is_not_in_a_mean_by_tokens(formula):
    """It is still a rival; its own advantage, which no token sees, is its response's."""
    candidate, shared, _ = advantages(
        [[6.0, 4.0, 2.0], [1.0, 1.0, 1.0]],
        lengths=[[0, 5, 5], [1, 1, 1]],
        advantage=formula,
        length_correction=True,
    )
    assert candidate[0, 0] == shared[0]
    assert candidate[0, 1:].mean().item() == pytest.approx(shared[0].item())
    assert candidate[0, 1] > candidate[0, 2]


@every_formula
def test_vectors_of_tests(formula):
    """Passed by all candidates of the group, the first test earns nobody credit."""
    rewards = torch.tensor([[[1, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 0, 0]]]).double()
    candidate, shared = candidate_advantages(
        rewards, None, torch.ones(2, 2), "qq", utility="coverage", advantage=formula, epsilon=1e-300
    )
    # Shares 1.5, 0.5 and 0, 0 of the other tests.
    good = shared[0].item()
    expected = {
        "praise": [[1.5 * good, 0.5 * good], [-good, -good]],
        "contrast": [
            [good + 0.5 / stdev([1.5, 0.5, 0, 0]), good - 0.5 / stdev([1.5, 0.5, 0, 0])],
            [-good, -good],
        ],
    }
    for found, wanted in zip(candidate.tolist(), expected[formula], strict=True):
        assert found == pytest.approx(wanted)


def test_float32_rewards_are_computed_in_float64():
    """Ratings that differ in the last digits of float32, on top of a level of 4,096."""
    rewards = torch.tensor([[4096.0, 4096.0005, 4096.001], [4096.0, 4096.0, 4096.0005]])
    for formula in FORMULAS:
        found, _ = candidate_advantages(rewards, None, torch.ones(2, 3), "qq", advantage=formula)
        exact, _ = candidate_advantages(
            rewards.double(), None, torch.ones(2, 3), "qq", advantage=formula
        )
        assert found.dtype == torch.float32
        assert torch.equal(found, exact.float())
