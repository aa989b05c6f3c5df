"""Advantages of candidates, held against verl's own GRPO and against sums done by hand."""

import numpy as np
import pytest
import torch

from shape_grpo.advantage import scatter_candidate_advantages
from shape_grpo.credit import ALLOCATORS
from tests.advantage.methods import candidate_advantages
from tests.advantage.random_batch import random_batch

NAN, INF = float("nan"), float("inf")
EVERY_ALLOCATOR = sorted(ALLOCATORS)
OPTIONS = {
    "beta_shapley": {"alpha": 3, "beta": 1},
    "attention": {"looks": [0.5, 0, 0.5]},
    "best_of_k": {"k": 2},
}
EFFICIENT = ["banzhaf", "shapley", "uniform", "winner_takes_all"]


@pytest.fixture(scope="module")
def verl_grpo():
    """verl's two implementations of GRPO: scores (N,), group ids -> advantages (N,)."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")

    def grpo(scores, index, norm_by_std=True):
        token_level_rewards = torch.stack([torch.zeros_like(scores), scores], dim=1)
        arguments = {"response_mask": torch.ones(len(scores), 2), "index": index}
        arguments["norm_adv_by_std_in_grpo"] = norm_by_std
        looped, vectorized = (
            compute(token_level_rewards, **arguments)[0][:, 0]
            for compute in (
                core_algos.compute_grpo_outcome_advantage,
                core_algos.compute_grpo_vectorized_outcome_advantage,
            )
        )
        torch.testing.assert_close(looped.float(), vectorized.float(), atol=1e-4, rtol=1e-4)
        return looped

    return grpo


def set_rewards(rewards, mask):
    """Best candidate reward of each response, 0 without candidates, by a plain loop."""
    return torch.tensor(
        [
            max([r for r, m in zip(*row, strict=True) if m], default=0.0)
            for row in zip(rewards.tolist(), mask.tolist(), strict=True)
        ],
        dtype=rewards.dtype,
    )


def weights(rewards, lengths=None, **options):
    """The weights of one set, read off a response whose GRPO advantage is 1."""
    candidate, shared = candidate_advantages(
        torch.tensor([rewards], dtype=torch.float64),
        None,
        torch.tensor([lengths or [1] * len(rewards)]),
        ["prompt"],
        scores=[1.0],
        norm_by_std=False,
        **options,
    )
    assert shared.tolist() == [1.0]
    return candidate[0].tolist()


# --- against verl -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_equal_lengths_average_to_verls_grpo(verl_grpo, seed, norm_by_std):
    rewards, mask, lengths, index, starts, ends, response_mask = random_batch(
        seed, equal_lengths=True
    )
    candidate, shared = candidate_advantages(rewards, mask, lengths, index, norm_by_std=norm_by_std)
    tokens = scatter_candidate_advantages(candidate, shared, starts, ends, response_mask)

    grpo = verl_grpo(set_rewards(rewards, mask), index, norm_by_std)
    torch.testing.assert_close(shared, grpo, rtol=0, atol=1e-6)
    for row, expected in enumerate(grpo.tolist()):
        of_candidates = [
            token
            for start, end in zip(starts[row].tolist(), ends[row].tolist(), strict=True)
            for token in tokens[row, start:end].tolist()
        ]
        if of_candidates:
            assert np.mean(of_candidates) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("length_correction", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_uniform_is_verls_grpo_at_any_lengths(verl_grpo, seed, length_correction):
    rewards, mask, lengths, index, starts, ends, response_mask = random_batch(seed)
    candidate, shared = candidate_advantages(
        rewards, mask, lengths, index, allocator="uniform", length_correction=length_correction
    )
    tokens = scatter_candidate_advantages(candidate, shared, starts, ends, response_mask)
    grpo = verl_grpo(set_rewards(rewards, mask), index).unsqueeze(1).expand_as(tokens)
    torch.testing.assert_close(tokens, grpo, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_float32_ratings_give_verls_float32_grpo(verl_grpo, seed):
    """Half-star ratings, so many responses of a group tie."""
    rewards, mask, lengths, index, *_ = random_batch(seed, values=np.arange(11) / 2)
    rewards = rewards.float()
    _, shared = candidate_advantages(rewards, mask, lengths, index)
    assert shared.dtype == torch.float32
    grpo = verl_grpo(set_rewards(rewards, mask), index)
    torch.testing.assert_close(shared, grpo, rtol=0, atol=1e-6)


@pytest.mark.parametrize("allocator", EVERY_ALLOCATOR)
@pytest.mark.parametrize("length_correction", [True, False])
def test_one_candidate_is_exactly_grpo(verl_grpo, allocator, length_correction):
    rewards, mask, lengths, index, *_ = random_batch(0, columns=1, empty_rows=False)
    candidate, shared = candidate_advantages(
        rewards,
        mask,
        lengths,
        index,
        allocator=allocator,
        allocator_options=OPTIONS.get(allocator),
        length_correction=length_correction,
    )
    assert torch.equal(candidate[:, 0], shared)
    torch.testing.assert_close(shared, verl_grpo(rewards[:, 0], index), rtol=0, atol=1e-6)


def test_scores_are_the_trainers(verl_grpo):
    """The response's reward may hold more than its set utility, a length penalty for instance."""
    rewards, mask, lengths, index, *_ = random_batch(1)
    scores = set_rewards(rewards, mask) - torch.arange(len(index)) / 10
    candidate, shared = candidate_advantages(rewards, mask, lengths, index, scores=scores)
    torch.testing.assert_close(shared, verl_grpo(scores, index), rtol=0, atol=1e-6)
    by_set, shared_by_set = candidate_advantages(rewards, mask, lengths, index)
    torch.testing.assert_close(candidate * shared_by_set[:, None], by_set * shared[:, None])


