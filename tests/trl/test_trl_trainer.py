"""The trainer on responses that are given, against verl's estimator, TRL's own GRPO and by hand."""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.ray_trainer import compute_advantage

from shape_grpo.advantage import CandidateBatch, CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import RECORD_KEY
from shape_grpo.verl.context import CandidatesInContext, candidates_in_context
from tests.trl import two_processes
from tests.trl.tiny_policy import RecitedGRPO, answer, byte_tokenizer, make_trainer, scored_batch

ROOT = Path(__file__).parents[2]
STARS = {"five": 5.0, "four": 4.0, "three": 3.0, "zwölf 🎬": 1.5}


def stars(completions, **columns):
    return [STARS.get(text, 0.0) for text in completions]


def random_responses(seed, count):
    rng = random.Random(seed)
    return [
        answer(
            *rng.choices([*STARS, "unknown", ""], k=rng.randrange(5)),
            before=rng.choice(["", "Sure: "]),
            after=rng.choice(["", ".", "\n<candidate>cut"]),
        )
        for _ in range(count)
    ]


def advantages_through_verl(responses, group_size, **block):
    """The same texts through verl's reward manager and estimator: (N, T)."""
    with initialize_config_dir(str(ROOT / "recipe/shape_grpo/config"), version_base=None):
        config = compose("shape_grpo_trainer")
    config.actor_rollout_ref.rollout.response_length = 200
    OmegaConf.update(config, "algorithm.shape_grpo", block, force_add=True)
    tokenizer = byte_tokenizer()
    ids = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id][:200] for text in responses]
    width = max(map(len, ids))
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    padded = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids])

    def compute_score(data_source, solution_str, ground_truth, extra_info, **rest):
        return STARS.get(solution_str, 0.0)

    async def score(row):
        manager = get_reward_manager_cls("multi_candidate")(config, tokenizer, compute_score)
        manager.loop = asyncio.get_running_loop()
        fields = {"data_source": "d", "reward_model": {"ground_truth": ""}}
        # As in `make_trainer`, a prompt of one token.
        prompt = torch.tensor([tokenizer("p")["input_ids"]])
        with_prompt = torch.cat([torch.ones_like(prompt), mask[row : row + 1]], dim=1)
        responses = padded[row : row + 1]
        data = DataProto.from_dict(
            tensors={"prompts": prompt, "responses": responses, "attention_mask": with_prompt},
            non_tensors={k: np.array([v], dtype=object) for k, v in fields.items()},
        )
        return await manager.run_single(data)

    results = [asyncio.run(score(row)) for row in range(len(ids))]
    records = [
        CandidateRecord.from_json(result["reward_extra_info"][RECORD_KEY]) for result in results
    ]
    method = ShapeGRPOConfig.from_algorithm(config.algorithm).method
    rewards = torch.zeros(mask.shape)
    rewards[:, -1] = torch.tensor([result["reward_score"] for result in results])
    batch = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask},
        non_tensors={"uid": np.array([f"p{n // group_size}" for n in range(len(ids))], object)},
    )
    collated = CandidateBatch.collate(records, vectors=method.utility.takes_vectors)
    shares, rows = collated.compute_shares(method), torch.arange(len(ids))
    with candidates_in_context(CandidatesInContext(collated, shares, rows, method)):
        data = compute_advantage(batch, adv_estimator="shape_grpo", config=config.algorithm)
    return data.batch["advantages"]


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"length_correction": True, "duplicate": "floor", "floor_reward": 0.5},
        {"advantage": "pooled", "allocator": "leave_one_out", "max_candidates": 2},
        {"advantage": "normalize", "utility": "top_m", "utility_options": {"m": 2}},
        {"advantage": "reweight_positive", "empty": "score", "truncated": "floor"},
        {
            "advantage": "praise",
            "allocator": "beta_shapley",
            "allocator_options": {"alpha": 3.0, "beta": 1.0},
            "length_correction": True,
        },
        {"advantage": "contrast", "allocator": "leave_one_out"},
    ],
)
def test_a_batch_gets_the_advantages_that_it_gets_in_verl(tmp_path, block):
    responses = random_responses(seed=len(str(block)), count=12)
    trainer = make_trainer(tmp_path, stars, responses, prompts=("p", "q", "r"), **block)
    ours = scored_batch(trainer)["advantages"]
    verls = advantages_through_verl(responses, 4, **block)
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(ours, verls, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale_rewards", ["group", "none"])
def test_trls_own_advantages_are_the_allocator_uniform_with_trls_epsilon(tmp_path, scale_rewards):
    responses = random_responses(seed=7, count=12)
    settings = {"scale_rewards": scale_rewards}
    prompts = ("p", "q", "r")

    def best(completions, **columns):
        sets = [text.split("<candidate>")[1:] for text in completions]
        return [
            max((STARS.get(c.split("</candidate>")[0], 0.0) for c in a), default=0.0) for a in sets
        ]

    trls = scored_batch(
        make_trainer(
            tmp_path, best, responses, prompts=prompts, base=RecitedGRPO, settings=settings
        )
    )
    ours = {
        epsilon: scored_batch(
            make_trainer(
                tmp_path, stars, responses, prompts=prompts, settings=settings,
                allocator="uniform", epsilon=epsilon,
            )
        )["advantages"]
        for epsilon in (1e-4, 1e-6)
    }  # fmt: skip
    expected = trls["advantages"].unsqueeze(1) * trls["completion_mask"]
    torch.testing.assert_close(ours[1e-4], expected, atol=1e-6, rtol=1e-6)
    same = torch.allclose(ours[1e-6], expected, atol=1e-6, rtol=1e-6)
    assert same == (scale_rewards == "none")  # only a division by std knows of an epsilon


def test_figure_1_of_the_paper_by_hand(tmp_path):
    """Ratings 5, 4, 3: weights 1.5, 0.9 and 0.6 of GRPO's advantage on the candidates' tokens."""
    responses = [answer("five", "four", "three"), answer("three")]
    advantages = scored_batch(make_trainer(tmp_path, stars, responses))["advantages"][0]
    text = responses[0]  # a token a byte
    weights = [advantages[text.index(word)].item() for word in ("five", "four", "three")]
    grpo = 1 / (2**0.5 + 1e-6)  # scores 5 and 3, whose standard deviation is the root of 2
    assert weights == pytest.approx([1.5 * grpo, 0.9 * grpo, 0.6 * grpo])
    assert advantages[0].item() == advantages[len(text)].item() == pytest.approx(grpo)


LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "vespo", "luspo")


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_allowed_loss_moves_a_token_by_its_own_advantage(tmp_path, loss_type):
    responses = random_responses(seed=2, count=4)
    trainer = make_trainer(tmp_path, stars, responses, settings={"loss_type": loss_type})
    batch = scored_batch(trainer)
    logps = torch.full(batch["completion_mask"].shape, -1.0, requires_grad=True)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, logps.detach(), None)
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model, batch).backward()
    wanted = batch["advantages"] * batch["completion_mask"]
    assert wanted.unique().numel() > 4
    for gradient, advantages in zip(logps.grad, wanted, strict=True):
        scale = -gradient.sum() / advantages.sum()
        torch.testing.assert_close(-gradient, scale * advantages, atol=1e-7, rtol=1e-4)
        assert scale > 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"importance_sampling_level": "sequence"}, "Write importance_sampling_level='token'"),
        ({"scale_rewards": "batch"}, "Write scale_rewards='group' or scale_rewards='none'"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "'sum_then_normalize'"),
        ({"loss_type": "of_tomorrow"}, "no other loss is known"),
    ],
)
def test_settings_that_undo_credit_are_refused_with_what_to_write(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, stars, [""] * 2, settings=settings)


