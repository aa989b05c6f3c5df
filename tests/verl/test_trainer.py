"""What the trainer adds to verl's files of rollouts, by verl's own code that writes them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transfer_queue
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, get_trainer_cls
from verl.utils.import_utils import load_class_from_fqn

from shape_grpo.advantage import CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import AGENT_LOOP_MANAGER, RECORD_KEY

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
        trainer._records = trainer._read_records(batch.keys, batch.tags, batch.partition_id)
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
    rows = [extra_fields] * len(KEYS)
    monkeypatch.setattr(transfer_queue, "kv_batch_get", lambda **_: {"extra_fields": rows})
    trainer = object.__new__(get_trainer_cls("shape_grpo"))
    trainer.config = OmegaConf.create({"reward": {"reward_manager": {"name": "multi_candidate"}}})
    trainer.shape_grpo_config = ShapeGRPOConfig()
    with pytest.raises(RuntimeError, match="Leave reward_score unset"):
        trainer._compute_advantage(batch, {})


@pytest.mark.parametrize(
    ("manager", "given", "expected"),
    [
        ("multi_candidate", None, AGENT_LOOP_MANAGER),
        ("multi_candidate", "mine.Manager", "mine.Manager"),
        ("naive", None, None),
    ],
)
def test_the_agent_loops_tell_the_turns_to_our_reward_manager(
    monkeypatch, manager, given, expected
):
    """verl's task runner reads the key after it has built the trainer, of the same object."""
    trainer_cls = get_trainer_cls("shape_grpo")
    monkeypatch.setattr(trainer_cls.__mro__[2], "__init__", lambda self, config: None)
    monkeypatch.setattr(
        "shape_grpo.verl.trainer.check_trainer_config", lambda config: ShapeGRPOConfig()
    )
    config = OmegaConf.create(
        {
            "trainer": {"v1": {"trainer_mode": "shape_grpo"}},
            "reward": {"reward_manager": {"name": manager}},
            "data": {"train_batch_size": 2},
            "actor_rollout_ref": {"rollout": {"n": 2, "agent": {"num_workers": 1}}},
        }
    )
    OmegaConf.set_struct(config, True)
    if given is not None:
        OmegaConf.update(
            config, "actor_rollout_ref.rollout.agent.agent_loop_manager_class", given,
            force_add=True,
        )  # fmt: skip
    trainer_cls(config)
    agent = config.actor_rollout_ref.rollout.agent
    assert agent.get("agent_loop_manager_class") == expected


def test_verl_finds_our_agent_loop_manager_by_its_name():
    found = load_class_from_fqn(AGENT_LOOP_MANAGER, "AgentLoopManager")
    assert issubclass(found, AgentLoopManagerTQ)
