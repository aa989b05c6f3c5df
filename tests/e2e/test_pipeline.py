"""The real pipeline on the CPU: Ray, FSDP2 on gloo, a vLLM server and its weight sync."""

import itertools
import json
import math
import os
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.evaluate.checkpoint import export
from recipe.shape_grpo.runs.launch import TrainingFailed, launch
from tests.docs.documented_metrics import undocumented
from tests.e2e.plain_loops import check_advantages, check_weights, read_updates

pytestmark = pytest.mark.e2e

STEPS = 3
HERE = Path(__file__).parent
FLAKY_REWARD = f"reward.custom_reward_function.path={HERE}/flaky_reward.py"
ROOT = HERE.parents[1]
KEY = f"sk-{secrets.token_hex()}"


@pytest.fixture(scope="module")
def spied_run(spied):
    """Three steps through verl's own entry point, with a reward function that fails for one title
    and a judge's key in the environment: the run folder and the spy's notes."""
    steps = [f"trainer.total_training_steps={STEPS}", f"trainer.save_freq={STEPS}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUDGE_KEY", KEY)
        return spied("shape_grpo", *steps, FLAKY_REWARD)


@pytest.fixture(scope="module")
def updates(spied_run):
    """The rows that reached the actor, one list an update."""
    return read_updates(spied_run[1])


def test_every_step_is_logged_with_our_metrics_beside_verls(spied_run):
    metrics = read_metrics(spied_run[0])
    assert sorted(metrics) == [0, 1, 2, 3]
    assert undocumented({name for data in metrics.values() for name in data}) == []
    for step in (1, 2, 3):
        assert metrics[step]["shape_grpo/num_candidates"] > 0
        assert math.isfinite(metrics[step]["actor/grad_norm"])
        best = metrics[step]["shape_grpo/best_candidate_reward"]
        empty = metrics[step]["shape_grpo/responses_without_candidates"]
        assert metrics[step]["critic/score/mean"] == pytest.approx(best * (1 - empty))


def test_samples_of_the_first_step_lie_beside_the_metrics(spied_run):
    page = (spied_run[0] / "metrics.samples.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## Step 1"]
    assert page.count("### Set reward ") == 4
    assert "| candidate | reward | weight | advantage |" in page


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


def test_the_actor_gets_the_advantages_that_the_logged_rewards_imply(updates):
    check_advantages(updates)


def test_weights_in_vllm_follow_the_trainer(spied_run):
    """After every sync vLLM multiplies by the trainer's matrices, bit for bit; and they move."""
    check_weights(spied_run[1], STEPS + 1)


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


def test_a_key_in_the_environment_is_in_no_file_of_the_run(spied_run):
    """Logs, metrics, samples, checkpoints, and what Hydra and Ray write."""
    run, _ = spied_run
    files = [
        Path(folder, name) for folder, _, names in os.walk(run, followlinks=True) for name in names
    ]
    files = [file for file in files if file.is_file()]
    kinds = {file.relative_to(run).parts[0] for file in files}
    assert kinds >= {"train.log", "metrics.jsonl", "metrics.samples.md", "checkpoints", "hydra"}
    assert any("logs" in file.parts for file in files)
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []


@pytest.mark.slow
def test_on_error_raise_ends_the_run_with_the_traceback(overrides, tmp_path, monkeypatch):
    """Through the recipe's entry point, as the quickstart runs it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    strict = [*overrides, FLAKY_REWARD, "algorithm.shape_grpo.on_error=raise"]
    with pytest.raises(TrainingFailed, match="the judge is out of order"):
        launch("strict", strict, tmp_path / "run", console=Console(quiet=True))


def test_a_configuration_error_ends_before_ray_starts(overrides, tmp_path):
    wrong = [*overrides, "algorithm.shape_grpo.allocator=shapely"]
    with pytest.raises(TrainingFailed, match="Did you mean shapley"):
        launch("wrong", wrong, tmp_path / "run", console=Console(quiet=True))
    assert "Started a local Ray instance" not in (tmp_path / "run/train.log").read_text()
