"""Advantages of rollouts against plain loops over all subsets, and verl's own estimators."""

import random
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from shape_grpo.advantage import rollout_advantages
from shape_grpo.credit import make_utility
from tests.advantage.methods import make_method
from tests.credit import oracles

NAN = float("nan")


def best_of(k):
    return make_method(allocator="best_of_k", allocator_options={"k": k})


def group_ids(*sizes, seed=0):
    """Ids of groups of these sizes, in mixed order."""
    ids = [f"prompt {group}" for group, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(ids)
    return np.array(ids, dtype=object)


def by_loops(rewards, index, shares, norm_by_std=True, epsilon=1e-6):
    """Advantages from ``shares(rewards of a group)``; rewards are numbers or lists of numbers."""
    advantages = [None] * len(rewards)
    for group in set(index):
        rows = [row for row, each in enumerate(index) if each == group]
        members = [rewards[row] for row in rows]
        paid = shares(members)
        vectors = [each if isinstance(each, list) else [each] for each in members]
        std = sum(stdev(column) ** 2 for column in zip(*vectors, strict=True)) ** 0.5
        for row, share in zip(rows, paid, strict=True):
            advantage = (share - fmean(paid)) / (std + epsilon if norm_by_std else 1)
            advantages[row] = advantage if std > 1e-6 else 0.0
    return advantages


LAWS = {
    # allocator, options, the law of the others of n
    "best of 1": ("best_of_k", {"k": 1}, lambda n: [1] + [0] * (n - 1)),
    "best of 3": ("best_of_k", {"k": 3}, lambda n: [s == min(3, n) - 1 for s in range(n)]),
    "best of 9": ("best_of_k", {"k": 9}, lambda n: [0] * (n - 1) + [1]),
    "shapley": ("shapley", {}, lambda n: [1 / n] * n),
    "leave one out": ("leave_one_out", {}, lambda n: [0] * (n - 1) + [1]),
    "beta 3, 1": ("beta_shapley", {"alpha": 3, "beta": 1}, oracles.beta_binomial(3, 1)),
    "attention": ("attention", {"looks": [0.4, 0.1, 0.5]}, oracles.seen([0.4, 0.1, 0.5])),
}


def drawn(sets, rng, count):
    """Rewards from those of some sets of `tests.credit.oracles`, which the utility allows."""
    pool = [reward for players in sets.values() for reward in players]
    return [rng.choice(pool) for _ in range(count)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("title", oracles.UTILITIES)
@pytest.mark.parametrize("norm_by_std", [True, False])
def test_every_utility_and_law_by_all_subsets(title, law, norm_by_std):
    """Groups of 2 to 6 rollouts that are mixed in the batch."""
    utility, utility_options, value, sets = oracles.UTILITIES[title]
    allocator, options, chances = LAWS[law]
    index = group_ids(2, 3, 6, 4)
    rewards = drawn(sets, random.Random(f"{title} {law}"), len(index))
    method = make_method(
        make_utility(utility, **utility_options), allocator, options, norm_by_std=norm_by_std
    )
    dtype = torch.float64
    found = rollout_advantages(torch.tensor(rewards, dtype=dtype), index, method)
    expected = by_loops(rewards, index, lambda r: oracles.by_sizes(chances)(value, r), norm_by_std)
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("allocator", ["banzhaf", "winner_takes_all"])
def test_allocators_that_are_no_semivalues_are_centred_likewise(allocator):
    index, rng = group_ids(3, 5), random.Random(0)
    rewards = [rng.uniform(0, 5) for _ in index]

    def shares(members):
        if allocator == "winner_takes_all":
            return [max(members) * (each == max(members)) for each in members]
        values = oracles.all_subsets(max, members)
        return [max(members) * each / sum(values) for each in values]

    tensor = torch.tensor(rewards, dtype=torch.float64)
    found = rollout_advantages(tensor, index, make_method("max", allocator))
    assert found.tolist() == pytest.approx(by_loops(rewards, index, shares), abs=1e-9)


def verls(estimator, rewards, index, norm_by_std=True):
    """Advantages (N,) by an estimator of verl's."""
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")
    config = {"norm_adv_by_std_in_grpo": norm_by_std}
    return core_algos.get_adv_estimator_fn(estimator)(
        token_level_rewards=rewards.clone().unsqueeze(1),
        response_mask=torch.ones(len(rewards), 1),
        index=index,
        norm_adv_by_std_in_grpo=norm_by_std,
        config=config,
    )[0][:, 0]


REWARDS = {
    "any": lambda rng: rng.uniform(-2, 5),
    "with ties": lambda rng: float(rng.randint(-2, 2)),
    "pass or fail": lambda rng: float(rng.random() < 0.3),
    "negative": lambda rng: -rng.random() - 1,
}


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("kind", REWARDS)
def test_best_of_1_is_verls_grpo(kind, norm_by_std):
    """With a group of one, whose advantage is its reward, and one of equal rewards."""
    index, rng = group_ids(8, 8, 1, 5, 2), random.Random(kind)
    rewards = torch.tensor([REWARDS[kind](rng) for _ in index])
    rewards[torch.from_numpy(index == "prompt 3")] = 0.5
    method = make_method(allocator="best_of_k", allocator_options={"k": 1}, norm_by_std=norm_by_std)
    found = rollout_advantages(rewards, index, method)
    expected = verls("grpo", rewards, index, norm_by_std)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=2e-6)


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("kind", REWARDS)
def test_best_of_all_is_verls_grpo_passk_less_the_mean_of_its_group(kind, norm_by_std):
    index, rng = group_ids(8, 8, 8, 8, 8), random.Random(kind)
    rewards = torch.tensor([REWARDS[kind](rng) for _ in index])
    plain = verls("grpo_passk", rewards, index, norm_by_std).tolist()
    expected = by_loops(rewards.tolist(), index, lambda members: members, norm_by_std)
    for group in set(index):
        rows = [row for row, each in enumerate(index) if each == group]
        mean = fmean(plain[row] for row in rows)
        for row in rows:
            expected[row] = plain[row] - mean
    for allocator, options in (("best_of_k", {"k": 8}), ("leave_one_out", {})):
        method = make_method("max", allocator, options, norm_by_std=norm_by_std)
        found = rollout_advantages(rewards, index, method)
        assert found.tolist() == pytest.approx(expected, abs=2e-6)


def test_k_weighs_prompts_by_how_often_they_fail():
    """Pass or fail, 8 rollouts, 1, 4, 7 pass: GRPO's advantages times C(8 - c, 3) / C(7, 3)."""
    index = np.repeat(["one", "four", "seven"], 8)
    rewards = torch.tensor([[1.0] * c + [0.0] * (8 - c) for c in (1, 4, 7)]).flatten()
    grpo = rollout_advantages(rewards, index, best_of(1)).view(3, 8)
    found = rollout_advantages(rewards, index, best_of(4)).view(3, 8)
    torch.testing.assert_close(found, grpo * torch.tensor([[1.0], [4 / 35], [0.0]]).double())


@pytest.mark.parametrize("law", LAWS)
def test_under_max_a_constant_in_all_rewards_changes_nothing(law):
    """Though U(no candidates) = 0: it adds the constant times P(none of the others) to each share,
    and the mean takes it away."""
    allocator, options, _ = LAWS[law]
    index, method = group_ids(4, 6), make_method("max", allocator, options)
    rewards = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = rollout_advantages(rewards, index, method)
    assert found.abs().max() > 0.1
    for constant in (-7.0, 3.0):
        torch.testing.assert_close(rollout_advantages(rewards + constant, index, method), found)


def test_a_rollout_without_a_reward_leaves_its_set():
    index = np.array(["a", "b", "a", "a", "b", "a"], dtype=object)
    rewards = torch.tensor([1.0, NAN, 0.5, 9.0, 2.0, 0.0])
    known = torch.tensor([True, True, True, False, True, True])
    found = rollout_advantages(rewards, index, best_of(2), known=known)
    kept = rollout_advantages(torch.tensor([1.0, 0.5, 0.0]), ["a"] * 3, best_of(2))
    assert found[[0, 2, 5]].tolist() == pytest.approx(kept.tolist())
    # What is left of "b" has nothing to be compared with.
    assert found[[1, 3, 4]].tolist() == [0.0] * 3
    assert rewards[3] == 9 and rewards[1].isnan()


def test_vectors_of_equal_totals_still_differ():
    """Two rollouts pass the same tests, and a third the others: it brings more to any pair."""
    vectors = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.uint8)
    method = make_method("coverage", "best_of_k", {"k": 2}, norm_by_std=False)
    # Shares: 0 with its twin and 2 with the third, so 1; the third brings 2 to each.
    found = rollout_advantages(vectors, ["q"] * 3, method)
    assert found.tolist() == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("rewards", "utility", "says"),
    [
        ([0.5, 1.5], "noisy_or", r"rollout 1 of 2 has the reward 1\.5, .* takes probabilities"),
        ([float("inf"), 0.0], "max", "rollout 0 of 2 has the reward inf"),
        ([[1.0], [0.0]], "max", r"rewards must have shape \(N,\)"),
        ([1.0, 0.0], "coverage", r"rewards must have shape \(N, M\)"),
        ([1.0, 0.0, 1.0], "max", r"\(3,\) and \(2,\)"),
        ([[2, 0], [0, 1]], "coverage", r"rollout 0 of 2 has the reward \[2, 0\]"),
    ],
)
def test_refused(rewards, utility, says):
    with pytest.raises(ValueError, match=says):
        rollout_advantages(torch.tensor(rewards), ["q", "q"], make_method(utility))


@pytest.mark.parametrize("utility", ["max", "coverage"])
def test_an_empty_batch(utility):
    shape = (0, 3) if utility == "coverage" else (0,)
    assert rollout_advantages(torch.empty(shape), [], make_method(utility)).shape == (0,)
