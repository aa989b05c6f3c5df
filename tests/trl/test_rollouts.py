"""Sets of rollouts in TRL, against TRL's own advantages and plain loops."""

import re
from statistics import fmean, stdev

import pytest
import torch

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.trl import RolloutsTrainer
from tests.credit import oracles
from tests.trl.tiny_policy import RecitedGRPO, RecitedRollouts, make_trainer, scored_batch

RESPONSES = ["one", "three", "eleven", "four", "a", "bb", "ccc", "ccc", "x", "x", "x", "x"]
PROMPTS = ("p", "q", "r")


def length(completions, **columns):
    return [float(len(text)) for text in completions]


async def vowels(completions, **columns):
    """It applies to answers with a vowel."""
    counts = [sum(letter in "aeiou" for letter in text) for text in completions]
    return [float(count) if count else None for count in counts]


def batch_of(tmp_path, base, reward, **options):
    options.setdefault("prompts", PROMPTS)
    return scored_batch(make_trainer(tmp_path, reward, RESPONSES, base=base, **options))


@pytest.mark.parametrize("scale_rewards", ["group", "none"])
@pytest.mark.parametrize("functions", [length, vowels, [length, vowels]])
def test_best_of_1_with_trls_epsilon_is_trls_own(tmp_path, scale_rewards, functions):
    """With two weighted functions, one of them async, and answers that no function applies to."""
    settings = {"scale_rewards": scale_rewards}
    if isinstance(functions, list):
        settings["reward_weights"] = [1.0, -0.5]
    trls = batch_of(tmp_path, RecitedGRPO, functions, settings=settings)
    ours = batch_of(
        tmp_path, RecitedRollouts, functions, settings=settings,
        allocator="best_of_k", allocator_options={"k": 1}, epsilon=1e-4,
    )  # fmt: skip
    assert trls["advantages"].abs().max() > 0.1
    torch.testing.assert_close(ours["advantages"], trls["advantages"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale_rewards", ["group", "none"])
def test_best_of_2_by_all_pairs(tmp_path, scale_rewards):
    found = batch_of(
        tmp_path, RecitedRollouts, length, settings={"scale_rewards": scale_rewards},
        allocator="best_of_k", allocator_options={"k": 2},
    )["advantages"]  # fmt: skip
    expected = []
    for first in (0, 4, 8):
        rewards = [float(len(text)) for text in RESPONSES[first : first + 4]]
        shares = oracles.by_sizes(lambda n: [0, 1, 0, 0])(max, rewards)
        spread = stdev(rewards) + 1e-6 if scale_rewards == "group" else 1.0
        expected += [(share - fmean(shares)) / spread for share in shares]
    assert found.shape == (12,)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


SPREAD = {
    # rewards of three groups of four, the number of groups without spread, what is said
    "constant": ([1.0] * 12, 3, "3 of 3 groups of a step have no spread.*1 in 3.*num_generations"),
    "equal within each": ([1.0] * 4 + [2.0] * 8, 3, "2 in 2, 1 in 1"),
    "most": ([1.0, 2.0] * 2 + [2.0] * 8, 2, "2 of 3 groups"),
    "some": ([1.0, 2.0] * 4 + [2.0] * 4, 1, None),
    "without those of no function": ([1.0, None, 1.0, None] * 3, 3, "1 in 3"),
}


@pytest.mark.parametrize(("rewards", "count", "said"), SPREAD.values(), ids=SPREAD)
def test_groups_of_equal_rewards_are_counted_and_said_once(tmp_path, caplog, rewards, count, said):
    trainer = make_trainer(
        tmp_path, lambda completions, **columns: rewards, RESPONSES, base=RecitedRollouts,
        prompts=PROMPTS, allocator="best_of_k", allocator_options={"k": 2},
    )  # fmt: skip
    scored_batch(trainer)
    scored_batch(trainer)
    assert trainer._metrics["train"]["shape_grpo/groups_without_spread"] == [count] * 2
    warnings = [r.getMessage() for r in caplog.records if "spread" in r.getMessage()]
    assert len(warnings) == (said is not None)
    assert said is None or re.search(said, warnings[0])


def test_it_trains_with_any_loss_of_trls(tmp_path):
    settings = {"loss_type": "dr_grpo", "importance_sampling_level": "sequence"}
    trainer = make_trainer(
        tmp_path, length, RESPONSES, prompts=PROMPTS, base=RecitedRollouts, settings=settings,
        allocator="leave_one_out",
    )  # fmt: skip
    trainer.train()
    trainer.evaluate()
    assert trainer.state.log_history[0]["grad_norm"] > 0


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"allocator": "best_of_k", "allocator_options": {"k": 5}}, "num_generations=4. Write 4"),
        ({"allocator": "uniform"}, "pays all rollouts of a prompt alike"),
        ({"advantage": "praise"}, "advantage=praise: is for candidates within a response"),
        ({"utility": "coverage"}, "TRL's reward functions return one number per completion"),
    ],
)
def test_settings_without_a_meaning_are_refused(tmp_path, block, message):
    with pytest.raises(ValueError, match=message):
        batch_of(tmp_path, RecitedRollouts, length, **block)


def test_other_scales_are_refused_before_a_model_is_loaded(tmp_path):
    from trl import GRPOConfig

    args = GRPOConfig(str(tmp_path), scale_rewards="batch", use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="Write scale_rewards='group' or scale_rewards='none'"):
        RolloutsTrainer("no/model-is-loaded", length, args, shape_grpo=ShapeGRPOConfig())
