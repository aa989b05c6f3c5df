"""All advantage formulas: by hand, their guards, and what they have in common."""

import numpy as np
import pytest
import torch

from shape_grpo.advantage import ADVANTAGES, register_advantage
from shape_grpo.credit import UTILITIES, make_utility
from tests.advantage.methods import candidate_advantages
from tests.advantage.random_batch import random_batch

OPTIONS = {
    "top_m": {"m": 2},
    "owa": {"weights": [0.6, 0.3, 0.1]},
    "softmax": {"temperature": 1.0},
    "custom": {"function": lambda rewards, mask: rewards.abs().sum(1)},
}
NUMBERS = [name for name, kind in sorted(UTILITIES.items()) if not kind.takes_vectors]
EVERY_FORMULA = sorted(ADVANTAGES)
EFFICIENT = ["shapley", "banzhaf", "uniform", "winner_takes_all"]
ALLOCATOR_OPTIONS = {
    "beta_shapley": {"alpha": 3, "beta": 1},
    "attention": {"looks": [0.3, 0, 0.5, 0, 0, 0.2]},
}
EVERY_ALLOCATOR = [*EFFICIENT, "leave_one_out", *ALLOCATOR_OPTIONS]


def utility(name):
    return make_utility(name, **OPTIONS.get(name, {}))


def probabilities(seed, **options):
    """A random batch whose rewards any utility of numbers takes."""
    rewards, *rest = random_batch(seed, **options)
    return (rewards.sigmoid(), *rest)


def advantages(sets, index=None, **options):
    """Of sets given as lists; candidates of one token each."""
    width = max(len(rewards) for rewards in sets)
    padded = [rewards + [0] * (width - len(rewards)) for rewards in sets]
    mask = [[k < len(rewards) for k in range(width)] for rewards in sets]
    candidate, shared = candidate_advantages(
        torch.tensor(padded, dtype=torch.float64),
        mask,
        torch.ones(len(sets), width),
        index or ["q"] * len(sets),
        **options,
    )
    return [
        row[: len(rewards)] for row, rewards in zip(candidate.tolist(), sets, strict=True)
    ], shared.tolist()


# Two responses of utilities 5 and 3: mean 4, standard deviation sqrt(2). Shares 2.5, 1.5, 1 and
# 2, 1, so weights 1.5, 0.9, 0.6 and 4/3, 2/3. Pool of shares: mean 1.6, variance 1.7 / 4. Less the
# lowest reward, 2, the shares of the first are 11/6, 5/6, 1/3, on average 1.
BY_HAND = {
    "reweight": [[1.5, 0.9, 0.6], [-4 / 3, -2 / 3]],
    "reweight_positive": [[1.5, 0.9, 0.6], [-1, -1]],
    "normalize": [[7.5 - 4, 4.5 - 4, 3.0 - 4], [4.0 - 4, 2.0 - 4]],
    "pooled": [[0.9, -0.1, -0.6], [0.4, -0.6]],
    "praise": [[11 / 6, 5 / 6, 1 / 3], [-1, -1]],
}


