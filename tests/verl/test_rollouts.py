"""The estimator of sets of rollouts: by verl's own code, beside our trainer, and its checks."""

import warnings
from collections import Counter
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.trainer.ppo.ray_trainer import compute_advantage

from shape_grpo.advantage import CandidateBatch, CandidateRecord, Method
from shape_grpo.verl.checks import check_trainer_config, concerns_this_package
from shape_grpo.verl.context import CandidatesInContext, candidates_in_context
from tests.credit import oracles
from tests.verl.fake_queue import SIZE

ESTIMATOR = "shape_grpo_rollouts"
LENGTH = 6


@pytest.fixture(scope="module")
def verls_config():
    """verl's own configuration, with this estimator and no block of ours."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [f"algorithm.adv_estimator={ESTIMATOR}"])


@pytest.fixture
def changed(verls_config):
    """changed(keys to values) -> a configuration with these values."""

    def run(change):
        config = verls_config.copy()
        values = {"actor_rollout_ref.rollout.n": 8, "data.train_batch_size": 256, **change}
        values.setdefault("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu", 8)
        for key, value in values.items():
            OmegaConf.update(config, key, value, force_add=True)
        return config

    return run


def advantages(rewards, uids, norm_by_std=True, mask=None, **block):
    """(B, T) through verl's `compute_advantage`, with the rewards on the last tokens."""
    token_rewards = torch.zeros(len(rewards), LENGTH)
    token_rewards[:, -1] = torch.tensor(rewards)
    mask = torch.ones(len(rewards), LENGTH, dtype=torch.int64) if mask is None else mask
    batch = DataProto.from_dict(
        tensors={"token_level_rewards": token_rewards, "response_mask": mask},
        non_tensors={"uid": np.array(uids, dtype=object)},
    )
    config = OmegaConf.create({"norm_adv_by_std_in_grpo": norm_by_std, "shape_grpo": block})
    data = compute_advantage(batch, adv_estimator=ESTIMATOR, config=config)
    assert data.batch["returns"].equal(data.batch["advantages"])
    assert data.batch["advantages"].dtype == torch.float32
    return data.batch["advantages"]


def best_of(k):
    return {"allocator": "best_of_k", "allocator_options": {"k": k}}


