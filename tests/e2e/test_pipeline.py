"""The real pipeline on the CPU: Ray, FSDP2 on gloo, a vLLM server and its weight sync."""

import itertools
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer

from recipe.shape_grpo.launch import TrainingFailed, read_metrics, train_on_cpu

pytestmark = pytest.mark.e2e

STEPS = 3


@pytest.fixture(scope="module")
def spied_run(verl_main_ppo, tmp_path_factory):
    """Three steps through verl's own entry point: its run folder and the spy's notes."""
    notes = tmp_path_factory.mktemp("spy")
    run = verl_main_ppo(
        "algorithm.adv_estimator=shape_grpo",
        "+algorithm.shape_grpo.allocator=shapley",
        "reward.reward_manager.name=multi_candidate",
        "trainer.v1.trainer_mode=shape_grpo_spy",
        f"trainer.total_training_steps={STEPS}",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=vllm_spy.SpyExtension",
        SPY=str(notes),
        VERL_USE_EXTERNAL_MODULES="pipeline_spy",
        PYTHONPATH=str(Path(__file__).parent),
    )
    return run, notes


@pytest.fixture(scope="module")
def updates(spied_run):
    """The rows that reached the actor, one list an update."""
    _, notes = spied_run
    return [json.loads((notes / f"update-{step}").read_text()) for step in range(STEPS)]


def test_every_step_is_logged_with_our_metrics_beside_verls(spied_run):
    metrics = read_metrics(spied_run[0])
    assert sorted(metrics) == [0, 1, 2, 3]
    for step in (1, 2, 3):
        assert metrics[step]["shape_grpo/num_candidates"] > 0
        assert math.isfinite(metrics[step]["actor/grad_norm"])
        best = metrics[step]["shape_grpo/best_candidate_reward"]
        empty = metrics[step]["shape_grpo/responses_without_candidates"]
        assert metrics[step]["critic/score/mean"] == pytest.approx(best * (1 - empty))


def test_rewards_and_spans_are_those_of_the_text(updates, task, policy):
    """Decoding a span gives a candidate; the rating table gives its reward."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    with np.load(task / "ratings.npz") as table:
        known = dict(zip(table["titles"].tolist(), table["ratings"].T, strict=True))
    found = 0
    for row in itertools.chain(*updates):
        record = json.loads(row["record"])
        text = tokenizer.decode(row["response_ids"], skip_special_tokens=True)
        for start, end, reward in zip(
            record["starts"], record["ends"], record["rewards"], strict=True
        ):
            # A boundary token may hold a piece of a tag beside the first or last letters.
            title = tokenizer.decode(row["response_ids"][start:end]).strip("<>/candite\n ")
            whole = [film for film in known if film.strip("<>/candite\n ") == title]
            assert title in text
            if reward > 0:
                assert any(reward in known[film] for film in whole), (title, reward)
                found += 1
    assert found > 50


def brute_force_shares(rewards):
    """Shapley values of the best-of-set game: the mean marginal gain over all orders."""
    shares = [0.0] * len(rewards)
    orders = list(itertools.permutations(range(len(rewards))))
    for order in orders:
        best = 0.0
        for k in order:
            shares[k] += (max(best, rewards[k]) - best) / len(orders)
            best = max(best, rewards[k])
    return shares


def test_the_actor_gets_the_advantages_that_the_logged_rewards_imply(updates):
    reweighted = 0
    for rows in updates:
        groups = defaultdict(list)
        for row in rows:
            rewards = json.loads(row["record"])["rewards"]
            assert row["score"] == pytest.approx(max(rewards, default=0.0))
            groups[row["uid"]].append(row["score"])
        for row in rows:
            scores = groups[row["uid"]]
            assert len(scores) == 4
            advantage = (row["score"] - statistics.mean(scores)) / (statistics.stdev(scores) + 1e-6)
            expected = [advantage * keep for keep in row["mask"]]
            record = json.loads(row["record"])
            if row["score"] > 0:
                for share, start, end in zip(
                    brute_force_shares(record["rewards"]),
                    record["starts"],
                    record["ends"],
                    strict=True,
                ):
                    weight = share * len(record["rewards"]) / row["score"]
                    reweighted += abs(weight - 1) > 0.1 and abs(advantage) > 0.1
                    for token in range(start, end):
                        expected[token] = weight * advantage * row["mask"][token]
            assert row["advantages"] == pytest.approx(expected, abs=1e-4)
    assert reweighted > 20


def test_weights_in_vllm_follow_the_trainer(spied_run):
    """After every sync vLLM multiplies by the trainer's matrices, bit for bit; and they move."""
    merged = {
        "qkv_proj": ("q_proj", "k_proj", "v_proj"),
        "gate_up_proj": ("gate_proj", "up_proj"),
    }
    _, notes = spied_run
    trained = [torch.load(notes / f"trainer-{sync}") for sync in range(STEPS + 1)]
    served = [torch.load(notes / f"vllm-{sync}") for sync in range(STEPS + 1)]
    for trainer, vllm in zip(trained, served, strict=True):
        compared = set()
        for name, matrix in vllm.items():
            last = name.rsplit(".", 1)[-1]
            parts = [name.replace(last, part) + ".weight" for part in merged.get(last, (last,))]
            if last == "lm_head" and parts[0] not in trainer:
                parts = ["model.embed_tokens.weight"]
            expected = torch.cat([trainer[part] for part in parts])
            assert matrix[: len(expected)].equal(expected), name
            compared.update(parts)
        assert compared >= set(trainer)
    moved = [not trained[0][name].equal(trained[-1][name]) for name in trained[0]]
    assert all(moved)


def broken_reward(folder, condition):
    """A reward function file that fails for some candidates."""
    file = folder / "broken_reward.py"
    file.write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        f"    if {condition}:\n"
        "        raise ZeroDivisionError('the judge is out of order')\n"
        "    return float(len(solution_str))\n"
    )
    return f"reward.custom_reward_function.path={file}"


def test_a_reward_function_that_fails_now_and_then_does_not_end_the_run(overrides, tmp_path):
    reward = broken_reward(tmp_path, "extra_info['candidate_index'] == 1")
    train_on_cpu(
        "flaky", [*overrides, reward], tmp_path / "run", steps=1, console=Console(quiet=True)
    )
    metrics = read_metrics(tmp_path / "run")[1]
    assert metrics["shape_grpo/reward_errors"] > 0
    assert metrics["shape_grpo/candidate_reward"] > 0
    assert "the judge is out of order" in (tmp_path / "run/train.log").read_text()


def test_on_error_raise_ends_the_run_with_the_traceback(overrides, tmp_path):
    reward = broken_reward(tmp_path, "extra_info['candidate_index'] == 1")
    strict = [*overrides, reward, "algorithm.shape_grpo.on_error=raise"]
    with pytest.raises(TrainingFailed, match="the judge is out of order"):
        train_on_cpu("strict", strict, tmp_path / "run", steps=1, console=Console(quiet=True))


def test_a_configuration_error_ends_before_ray_starts(overrides, tmp_path):
    wrong = [*overrides, "algorithm.shape_grpo.allocator=shapely"]
    with pytest.raises(TrainingFailed, match="Did you mean shapley"):
        train_on_cpu("wrong", wrong, tmp_path / "run", steps=1, console=Console(quiet=True))
    assert "Started a local Ray instance" not in (tmp_path / "run/train.log").read_text()