@pytest.mark.parametrize("formula", BY_HAND)
@pytest.mark.parametrize("norm_by_std", [True, False])
def test_by_hand(formula, norm_by_std):
    candidate, shared = advantages(
        [[5, 4, 3], [3, 2]], advantage=formula, norm_by_std=norm_by_std, epsilon=1e-300
    )
    of_sets, of_pool = (2**0.5, (1.7 / 4) ** 0.5) if norm_by_std else (1, 1)
    scale = of_pool if formula == "pooled" else of_sets
    for found, expected in zip(candidate, BY_HAND[formula], strict=True):
        assert found == pytest.approx([value / scale for value in expected])
    assert shared == pytest.approx([1 / of_sets, -1 / of_sets])


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("formula", EVERY_FORMULA)
@pytest.mark.parametrize("allocator", EVERY_ALLOCATOR)
@pytest.mark.parametrize("length_correction", [True, False])
def test_one_candidate_is_grpo(name, formula, allocator, length_correction):
    """A group of one response among them; verl's own GRPO is held against the shared tokens in
    test_candidate_advantages."""
    rewards, mask, lengths, index, *_ = probabilities(0, columns=1, empty_rows=False)
    candidate, shared = candidate_advantages(
        rewards,
        mask,
        lengths,
        index,
        utility=utility(name),
        allocator=allocator,
        allocator_options=ALLOCATOR_OPTIONS.get(allocator),
        advantage=formula,
        length_correction=length_correction,
    )
    torch.testing.assert_close(candidate[:, 0], shared, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("formula", EVERY_FORMULA)
def test_uniform_is_grpo(name, formula):
    rewards, mask, lengths, index, *_ = probabilities(1)
    candidate, shared = candidate_advantages(
        rewards, mask, lengths, index, utility=utility(name), allocator="uniform", advantage=formula
    )
    assert torch.equal(candidate, shared.unsqueeze(1) * mask)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("formula", EVERY_FORMULA)
@pytest.mark.parametrize("allocator", EVERY_ALLOCATOR)
def test_equal_lengths_need_no_correction(name, formula, allocator):
    rewards, mask, lengths, index, *_ = probabilities(2, equal_lengths=True)
    corrected, plain = (
        candidate_advantages(
            rewards,
            mask,
            lengths,
            index,
            utility=utility(name),
            allocator=allocator,
            allocator_options=ALLOCATOR_OPTIONS.get(allocator),
            advantage=formula,
            length_correction=correct,
        )[0]
        for correct in (True, False)
    )
    torch.testing.assert_close(corrected, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("formula", ["reweight", "normalize"])
@pytest.mark.parametrize("allocator", EFFICIENT)
@pytest.mark.parametrize("norm_by_std", [True, False])
def test_corrected_token_mean_is_grpo(name, formula, allocator, norm_by_std):
    """At any lengths; under the max with rewards of either sign."""
    rewards, mask, lengths, index, *_ = (random_batch if name == "max" else probabilities)(3)
    candidate, shared = candidate_advantages(
        rewards,
        mask,
        lengths,
        index,
        utility=utility(name),
        allocator=allocator,
        advantage=formula,
        length_correction=True,
        norm_by_std=norm_by_std,
    )
    some = mask.any(dim=1)
    mean = (lengths * candidate).sum(dim=1)[some] / lengths.sum(dim=1)[some]
    torch.testing.assert_close(mean, shared[some], rtol=1e-8, atol=1e-8)


def test_corrected_shares_of_the_pool_are_paid_by_the_token():
    """Shares 3 and 1 on 1 and 3 tokens: those of candidates of 2 tokens paid as much a token."""
    candidate, _ = candidate_advantages(
        [[4.0, 2.0], [4.0, 2.0]],
        None,
        [[1, 3], [2, 2]],
        ["q", "q"],
        advantage="pooled",
        length_correction=True,
        norm_by_std=False,
    )
    pool = [6.0, 2 / 3, 3.0, 1.0]
    expected = [share - sum(pool) / 4 for share in pool]
    assert candidate.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("formula", EVERY_FORMULA)
@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("length_correction", [True, False])
@pytest.mark.parametrize(
    ("sets", "why"),
    [
        ([[2.0, 2.0], [2.0, 2.0]], "all alike"),
        ([[0.0, 0.0], [0.0]], "all zero"),
        ([[], []], "no candidate at all"),
    ],
)
def test_groups_that_teach_nothing(formula, norm_by_std, length_correction, sets, why):
    candidate, shared = advantages(
        sets, advantage=formula, norm_by_std=norm_by_std, length_correction=length_correction
    )
    assert not any(value for row in candidate for value in row), why
    assert shared == [0, 0]


@pytest.mark.parametrize("formula", ["reweight", "reweight_positive", "normalize"])
def test_sets_that_tie_teach_nothing_though_their_candidates_differ(formula):
    """Where normalize alone would divide (w - 1) * R, which is not zero, by epsilon."""
    candidate, _ = advantages([[3.5, 1.0]] * 3 + [[0.0, 3.5]] * 4, advantage=formula)
    assert not any(value for row in candidate for value in row)


def test_pooled_compares_candidates_even_where_sets_tie():
    (first, second), shared = advantages([[4.0, 0.0], [4.0, 4.0]], advantage="pooled")
    assert shared == [0, 0]
    assert first[0] > second[0] == second[1] == 0 > first[1]


@pytest.mark.parametrize("formula", EVERY_FORMULA)
def test_a_response_without_candidates_beside_one_with(formula):
    candidate, shared = advantages([[4.0, 2.0], []], advantage=formula)
    assert shared == pytest.approx([0.5**0.5, -(0.5**0.5)], abs=1e-5)
    assert np.isfinite(candidate[0]).all() and candidate[0][0] > candidate[0][1]


@pytest.mark.parametrize("formula", EVERY_FORMULA)
def test_one_response_in_its_group(formula):
    """verl's rule gives it mean 0 and standard deviation 1; its candidates are still ranked."""
    (candidate,), shared = advantages([[5.0, 4.0, 3.0]], advantage=formula, norm_by_std=False)
    assert shared == [5]
    expected = {
        "pooled": [2.5 - 5 / 3, 1.5 - 5 / 3, 1 - 5 / 3],
        "contrast": [5 + 2.5 - 5 / 3, 5 + 1.5 - 5 / 3, 5 + 1 - 5 / 3],
        # Shares of 2, 1, 0: 1.5, 0.5, 0.
        "praise": [5 * 1.5 * 1.5, 5 * 0.5 * 1.5, 0],
    }
    assert candidate == pytest.approx(expected.get(formula, [7.5, 4.5, 3.0]))


def test_pool_of_one_candidate_in_a_larger_group_has_nothing_to_be_compared_with():
    (first, second), _ = advantages([[5.0], []], advantage="pooled")
    assert (first, second) == ([0.0], [])


@pytest.mark.parametrize("formula", EVERY_FORMULA)
def test_a_better_candidate_of_negative_rewards_is_never_paid_less_in_a_good_response(formula):
    (good, _), shared = advantages([[-1.0, -3.0], [-4.0, -5.0]], advantage=formula)
    assert shared[0] > 0
    assert good[0] > good[1]


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_where_candidates_pass_or_fail_praise_and_the_papers_reading_are_one(beta):
    """Under max all who pass get the same share, and a set in which nobody does is below average:
    only leave-one-out, which gives nothing where two pass, is another method then."""
    passed, mask, lengths, index, *_ = random_batch(3, groups=16, values=[0.0, 0.0, 1.0])
    every = [
        candidate_advantages(passed, mask, lengths, index, advantage=formula, **how)
        for formula, how in (
            ("reweight", {}),
            ("reweight", {"allocator": "winner_takes_all"}),
            ("reweight", {"allocator": "banzhaf"}),
            ("reweight_positive", {}),
            ("praise", {}),
            (
                "praise",
                {
                    "allocator": "beta_shapley",
                    "allocator_options": {"alpha": 3.0, "beta": beta},
                },
            ),
        )
    ]
    credit, shared = every[0]
    assert (credit - shared.unsqueeze(1)).abs()[mask].max() > 0.5
    for other in every[1:]:
        torch.testing.assert_close(other, every[0])
    for formula, how in (("contrast", {}), ("reweight", {"allocator": "leave_one_out"})):
        other, _ = candidate_advantages(passed, mask, lengths, index, advantage=formula, **how)
        assert (other - credit).abs().max() > 0.1


def test_vectors_of_tests():
    """Shares 1.5, 0.5 of 2 tests and 1 of 1: weights 1.5, 0.5."""
    candidate, shared = candidate_advantages(
        torch.tensor([[[1, 1], [1, 0]], [[0, 1], [0, 0]]]),
        [[1, 1], [1, 0]],
        torch.ones(2, 2),
        ["q", "q"],
        utility="coverage",
        norm_by_std=False,
    )
    assert shared.tolist() == [0.5, -0.5]
    assert candidate.tolist() == [[0.75, 0.25], [-0.5, 0.0]]


def test_a_custom_advantage():
    name = "halved, for a test"
    try:

        @register_advantage(name)
        def halved(credit):
            return credit.split.weights * credit.advantages.unsqueeze(1) / 2

        half, _ = advantages([[5, 4, 3], [3, 2]], advantage=name)
        whole, _ = advantages([[5, 4, 3], [3, 2]])
        assert half[0] == pytest.approx([value / 2 for value in whole[0]])
    finally:
        ADVANTAGES.pop(name)