@pytest.mark.parametrize("norm_by_std", [True, False])
def test_best_of_1_is_verls_grpo(norm_by_std):
    rng = np.random.default_rng(0)
    rewards, uids = rng.normal(size=12).tolist(), ["a", "b", "c"] * 4
    found = advantages(rewards, uids, norm_by_std, **best_of(1))
    expected, _ = compute_grpo_outcome_advantage(
        torch.tensor(rewards).unsqueeze(1),
        torch.ones(12, LENGTH),
        index=np.array(uids),
        norm_adv_by_std_in_grpo=norm_by_std,
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_without_a_block_it_is_the_shapley_value_of_the_best_rollout():
    """5, 4, 3 share 5 as 2.5, 1.5, 1.0; and tokens that a tool wrote get nothing."""
    mask = torch.ones(3, LENGTH, dtype=torch.int64)
    mask[0, 2] = 0
    found = advantages([5.0, 4.0, 3.0], ["q"] * 3, mask=mask)
    expected = [(share - 5 / 3) / (1 + 1e-6) for share in (2.5, 1.5, 1.0)]
    assert found[:, 0].tolist() == pytest.approx(expected)
    assert found.equal(found[:, :1] * mask)


def test_a_reward_that_is_nan_leaves_the_set_and_is_logged(caplog):
    found = advantages([1.0, float("nan"), 0.0, 0.5], ["q"] * 4, **best_of(2))
    kept = advantages([1.0, 0.0, 0.5], ["q"] * 3, **best_of(2))
    torch.testing.assert_close(found[[0, 2, 3]], kept)
    assert found[1].tolist() == [0.0] * LENGTH
    assert "1 of 4 rollouts have the reward NaN" in caplog.text


def test_scores_of_normalized_rewards_take_the_place_of_the_reward_managers():
    records = [one_candidate(reward) for reward in (1.0, 0.0, 0.5)]
    batch = CandidateBatch.collate(records)
    shares = batch.compute_shares(Method())
    scores = torch.tensor([3.0, 1.0, 2.5])
    context = CandidatesInContext(batch, shares, torch.arange(3), Method(), scores)
    with candidates_in_context(context):
        found = advantages([1.0, 0.0, 0.5], ["q"] * 3, **best_of(2))
    torch.testing.assert_close(found, advantages(scores.tolist(), ["q"] * 3, **best_of(2)))


def test_a_wrong_block_is_an_error():
    with pytest.raises(ValueError, match=r"algorithm\.shape_grpo\.utility=best"):
        advantages([1.0, 0.0], ["q"] * 2, utility="best")


# Beside our trainer, on a queue that is a dictionary: 4 prompts of 2 rollouts.

ROLLOUTS = [[1.0, 0.25], [0.5, 0.5], [0.0, 0.75], [0.25, 1.0]]


@pytest.fixture
def advantages_of(make_trainer, queue):
    """advantages_of(records, **block): the advantages of the answers' first tokens, in order.

    Before the answers of ``drafted`` their rollouts gave another output.
    """

    def run(records, manager="multi_candidate", drafted=(), **block):
        trainer = make_trainer(**block)
        trainer.config.algorithm.adv_estimator = ESTIMATOR
        trainer.config.reward.reward_manager.name = manager
        trainer.parameter_sync_step, trainer._counts = 1, Counter()
        keys = []
        for first in range(0, len(records), SIZE):
            uid = f"uid{first}"
            queue.add_group(uid, records[first : first + SIZE])
            for session in range(SIZE):
                keys.append(f"{uid}_{session}_0")
                if len(keys) - 1 in drafted:
                    # As verl leaves it: with the score of the answer, which comes last.
                    answer = f"{uid}_{session}_1"
                    queue.tags[answer] = dict(queue.tags[keys[-1]])
                    queue.fields[answer] = dict(queue.fields[keys[-1]])
                    drafts.append(keys[-1])
                    keys[-1] = answer
        trainer._compute_advantage(queue.kv_batch_put([*drafts, *keys], "train"), {})
        found = {key: queue.fields[key]["advantages"][0].item() for key in [*drafts, *keys]}
        for draft in drafts:
            assert found[draft] == found[draft[:-1] + "1"]
        return [found[key] for key in keys]

    drafts = []
    return run


def one_candidate(reward):
    return CandidateRecord([reward], [0], [4])


def test_beside_our_trainer_and_our_reward_manager(advantages_of):
    """A rollout whose reward function failed leaves its set: what is left is one, and gets 0."""
    records = [one_candidate(reward) for group in ROLLOUTS for reward in group]
    records[1] = CandidateRecord([None], [0], [4], error="Traceback")
    found = advantages_of(records, max_error_share=1, **best_of(2))
    expected = [0.0, 0.0]
    for group in ROLLOUTS[1:]:
        shares = [max(group) - other for other in reversed(group)]
        spread = stdev(group) + 1e-6
        expected += [(share - fmean(shares)) / spread for share in shares]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("manager", ["naive", "multi_candidate"])
def test_several_outputs_of_a_rollout_are_one_of_the_set(advantages_of, manager):
    """Counted twice, the best of a pair would bring nothing beyond its own twin."""
    records = [one_candidate(reward) for group in ROLLOUTS for reward in group]
    plain = advantages_of(records, manager, **best_of(2))
    assert plain[:2] == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-3)
    assert advantages_of(records, manager, drafted=(0, 3, 5), **best_of(2)) == plain


@pytest.mark.parametrize("utility", ["coverage"])
def test_vectors_of_responses_that_are_one_candidate(advantages_of, utility):
    """A response without a candidate passes no test."""
    vectors = [[[1, 0, 1], [1, 0, 0]], [[0, 1], [1]], [[1, 1, 1], None], [[0], [0]]]
    records = [
        CandidateRecord() if vector is None else one_candidate(vector)
        for group in vectors
        for vector in group
    ]
    block = {"utility": utility, "format": "whole", "allocator": "leave_one_out"}
    found = advantages_of(records, **block)
    expected = []
    for group in vectors:
        full = [[*(vector or []), *[0] * (3 - len(vector or []))] for vector in group]
        shares = oracles.without_one(oracles.union([1, 1, 1]), full)
        spread = sum(stdev(column) ** 2 for column in zip(*full, strict=True)) ** 0.5 + 1e-6
        expected += [(share - fmean(shares)) / spread for share in shares]
    assert found == pytest.approx(expected, abs=1e-5)