@pytest.mark.parametrize(
    "reward, options, message",
    [
        ("a/reward-model", {}, "'a/reward-model' is no function"),
        (torch.nn.Linear(1, 1), {}, "is no function"),
        ([], {}, "give one function"),
    ],
)
def test_arguments_that_credit_cannot_follow_are_refused(reward, options, message):
    from shape_grpo.trl import ShapEGRPOTrainer

    with pytest.raises(ValueError, match=message):
        ShapEGRPOTrainer("no/model-is-loaded", reward, **options)


def test_a_response_whose_rewards_all_failed_trains_nothing_and_moves_no_statistic(tmp_path):
    def fails(completions, **columns):
        return [float("nan") if text == "bad" else STARS[text] for text in completions]

    responses = [answer("five"), answer("bad", "bad"), answer("three")]
    batch = scored_batch(make_trainer(tmp_path, fails, responses))
    grpo = 1 / (2**0.5 + 1e-6)
    assert batch["advantages"][:, 0].tolist() == pytest.approx([grpo, 0.0, -grpo])


def test_metrics_of_candidates_are_in_the_logs_of_training_and_evaluation(tmp_path):
    responses = [answer("five", "five", "three"), answer("four"), "nothing", answer("three")]
    trainer = make_trainer(tmp_path, stars, responses, duplicate="score")
    trainer.train()
    trainer.evaluate()
    train, test = trainer.state.log_history[0], trainer.state.log_history[-1]
    for logs, prefix in ((train, ""), (test, "eval_")):
        assert logs[f"{prefix}reward"] == pytest.approx(3.0)  # (5 + 4 + 0 + 3) / 4
        assert logs[f"{prefix}rewards/set_utility/mean"] == pytest.approx(3.0)
        assert logs[f"{prefix}shape_grpo/num_candidates"] == 5 / 4
        assert logs[f"{prefix}shape_grpo/responses_without_candidates"] == 1 / 4
        assert logs[f"{prefix}shape_grpo/duplicate_candidates"] == 1
        assert logs[f"{prefix}shape_grpo/candidate_reward"] == pytest.approx(4.0)
    assert train["grad_norm"] > 0


def test_a_truncated_response_is_masked_where_trl_is_told_so(tmp_path):
    responses = [answer("five", "four"), answer("three", "five", "four", "one")]
    settings = {"mask_truncated_completions": True, "max_completion_length": 80}
    batch = scored_batch(make_trainer(tmp_path, stars, responses, settings=settings))
    assert (batch["advantages"][0] != 0).sum() == 0  # both sets are worth 5
    responses[0] = answer("three")
    batch = scored_batch(make_trainer(tmp_path, stars, responses, settings=settings))
    assert batch["advantages"][0, 0] < 0 and not batch["advantages"][1].any()


@pytest.mark.parametrize("units", ["candidates", "rollouts"])
def test_two_processes_that_share_groups_give_the_advantages_of_one(tmp_path, units):
    """12 responses to 3 prompts: each process has six, so the second group is split in two; one
    of its responses has no reward."""
    port = str(free_port())
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, str(tmp_path), units],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    two_processes.main(tmp_path, units)
    alone = json.loads((tmp_path / "of_1-0.json").read_text())
    halves = [json.loads((tmp_path / f"of_2-{rank}.json").read_text()) for rank in range(2)]
    assert len(alone["advantages"]) == 12 and len(halves[0]["advantages"]) == 6
    both = halves[0]["advantages"] + halves[1]["advantages"]
    for ours, theirs in zip(both, alone["advantages"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert any(abs(value) > 0.1 for row in both for value in row)
    for half in halves:
        assert half["metrics"] == pytest.approx(alone["metrics"])
    if units == "candidates":
        assert alone["metrics"]["shape_grpo/reward_errors"] == 2


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
