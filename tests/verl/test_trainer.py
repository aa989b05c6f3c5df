"""What the trainer adds to verl's files of rollouts, by verl's own code that writes them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transfer_queue
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import get_trainer_cls

from shape_grpo.advantage import CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import RECORD_KEY
from shape_grpo.verl.trainer import _read_answers, _record
from tests.verl.fake_queue import scored

KEYS = ["b_1_0", "a_0_0", "b_0_0", "b_0_1", "padding_0_0"]
"""In the order of the queue; b_0 gave two outputs, of which the last is scored."""


@pytest.fixture
def batch(monkeypatch):
    rows = range(len(KEYS))
    records = [CandidateRecord([float(row)], [row], [row + 1]) for row in rows]
    fields = {
        "uid": np.array(KEYS),
        "prompts": torch.nested.nested_tensor([torch.tensor([1])] * len(KEYS)),
        "responses": torch.nested.nested_tensor([torch.tensor([row]) for row in rows]),
        "rm_scores": torch.arange(len(KEYS)).float().unsqueeze(1),
        "extra_fields": [{"reward_extra_info": {RECORD_KEY: r.to_json()}} for r in records],
    }
    monkeypatch.setattr(
        transfer_queue, "kv_batch_get", lambda keys, select_fields, **_: {
            name: fields[name]
            if keys == KEYS
            else [fields[name][KEYS.index(key)] for key in keys]
            for name in select_fields
            if name in fields
        },
    )  # fmt: skip
    tags = [{"is_padding": key.startswith("padding")} for key in KEYS]
    return SimpleNamespace(keys=KEYS, partition_id="train", tags=tags)


@pytest.mark.parametrize("manager", ["multi_candidate", "naive"])
def test_rollouts_hold_the_record_of_each_answer(batch, tmp_path, manager):
    trainer = object.__new__(get_trainer_cls("shape_grpo"))
    trainer.config = OmegaConf.create({"reward": {"reward_manager": {"name": manager}}})
    trainer.shape_grpo_config = ShapeGRPOConfig()
    trainer.tokenizer = SimpleNamespace(pad_token_id=0, decode=lambda ids, **_: str(ids.tolist()))
    trainer.timing_raw, trainer.global_steps = {}, 7
    trainer._init_dump_executor()
    if trainer._has_records:
        fields = _read_answers(batch.keys, batch.tags, batch.partition_id)
        trainer._records = {key: _record(key, of_answer) for key, of_answer in fields.items()}
    trainer._log_rollout_data(batch, {}, str(tmp_path))
    trainer._shutdown_dump_executor()

    lines = [json.loads(line) for line in (tmp_path / "7.jsonl").read_text().splitlines()]
    # Sorted by verl.
    assert [line["uid"] for line in lines] == ["a_0_0", "b_0_0", "b_0_1", "b_1_0", "padding_0_0"]
    if manager == "naive":
        assert not any(RECORD_KEY in line for line in lines)
        return
    rewards = {
        line["uid"]: json.loads(line[RECORD_KEY])["rewards"] for line in lines if line[RECORD_KEY]
    }
    assert rewards == {"a_0_0": [1.0], "b_0_1": [3.0], "b_1_0": [0.0]}
    assert trainer._records_to_write == {}


@pytest.mark.parametrize("extra_fields", [{}, {"reward_extra_info": {}}])
def test_a_response_that_its_agent_loop_scored_ends_the_run_with_what_to_do(
    batch, monkeypatch, extra_fields
):
    monkeypatch.setattr(
        transfer_queue,
        "kv_batch_get",
        lambda keys, **_: {"extra_fields": [extra_fields] * len(keys)},
    )
    trainer = object.__new__(get_trainer_cls("shape_grpo"))
    trainer.config = OmegaConf.create({"reward": {"reward_manager": {"name": "multi_candidate"}}})
    trainer.shape_grpo_config, trainer.global_steps = ShapeGRPOConfig(log_samples_every=0), 1
    with pytest.raises(RuntimeError, match="Leave reward_score unset"):
        trainer._compute_advantage(batch, {})


@pytest.mark.parametrize("estimator", ["shape_grpo", "grpo"])
@pytest.mark.parametrize("floor", ["lowest", -1.0])
def test_empty_answers_have_one_floor_whichever_worker_scored_them(
    make_trainer, run_step, queue, estimator, floor
):
    """Each worker knows its own lowest reward: the first empty answer here knew none."""
    trainer = make_trainer(floor_reward=floor)
    trainer.config.algorithm.adv_estimator = estimator
    own = [0.0, -2.0, -1.0] if floor == "lowest" else [-1.0] * 3
    first, second, third = (CandidateRecord(floor=each) for each in own)
    records = [first, scored(-3.0), second, third, *[scored(-2.0), scored(-1.0)] * 2]
    _, metrics = run_step(trainer, records)
    keys = list(queue.fields)[:4]
    worth = -3.0 if floor == "lowest" else -1.0
    assert [queue.fields[key]["rm_scores"][-1] for key in keys] == [worth, -3.0, worth, worth]
    assert [trainer._records[key].floor for key in keys] == [worth, None, worth, worth]
    assert metrics["shape_grpo/floor_above_reward"] == (0 if floor == "lowest" else 1)
    # Equal scores teach nothing; the empty answer above a score of its group is praised.
    praise = [queue.fields[key]["advantages"].max().item() for key in keys]
    assert praise[2:] == [0, 0] and (praise[0] > 0) == (floor != "lowest")


@pytest.mark.parametrize(
    ("utility", "own", "worth"),
    [
        # A set of candidates under the rule floor alone, and one with a repeat.
        ("max", CandidateRecord([0.0], [0], [1], floor_places=[0], floor=0.0), -3.0),
        ("sum", CandidateRecord([0.0], [0], [1], floor_places=[0], floor=0.0), -3.0),
        ("mean", CandidateRecord([-1.0, -1.0], [0, 1], [1, 2], floor_places=[1]), -2.0),
        ("max", CandidateRecord([-1.0, -1.0], [0, 1], [1, 2], floor_places=[1]), -1.0),
    ],
)
def test_candidates_under_floor_have_one_reward_whichever_worker_scored_them(
    make_trainer, run_step, queue, utility, own, worth
):
    trainer = make_trainer(utility=utility)
    run_step(trainer, [own, scored(-3.0), *[scored(-2.0), scored(-1.0)] * 3])
    first, *_ = queue.fields
    assert queue.fields[first]["rm_scores"][-1] == worth
    record = trainer._records[first]
    assert trainer.shape_grpo_config.score(record) == worth
    assert record.rewards[record.floor_places[0]] == -3.0