TEXTS = [["ab", "bc"], ["x", "x"], ["abc", ""], ["c", "cab"]]


def letters(solutions, ground_truth):
    """Letters of the truth that the rollouts have together."""
    return float(len(set(ground_truth) & set("".join(solutions))))


@pytest.mark.parametrize("utility", ["oracle", "distinct_n"])
def test_utilities_of_texts(advantages_of, utility, make_trainer, monkeypatch):
    """The trainer asks about subsets of a prompt's rollouts; a failed one leaves its set."""
    monkeypatch.setattr(
        "shape_grpo.verl.rollout_texts.load_reward_function",
        lambda config: letters if utility == "oracle" else lambda solution_str: 1.0,
    )
    records = [
        CandidateRecord([letters([text], "abc")], [0], [4], texts=[text], shares=[1.0], value=1.0)
        for group in TEXTS
        for text in group
    ]
    records[2] = CandidateRecord.unread("Traceback")
    block = {"utility": utility, "format": "whole", "max_error_share": 1}
    if utility == "distinct_n":
        block["utility_options"] = {"n": 1}
    found = advantages_of(records, **block)
    expected = []
    for group in TEXTS:
        if group == ["x", "x"]:
            expected += [0.0, 0.0]
            continue

        def value(chosen):
            if utility == "oracle":
                return letters(chosen, "abc") if chosen else 0.0
            words = " ".join(chosen).split()
            return len(set(words)) / len(words) if words else 0.0

        shares = oracles.all_orders(value, group)
        spread = stdev(letters([text], "abc") for text in group)
        expected += [
            0.0 if spread == 0 else (share - fmean(shares)) / (spread + 1e-6) for share in shares
        ]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def oracle_records(monkeypatch):
    """oracle_records(function): a record per rollout of `TEXTS`; the trainer asks the function."""

    def make(function):
        monkeypatch.setattr(
            "shape_grpo.verl.rollout_texts.load_reward_function", lambda config: function
        )
        return [
            CandidateRecord([function([text])], [0], [4], texts=[text], shares=[1.0], value=1.0)
            for group in TEXTS
            for text in group
        ]

    return make


def test_a_failure_on_several_rollouts_is_counted(advantages_of, oracle_records):
    def utility(solutions):
        if len(solutions) > 1:
            raise KeyError("judge")
        return float(len(solutions[0]))

    records = oracle_records(utility)
    block = {"utility": "oracle", "format": "whole"}
    assert advantages_of(records, max_error_share=1, **block) == [0.0] * len(records)
    with pytest.raises(RuntimeError, match=r"(?s)failed for 8 of the last 8 .*KeyError: 'judge'"):
        advantages_of(records, on_error="raise", **block)


def test_a_response_without_a_candidate_is_blamed(advantages_of, oracle_records):
    """Cut off, it is no candidate, and adds the floor reward, here 0."""
    records = oracle_records(lambda solutions: float(max(map(len, solutions))))
    records[1] = CandidateRecord()
    first, second = advantages_of(records, utility="oracle", format="whole")[:2]
    assert (first, second) == pytest.approx((0.5**0.5, -(0.5**0.5)), rel=1e-3)


