"""What verl gives a reward manager and takes from it: rows A17 to A28 of ``rows.py``."""

import asyncio
import inspect
from functools import partial
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics
from verl.trainer.ppo.v1 import AgentLoopWorkerTQ, get_trainer_cls
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from tests.contract.sources import source

AgentLoopWorker = AgentLoopWorkerTQ.__ray_actor_class__


@pytest.fixture(scope="module")
def scored():
    """(what a reward worker gets of two outputs, the outputs), by verl's own worker."""
    made = [
        AgentLoopOutput(
            prompt_ids=[1] * prompt,
            response_ids=list(range(2, 2 + length)),
            response_mask=[1] * length,
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={"tool_rewards": []},
        )
        for prompt, length in [(2, 5), (4, 3)]
    ]
    seen = []

    async def score(data):
        seen.append(data)
        return {"reward_score": 0.5, "reward_extra_info": {"acc": 1}}

    worker = object.__new__(AgentLoopWorker)
    manager = SimpleNamespace(name="naive")
    worker.config = SimpleNamespace(reward=SimpleNamespace(reward_manager=manager))
    remote = SimpleNamespace(compute_score=SimpleNamespace(remote=score))
    worker.reward_loop_worker_handles = [remote]
    worker.processor, worker.mm_processor_kwargs = None, {}
    fields = {"data_source": "films", "reward_model": {"ground_truth": "7"}, "extra_info": {}}
    asyncio.run(worker._compute_score(made, fields))
    return seen[0], made


def test_A17_what_the_manager_returned_stands_in_extra_fields(scored):
    last = scored[1][-1]
    assert last.reward_score == 0.5 and last.extra_fields["reward_extra_info"] == {"acc": 1}
    assert 'output.extra_fields["reward_extra_info"]' in source(
        AgentLoopWorker._agent_loop_postprocess
    )
    row = last.as_dict()
    assert row["extra_fields"]["reward_extra_info"] == {"acc": 1}
    assert row["rm_scores"].tolist() == [0, 0, 0.5]


def test_A18_A37_strings_are_no_metrics_and_nones_are_passed_over():
    trainer = object.__new__(get_trainer_cls("sync"))
    infos = {"reward": [1.0, 0.0], "shape_grpo": ["{}", None], "acc": [1.0, 0.0]}
    metrics = trainer._val_metrics_update(["films"] * 2, ["a", "b"], infos, [])
    assert metrics and not any("shape_grpo" in name for name in metrics)
    text = source(PPOTrainer._validate)
    assert (
        "self._val_metrics_update(" in text and "reward_extra_infos_dict[key].append(None)" in text
    )


def test_A22_the_base_of_reward_managers_keeps_the_loop_that_runs(config):
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    class Manager(RewardManagerBase):
        async def run_single(self, data): ...

    async def main():
        return Manager(config, None, None).loop is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_A23_a_manager_is_made_with_these_keywords():
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
    from verl.trainer.ppo import reward

    worker = RewardLoopWorker
    text = source(getattr(worker, "__ray_actor_class__", worker)._init_reward_fn)
    made = source(reward.load_reward_manager)
    for name in ("config=config", "tokenizer=tokenizer", "compute_score=final_compute_score"):
        assert name in made
    for name in ("reward_router_address=", "reward_model_tokenizer="):
        assert name in text


def test_A25_sequences_are_padded_on_the_right_and_their_lengths_told(scored):
    data = scored[0]
    assert len(data) == 2
    mask, responses = data.batch["attention_mask"], data.batch["responses"]
    assert mask.tolist() == [[1] * 7, [1] * 7] and responses.shape == (2, 5)
    # The mask's tail is as long as the longest response, and here not the last one's.
    assert mask[-1, -5:].sum() == 5
    assert data.non_tensor_batch["response_len"].tolist() == [5, 3]
    assert set(data.batch.keys()) >= {"prompts", "responses", "attention_mask", "input_ids"}


def test_A26_beside_them_are_the_datas_columns_turns_and_extra_fields(scored):
    data, _ = scored
    fields = data.non_tensor_batch
    assert set(fields) >= {
        *("data_source", "reward_model", "extra_info"),
        *("tool_extra_fields", "__num_turns__", "response_len"),
    }
    assert fields["__num_turns__"].tolist() == [2, 2]
    assert fields["tool_extra_fields"][-1]["tool_rewards"] == []
    # Where this is there one day, the agent loop worker of this package is needless.
    assert "response_mask" not in data.batch


def test_A28_a_reward_function_with_keywords_is_still_seen_to_be_async(tmp_path, config):
    from verl.trainer.ppo.reward import get_custom_reward_fn

    path = tmp_path / "reward.py"
    path.write_text("async def compute_score(**kwargs):\n    return kwargs")
    changed = config.copy()
    changed.reward.custom_reward_function.path = str(path)
    keywords = "reward.custom_reward_function.reward_kwargs"
    OmegaConf.update(changed, keywords, {"threshold": 2}, force_add=True)
    score = get_custom_reward_fn(changed)
    assert isinstance(score, partial) and inspect.iscoroutinefunction(score)
    assert asyncio.run(score(solution_str="a")) == {"solution_str": "a", "threshold": 2}
