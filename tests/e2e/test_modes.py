"""The real pipeline in verl's other modes, and a run whose rewards all fail."""

import json
import re
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from transformers import AutoTokenizer

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings, save_policy
from recipe.shape_grpo.policies.warm_start import make_policy
from recipe.shape_grpo.tasks.common import answer_text
from tests.e2e.film_tool import CALL, WORDS
from tests.e2e.plain_loops import check_advantages, check_weights, read_updates

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
# A server of its own, on a second device in Ray's book-keeping, and two updates a step.
SEPARATE = [
    "ray_kwargs.ray_init.num_gpus=2",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=1",
    "actor_rollout_ref.rollout.checkpoint_engine.backend=tcp_store",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "trainer.v1.separate_async.parameter_sync_step=2",
]
STEPS = 2


@pytest.fixture(scope="module")
def policy_that_asks(task, tmp_path_factory):
    """It calls the tool first, and answers then with three of the films."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    rng = np.random.default_rng(0)
    with np.load(task / "ratings.npz") as table:
        films = table["titles"].tolist()
    prompts = [list(prompt) for prompt in pd.read_parquet(task / "train.parquet")["prompt"]]

    def draw(count):
        examples = []
        for number in range(count):
            asked = prompts[rng.integers(len(prompts))]
            told = [{"role": "assistant", "content": CALL}, {"role": "tool", "content": WORDS}]
            answer = answer_text(rng.choice(films, 3, replace=False))
            examples.append(([*asked, *told], answer) if number % 2 else (asked, CALL))
        return examples

    settings = PolicySettings(vocabulary=400, width=64, positions=512, steps=200, batch=32)
    save_policy(*make_policy(draw, settings, Console(quiet=True)), folder)
    return folder


@pytest.fixture(scope="module")
def colocated(spied, policy_that_asks):
    """Two steps of `colocate_async`, through verl's own tool agent loop and its filter of groups;
    in the third every reward fails. One run, because most of a run's time is its start."""
    multi_turn = "actor_rollout_ref.rollout.multi_turn"
    return spied(
        "shape_grpo_colocate_async",
        f"actor_rollout_ref.model.path={policy_that_asks}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent",
        f"{multi_turn}.enable=true",
        f"{multi_turn}.function_tool_path={HERE}/film_tool.py",
        "data.max_response_length=256",
        "actor_rollout_ref.rollout.max_model_len=512",
        f"reward.custom_reward_function.path={HERE}/late_failure.py",
        "algorithm.filter_groups.enable=true",
        "algorithm.filter_groups.metric=reward",
        f"trainer.total_training_steps={STEPS + 1}",
        "trainer.val_before_train=false",
        fails=True,
    )


@pytest.fixture(scope="module")
def separate(spied):
    """Two steps of `separate_async`."""
    steps = [f"trainer.total_training_steps={STEPS}", "trainer.val_before_train=false"]
    return spied("shape_grpo_separate_async", *SEPARATE, *steps)


@pytest.mark.parametrize(("mode", "updates_a_step"), [("colocated", 1), ("separate", 2)])
def test_a_mode_trains_with_the_advantages_of_the_paper(request, mode, updates_a_step):
    """And vLLM, which writes on while the policy changes, gets its weights after every step."""
    run, notes = request.getfixturevalue(mode)
    updates = read_updates(notes)
    assert len(updates) == STEPS * updates_a_step
    check_advantages(updates)
    check_weights(notes, STEPS + 1)
    metrics = read_metrics(run)
    assert sorted(metrics) == list(range(1, STEPS + 1))
    for step in metrics.values():
        assert step["shape_grpo/responses"] == step["shape_grpo/responses_expected"]


def test_what_a_tool_wrote_is_not_the_policys(colocated, policy_that_asks):
    """Only the last turn holds candidates."""
    updates = read_updates(colocated[1])
    tokenizer = AutoTokenizer.from_pretrained(policy_that_asks)
    told = credited = 0
    for rows in updates:
        for row in rows:
            record = json.loads(row["record"])
            foreign = [place for place, keep in enumerate(row["mask"]) if not keep]
            text = tokenizer.decode(row["response_ids"])
            told += WORDS in text
            for start, end in zip(record["starts"], record["ends"], strict=True):
                assert start > max(foreign, default=-1)
                assert tokenizer.decode(row["response_ids"][start:end]).strip("<>/candite\n ")
                credited += 1
    assert told > len(updates) * len(updates[0]) / 2
    assert credited > told


def test_filter_groups_ends_where_every_reward_fails(colocated):
    """Without the budget it drops every group and asks for others, for ever."""
    log = (colocated[0] / "train.log").read_text()
    assert re.search(r"(?s)max_error_share=0\.5.*ConnectionError: the judge is down", log)


@pytest.mark.slow
def test_of_several_outputs_the_last_is_credited_and_the_padding_is_not(spied, tmp_path):
    """verl pads the 16 answers and about 8 drafts of a step to whole mini-batches."""
    loops = tmp_path / "loops.yaml"
    loops.write_text("- name: draft_agent\n  _target_: tests.e2e.draft_agent_loop.DraftAgentLoop\n")
    run, notes = spied(
        "shape_grpo",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={loops}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=draft_agent",
        "trainer.total_training_steps=2",
        "trainer.val_before_train=false",
    )
    answers = []
    for rows in read_updates(notes):
        padding = [row for row in rows if not any(row["mask"])]
        drafts = [row for row in rows if row["is_draft"] and any(row["mask"])]
        answers.append([row for row in rows if not row["is_draft"] and any(row["mask"])])
        assert padding and drafts and len(answers[-1]) == 16
        assert all(not any(row["advantages"]) for row in padding)
        for draft in drafts:
            scores = [row["score"] for row in answers[-1] if row["uid"] == draft["uid"]]
            advantage = (draft["score"] - mean(scores)) / (stdev(scores) + 1e-6)
            expected = [advantage * keep for keep in draft["mask"]]
            assert draft["advantages"] == pytest.approx(expected, abs=1e-4)
    check_advantages(answers)
    assert [data["shape_grpo/responses"] for _, data in sorted(read_metrics(run).items())] == [
        16
    ] * 2
