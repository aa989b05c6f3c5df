"""The real pipeline on the CPU: Ray, FSDP2 on gloo, a vLLM server and its weight sync."""

import itertools
import json
import math
import os
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.runs.folder import read_metrics
from recipe.shape_grpo.runs.launch import TrainingFailed, launch
from recipe.shape_grpo.trained.checkpoint import export

pytestmark = pytest.mark.e2e

STEPS = 3
HERE = Path(__file__).parent
FLAKY_REWARD = f"reward.custom_reward_function.path={HERE}/flaky_reward.py"
PATHS = f"{HERE}{os.pathsep}{HERE.parents[1]}"


@pytest.fixture(scope="module")
def spied_run(verl_main_ppo, tmp_path_factory):
    """Three steps through verl's own entry point, with a reward function that fails for one title:
    the run folder and the spy's notes."""
    notes = tmp_path_factory.mktemp("spy")
    run = verl_main_ppo(
        FLAKY_REWARD,
        "algorithm.adv_estimator=shape_grpo",
        "+algorithm.shape_grpo.allocator=shapley",
        "reward.reward_manager.name=multi_candidate",
        "trainer.v1.trainer_mode=shape_grpo_spy",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={STEPS}",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=vllm_spy.SpyExtension",
        SPY=str(notes),
        VERL_USE_EXTERNAL_MODULES="pipeline_spy",
        PYTHONPATH=PATHS,
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


def test_rewards_and_spans_are_those_of_the_text(updates, task, policy, spied_run):
    """Decoding a span gives a candidate; the rating table gives its reward."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    with np.load(task / "ratings.npz") as table:
        known = dict(zip(table["titles"].tolist(), table["ratings"].T, strict=True))
    found = failed = 0
    for row in itertools.chain(*updates):
        record = json.loads(row["record"])
        text = tokenizer.decode(row["response_ids"], skip_special_tokens=True)
        for start, end, reward in zip(
            record["starts"], record["ends"], record["rewards"], strict=True
        ):
            if reward is None:
                assert text.count("Dune")
                failed += 1
                continue
            # A boundary token may hold a piece of a tag beside the first or last letters.
            title = tokenizer.decode(row["response_ids"][start:end]).strip("<>/candite\n ")
            whole = [film for film in known if film.strip("<>/candite\n ") == title]
            assert title in text
            if reward > 0:
                assert any(reward in known[film] for film in whole), (title, reward)
                found += 1
    assert found > 50
    metrics = read_metrics(spied_run[0])
    assert failed == sum(metrics[step]["shape_grpo/reward_errors"] for step in (1, 2, 3)) > 0
    log = (spied_run[0] / "train.log").read_text()
    # Once as verl reports it and not once a candidate.
    assert 1 <= log.count("ZeroDivisionError: the judge is out of order") <= 2


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
            row["record"] = json.loads(row["record"])
            known = [reward for reward in row["record"]["rewards"] if reward is not None]
            assert row["score"] == pytest.approx(max(known, default=0.0))
            row["unknown"] = bool(row["record"]["rewards"]) and not known
            if not row["unknown"]:
                groups[row["uid"]].append(row["score"])
        for row in rows:
            scores = groups[row["uid"]]
            advantage = 0.0
            if len(scores) > 1 and not row["unknown"]:
                spread = statistics.stdev(scores) + 1e-6
                advantage = (row["score"] - statistics.mean(scores)) / spread
            expected = [advantage * keep for keep in row["mask"]]
            scored = [
                span
                for span in zip(
                    *(row["record"][k] for k in ("rewards", "starts", "ends")), strict=True
                )
                if span[0] is not None
            ]
            shares = brute_force_shares([reward for reward, _, _ in scored])
            for share, (_, start, end) in zip(shares, scored, strict=True):
                weight = share * len(scored) / row["score"] if row["score"] > 0 else 1.0
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


def test_the_exported_checkpoint_is_the_policy_of_the_last_step(spied_run, policy, tmp_path):
    run, notes = spied_run
    export(run, tmp_path / "model", Console(quiet=True))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto").state_dict()
    trained = torch.load(notes / f"trainer-{STEPS}")
    assert exported.keys() >= trained.keys()
    for name, matrix in trained.items():
        assert exported[name].equal(matrix.bfloat16()), name
    text = "<candidate>Élan vital</candidate>"
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (policy, tmp_path / "model")]
    assert tokenizers[0](text)["input_ids"] == tokenizers[1](text)["input_ids"]


def test_on_error_raise_ends_the_run_with_the_traceback(overrides, tmp_path, monkeypatch):
    """Through the recipe's entry point, as the quickstart runs it."""
    monkeypatch.setenv("PYTHONPATH", PATHS)
    strict = [*overrides, FLAKY_REWARD, "algorithm.shape_grpo.on_error=raise"]
    with pytest.raises(TrainingFailed, match="the judge is out of order"):
        launch("strict", strict, tmp_path / "run", steps=1, console=Console(quiet=True))


def test_a_configuration_error_ends_before_ray_starts(overrides, tmp_path):
    wrong = [*overrides, "algorithm.shape_grpo.allocator=shapely"]
    with pytest.raises(TrainingFailed, match="Did you mean shapley"):
        launch("wrong", wrong, tmp_path / "run", steps=1, console=Console(quiet=True))
    assert "Started a local Ray instance" not in (tmp_path / "run/train.log").read_text()
