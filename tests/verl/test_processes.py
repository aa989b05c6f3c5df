"""Reward functions in processes, as verl's reward workers have them."""

import asyncio
import os
import time

import numpy as np
import psutil
import pytest
import ray
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from shape_grpo.advantage import CandidateRecord
from shape_grpo.verl.checks import RECORD_KEY
from tests.trl.tiny_policy import byte_tokenizer

REWARD = """
from __future__ import annotations
import os, pickle, signal, sys, time
from dataclasses import dataclass

@dataclass
class Answer:
    text: str

def compute_score(data_source, solution_str, ground_truth, extra_info, scale=1):
    if solution_str == "leaves":
        os._exit(3)
    if solution_str == "hangs":
        time.sleep(1000)
    answer = pickle.loads(pickle.dumps(Answer(solution_str)))
    where = {"pid": os.getpid(), "has_verl": "verl" in sys.modules}
    return {"score": scale * len(answer.text), **where}
"""


def score(config, *candidates):
    """Return what a reward worker of verl returns for a response: reward, details, record."""
    tokenizer = byte_tokenizer()
    manager = load_reward_manager(config, tokenizer)
    text = "".join(f"<candidate>{each}</candidate>" for each in candidates)
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    data = DataProto.from_dict(
        tensors={
            "prompts": torch.tensor([[5]]),
            "responses": torch.tensor([ids]),
            "attention_mask": torch.ones(1, 1 + len(ids), dtype=torch.long),
        },
        non_tensors={
            "data_source": np.array(["mine"], dtype=object),
            "reward_model": np.array([{"ground_truth": np.arange(3)}], dtype=object),
            "extra_info": np.array([{"history": np.array(["Alien"])}], dtype=object),
            "__num_turns__": np.array([2]),
        },
    )

    async def main():
        manager.loop = asyncio.get_running_loop()
        return await manager.run_single(data)

    result = asyncio.run(main())
    info = result["reward_extra_info"]
    return result["reward_score"], info, CandidateRecord.from_json(info[RECORD_KEY])


@pytest.fixture
def config(recipe_config, tmp_path):
    (tmp_path / "my_reward.py").write_text(REWARD)
    config = recipe_config.copy()
    config.reward.custom_reward_function = {
        "path": str(tmp_path / "my_reward.py"),
        "name": "compute_score",
        "reward_kwargs": {"scale": 2},
    }
    config.reward.reward_manager.name = "multi_candidate"
    block = {"reward_calls": "processes", "reward_timeout": 5.0}
    OmegaConf.update(config, "algorithm.shape_grpo", block, force_add=True)
    return config


def test_a_file_is_scored_in_processes_that_do_not_import_verl(config):
    reward, info, record = score(config, "a", "leaves", "bbb", "hangs")
    assert reward == 6 and record.rewards == [2, None, 6, None]
    assert info["pid"] != os.getpid() and not info["has_verl"]


def test_in_threads_verl_loads_the_same_file(config):
    """Its dataclass and pickle look for the module in sys.modules, where verl alone has it not."""
    config.algorithm.shape_grpo.reward_calls = "threads"
    reward, info, record = score(config, "a", "bbb")
    assert reward == 6 and record.rewards == [2, 6] and info["pid"] == os.getpid()


def test_the_process_of_a_killed_ray_actor_is_gone(config):
    @ray.remote(num_cpus=0)
    class Worker:
        def pid(self):
            return score(config, "a")[1]["pid"]

    ray.init(num_cpus=1, include_dashboard=False, ignore_reinit_error=True)
    try:
        worker = Worker.remote()
        pid = ray.get(worker.pid.remote())
        assert psutil.pid_exists(pid)
        ray.kill(worker)
        deadline = time.monotonic() + 60
        while psutil.pid_exists(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not psutil.pid_exists(pid)
    finally:
        ray.shutdown()