# --- credit weights -----------------------------------------------------------------------------

PLAIN = {
    "figure 1": ([5, 4, 3], [1.5, 0.9, 0.6]),
    "all equal": ([2, 2], [1, 1]),
    "a zero earns nothing": ([4, 0], [2, 0]),
    "all zero: nothing to share": ([0, 0, 0], [1, 1, 1]),
    "below 1e-8: nothing to share": ([1e-9, 0], [1, 1]),
    "negative: shifted to 2, 0": ([-1, -3], [2, 0]),
    "negative ties: shifted to 0, 0": ([-2, -2], [1, 1]),
    "mixed signs: shifted to 4, 2, 0": ([3, 1, -1], [2.25, 0.75, 0]),
    "one": ([3], [1]),
    "one, negative": ([-3], [1]),
}


@pytest.mark.parametrize(("rewards", "expected"), PLAIN.values(), ids=PLAIN.keys())
def test_weights(rewards, expected):
    """K * phi / R by hand; lengths do not matter unless corrected, and not if equal."""
    assert weights(rewards) == pytest.approx(expected)
    assert weights(rewards, list(range(len(rewards)))) == pytest.approx(expected)
    equal = [7] * len(rewards)
    assert weights(rewards, equal, length_correction=True) == pytest.approx(expected)


CORRECTED = {
    # rewards, lengths, phi * L / (l * R) by hand
    "shares 3 and 1 of 4, tokens 10 and 30 of 40": ([4, 2], [10, 30], [3, 1 / 3]),
    "all zero": ([0, 0], [3, 9], [1, 1]),
    "equal rewards, the short one is worth more a token": ([2, 2], [1, 3], [2, 2 / 3]),
    "the best has no token: the others share what they earned": (
        [6, 4, 2],
        [0, 5, 5],
        [1, 10 / 7, 4 / 7],
    ),
    "only a candidate that earned nothing has tokens": ([3, 0], [0, 5], [1, 1]),
    "none has tokens": ([3, 1], [0, 0], [1, 1]),
}


@pytest.mark.parametrize(
    ("rewards", "lengths", "expected"), CORRECTED.values(), ids=CORRECTED.keys()
)
def test_length_corrected_weights(rewards, lengths, expected):
    assert weights(rewards, lengths, length_correction=True) == pytest.approx(expected)


def test_winner_takes_all_weights():
    assert weights([1, 5, 2], allocator="winner_takes_all") == [0, 3, 0]
    assert weights([5, 1, 5, 0], allocator="winner_takes_all") == [2, 0, 2, 0]


# --- invariants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("allocator", EFFICIENT)
@pytest.mark.parametrize("values", [None, [0.0, 1.0], [0.0], [-1.0, 0.0, 2.0]])
def test_corrected_token_mean_is_grpo_at_any_lengths(allocator, values):
    rewards, mask, lengths, index, *_ = random_batch(2, values=values)
    lengths = lengths * (torch.arange(lengths.shape[1]) != 2)  # the third has no tokens
    candidate, shared = candidate_advantages(
        rewards, mask, lengths, index, allocator=allocator, length_correction=True
    )
    assert candidate.isfinite().all()
    has_tokens = lengths.sum(dim=1) > 0
    mean = (lengths * candidate).sum(dim=1) / lengths.sum(dim=1)
    torch.testing.assert_close(mean[has_tokens], shared[has_tokens], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rewards", [[[3.3, 1]] * 3 + [[0, 3.3]] * 4, [[0.0, 0.0]] * 3])
def test_a_group_that_ties_learns_nothing(rewards):
    """To the last bit: the float32 mean of seven times 3.3 is not 3.3, and 1e-6 divides that."""
    n = len(rewards)
    candidate, shared = candidate_advantages(torch.tensor(rewards), None, torch.ones(n, 2), [0] * n)
    assert not candidate.any()
    assert not shared.any()


@pytest.mark.parametrize("norm_by_std", [True, False])
def test_one_response_in_its_group_keeps_its_reward(norm_by_std):
    """Mean 0 and std 1, verl's rule."""
    candidate, shared = candidate_advantages(
        [[5, 4, 3]], None, [[1, 1, 1]], ["alone"], norm_by_std=norm_by_std
    )
    assert shared.tolist() == pytest.approx([5], rel=1e-5)
    assert candidate[0].tolist() == pytest.approx([7.5, 4.5, 3], rel=1e-5)


def test_a_response_without_candidates_competes_with_reward_0():
    candidate, shared = candidate_advantages(
        [[4, 2], [NAN, NAN]], [[1, 1], [0, 0]], [[1, 1], [0, 0]], ["a", "a"]
    )
    assert shared.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)], abs=1e-6)
    assert candidate[1].tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_responses_or_no_columns(shape):
    candidate, shared = candidate_advantages(
        torch.empty(shape), None, torch.empty(shape), range(shape[0]), length_correction=True
    )
    assert candidate.shape == shape
    assert shared.tolist() == [0.0] * shape[0]