REFUSED = {
    # changes, what the message must say
    "a set of one": (
        {"actor_rollout_ref.rollout.n": 1},
        r"rollout\.n=1: the rollouts of a prompt form one set.* 2 or more",
    ),
    "k beyond the set": (
        {"algorithm.shape_grpo": best_of(9)},
        r"\{'k': 9\}: looks at 9 of the rollouts .*rollout\.n=8\. Write 8 or less, or .*n=9",
    ),
    "looks beyond the set": (
        {
            "algorithm.shape_grpo": {
                "allocator": "attention",
                "allocator_options": {"looks": [0] * 9 + [1]},
            }
        },
        "looks at 10 of the rollouts",
    ),
    "k that is no number": (
        {"algorithm.shape_grpo": {"allocator": "best_of_k"}},
        "allocator 'best_of_k' needs the option 'k'",
    ),
    "nothing to learn": (
        {"algorithm.shape_grpo": {"allocator": "uniform"}},
        r"allocator=uniform: pays all rollouts .* alike.*best_of_k with the option k=1",
    ),
    "an advantage within responses": (
        {"algorithm.shape_grpo": {"advantage": "praise"}},
        "advantage=praise: is for candidates within a response",
    ),
    "lengths": (
        {"algorithm.shape_grpo": {"length_correction": True}},
        "leave length_correction out",
    ),
    "vectors without our reward manager": (
        {"algorithm.shape_grpo": {"utility": "coverage"}, "trainer.v1.trainer_mode": "shape_grpo"},
        r"coverage reads more .*trainer_mode=shape_grpo .*name=multi_candidate .*format=whole",
    ),
    "vectors in verl's own trainer": (
        {
            "algorithm.shape_grpo": {"utility": "coverage", "format": "whole"},
            "reward.reward_manager.name": "multi_candidate",
        },
        r"coverage reads more .*trainer_mode=shape_grpo",
    ),
    "vectors of several candidates": (
        {
            "algorithm.shape_grpo": {"utility": "coverage"},
            "reward.reward_manager.name": "multi_candidate",
            "trainer.v1.trainer_mode": "shape_grpo",
        },
        "format=xml: .*one candidate: write format=whole, or max_candidates=1",
    ),
    "a penalty below 0": (
        {"algorithm.shape_grpo": {"utility": "noisy_or"}, "algorithm.use_kl_in_reward": True},
        "utility noisy_or takes probabilities, 0 to 1: write .*use_kl_loss=true",
    ),
    "a misspelt name": (
        {"algorithm.adv_estimator": "shape_grpo_rollout"},
        "unknown name. Did you mean shape_grpo_rollouts",
    ),
    "a misspelt key": (
        {"algorithm.shape_grpo": {"alocator": "best_of_k"}},
        "Did you mean allocator",
    ),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_before_ray(changed, change, says):
    config = changed(change)
    with pytest.raises(ValueError, match=says):
        check_trainer_config(config)


OURS = {
    "trainer.v1.trainer_mode": "shape_grpo",
    "reward.reward_manager.name": "multi_candidate",
}
ACCEPTED = {
    "verl's own trainer and manager": {},
    "k": {"algorithm.shape_grpo": best_of(8)},
    "another of verl's": {
        "reward.reward_manager.name": "dapo",
        "trainer.v1.trainer_mode": "colocate_async",
        "algorithm.use_kl_in_reward": True,
    },
    "our trainer": {"trainer.v1.trainer_mode": "shape_grpo"},
    "our reward manager": {"reward.reward_manager.name": "multi_candidate"},
    "both": OURS,
    "vectors": {**OURS, "algorithm.shape_grpo": {"utility": "coverage", "format": "whole"}},
    "vectors in a tag": {
        **OURS,
        "algorithm.shape_grpo": {"utility": "coverage", "max_candidates": 1},
    },
    "our reward manager's keys": {
        **OURS,
        "algorithm.shape_grpo": {"format": "json", "max_candidates": 3},
    },
}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_without_a_warning(changed, change):
    config = changed(change)
    # Three tags take more than the length that verl's configuration has.
    config.data.max_response_length = 512
    assert concerns_this_package(config)
    with warnings.catch_warnings(action="error"):
        check_trainer_config(config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"algorithm.shape_grpo": {"format": "json", "floor_reward": -1.0}},
            r"format=json, floor_reward=-1\.0: only .*name=multi_candidate reads this, .* naive",
        ),
        (
            {"actor_rollout_ref.rollout.agent.default_agent_loop": "mine"},
            "default_agent_loop=mine: if it gives several outputs .*trainer_mode=shape_grpo",
        ),
    ],
)
def test_warned_of(changed, change, says):
    with pytest.warns(UserWarning, match=says):
        check_trainer_config(changed(change))