def test_an_unknown_reward_is_left_out_of_its_groups_statistics():
    rewards, mask, lengths, index, *_ = random_batch(3)
    scores = set_rewards(rewards, mask)
    unknown = torch.zeros(len(index), dtype=torch.bool)
    for group in set(index.tolist()):
        rows = (index == group).nonzero()[0]
        # All of the first group, one response of every group that keeps two.
        unknown[rows if group == index[0] else rows[: len(rows) > 2]] = True
    rewards[unknown], scores[unknown] = NAN, NAN
    candidate, shared = candidate_advantages(rewards, mask, lengths, index, scores=scores)
    assert not candidate[unknown].any()
    assert not shared[unknown].any()

    kept = ~unknown
    expected = candidate_advantages(rewards[kept], mask[kept], lengths[kept], index[kept.numpy()])
    torch.testing.assert_close((candidate[kept], shared[kept]), expected)


def test_the_only_known_response_of_a_group_has_nothing_to_be_compared_with():
    """Unlike a group of one, which verl gives its raw reward as advantage."""
    candidate, shared = candidate_advantages(
        [[5.0], [1.0], [5.0]], None, [[3]] * 3, "aab", scores=[5.0, NAN, 5.0]
    )
    assert shared.tolist() == pytest.approx([0.0, 0.0, 5.0])
    assert candidate.flatten().tolist() == pytest.approx([0.0, 0.0, 5.0])


INDICES = {
    "verl's uuids": np.array(["b", "a", "b", "a"], dtype=object),
    "a fixed-width array": np.array(["b", "a", "b", "a"]),
    "an integer tensor": torch.tensor([7, -1, 7, -1]),
    "an integer array": np.array([7, -1, 7, -1]),
    "tuples": [("q", 2), ("q", 1), ("q", 2), ("q", 1)],
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_group_ids(index):
    _, shared = candidate_advantages(
        [[1.0], [5.0], [2.0], [9.0]], None, [[1]] * 4, index, norm_by_std=False
    )
    assert shared.tolist() == [-0.5, -2, 0.5, 2]


def test_no_gradient():
    rewards = torch.tensor([[5.0, 4.0]], requires_grad=True)
    for result in candidate_advantages(rewards, None, [[1, 1]], [0], scores=rewards[:, 0]):
        assert not result.requires_grad
        assert result.dtype == torch.float32


REFUSED = {
    # what differs from a good call, what the message must say
    "advantage": ({"advantage": "shapley"}, "advantage 'shapley'; use one of: .*reweight"),
    "utility": ({"utility": "best"}, "utility 'best'; use one of: .*max"),
    "utility of uniform": ({"utility": "best", "allocator": "uniform"}, "utility 'best'"),
    "allocator": ({"allocator": "wta"}, "allocator 'wta'; use one of: .*shapley"),
    "option of an allocator": (
        {"allocator": "uniform", "allocator_options": {"alpha": 1}},
        "allocator 'uniform' has no option 'alpha'; it takes none",
    ),
    "reward": ({"rewards": [[1.0, NAN]]}, r"rewards\[0, 1\] is nan"),
    "length": ({"lengths": [[1, -2]]}, r"lengths\[0, 1\] is -2"),
    "score": ({"scores": [INF]}, r"scores\[0\] is inf"),
    "mask that would broadcast": ({"mask": [[True]], "scores": [1.0]}, r"\(1, 1\)"),
    "lengths of another shape": ({"lengths": [[1]]}, r"\(1, 2\), \(1, 2\), \(1, 1\)"),
    "an id too many": ({"index": ["a", "b"]}, r"\(2,\)"),
    "a score too many": ({"scores": [1.0, 2.0]}, r"\(2,\)"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(change, says):
    good = {"rewards": [[1.0, 2.0]], "mask": None, "lengths": [[1, 1]], "index": ["a"]}
    with pytest.raises(ValueError, match=says) as error:
        candidate_advantages(**good | change)
    assert "\n" not in str(error.value)
