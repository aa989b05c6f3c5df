"""Refusal of wrong configurations before a run starts, also through verl's own entry point."""

import re
from contextlib import nullcontext

import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import (
    ADV_ESTIMATOR_REGISTRY,
    POLICY_LOSS_REGISTRY,
    get_policy_loss_fn,
)
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from verl.workers.config import ActorConfig, PolicyLossConfig

from shape_grpo.candidates import FORMATS
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.registry import closest
from shape_grpo.verl.checks import ESTIMATORS, TOKEN_LOSS_MODES, check_trainer_config
from shape_grpo.verl.keys import references
from shape_grpo.verl.trainer import CandidateTrainerMixin
from shape_grpo.verl.values import NAMES, check_values

REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info, threshold=1, **kwargs):
    return 1.0
"""


@pytest.fixture
def changed(recipe_config):
    """changed(keys to values) -> a configuration with these values."""

    def run(change):
        config = recipe_config.copy()
        for key, value in change.items():
            OmegaConf.update(config, key, value, force_add=True)
        return config

    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainer.v1.trainer_mode": "sync"}, "trainer_mode=shape_grpo\\."),
        (
            {"trainer.v1.trainer_mode": "colocate_async"},
            "trainer_mode=shape_grpo_colocate_async",
        ),
        ({"trainer.use_v1": False}, "trainer.use_v1=true"),
        ({"reward.reward_manager.name": "naive"}, "reward_manager.name=multi_candidate"),
        ({"algorithm.use_kl_in_reward": True}, "use_kl_loss=true instead"),
        ({"reward.reward_model.enable": True}, "custom_reward_function.path"),
        (
            {
                "reward.reward_model.enable": True,
                "reward.custom_reward_function.path": "judge.py",
            },
            "enable_resource_pool=true",
        ),
        (
            {
                "algorithm.adv_estimator": "grpo",
                "reward.reward_model.enable": True,
                "reward.custom_reward_function.path": "judge.py",
            },
            "reward_manager.name=naive for a baseline",
        ),
    ],
)
def test_a_trainer_that_could_not_work_is_refused(changed, change, message):
    with pytest.raises(ValueError, match=message):
        check_trainer_config(changed(change))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_passes(changed, tmp_path, format):
    (tmp_path / "format.py").write_text("def find_candidates(answer): return []")
    options = {"regex": {"pattern": "(a)"}, "function": {"path": str(tmp_path / "format.py")}}
    block = {"format": format, "format_options": options.get(format, {})}
    config = changed({f"algorithm.shape_grpo.{key}": value for key, value in block.items()})
    assert check_trainer_config(config).format == format


def test_the_recipe_and_a_stock_baseline_pass(recipe_config):
    assert check_trainer_config(recipe_config) == ShapeGRPOConfig()
    baseline = recipe_config.copy()
    baseline.algorithm.adv_estimator = "grpo"
    baseline.trainer.v1.trainer_mode = "sync"
    check_trainer_config(baseline)


def gradients(loss_mode, loss_agg_mode="token-mean"):
    """Return (2, 4) gradients of verl's loss in each token's log-probability, and the advantages.

    The policy is on-policy; both responses have the same mean advantage, and masked tokens.
    """
    advantages = torch.tensor([[2.0, -1.0, 0.5, 9.0], [1.0, 0.0, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    log_prob = torch.log(torch.tensor([[0.5, 0.4, 0.3, 0.2], [0.6, 0.7, 0.8, 0.9]]))
    old_log_prob = log_prob.clone()
    log_prob.requires_grad_()
    config = ActorConfig(
        strategy="fsdp2",
        rollout_n=8,
        use_dynamic_bsz=True,
        loss_agg_mode=loss_agg_mode,
        policy_loss=PolicyLossConfig(loss_mode=loss_mode, dro_beta=0.1),
    )
    loss, _ = get_policy_loss_fn(loss_mode)(
        old_log_prob=old_log_prob,
        log_prob=log_prob,
        advantages=advantages,
        response_mask=mask,
        loss_agg_mode=loss_agg_mode,
        config=config,
    )
    loss.backward()
    return -log_prob.grad, advantages * mask


def test_every_loss_mode_of_verl_is_decided():
    assert set(POLICY_LOSS_REGISTRY) == {*TOKEN_LOSS_MODES, "geo_mean"}


# The other two modes select a few tokens to leave out or penalise, at least one of these five.
@pytest.mark.parametrize("mode", [m for m in TOKEN_LOSS_MODES if m not in ("clip_cov", "kl_cov")])
def test_an_allowed_loss_mode_uses_each_tokens_own_advantage(mode):
    pull, advantages = gradients(mode)
    scale = pull[0, 0] / advantages[0, 0]
    assert scale > 0
    if mode == "sapo":  # Each response's mean, and another temperature below 0, on-policy the same.
        scale = torch.stack([scale, scale * 3 / 2]).unsqueeze(1)
    torch.testing.assert_close(pull, advantages * scale)


@pytest.mark.parametrize("mode", ["clip_cov", "kl_cov"])
def test_a_loss_mode_that_selects_tokens_uses_the_others_own_advantages(mode):
    pull, advantages = gradients(mode)
    scale = (pull / advantages)[advantages != 0]
    assert (torch.isclose(scale, scale.median())).sum() >= 3 and scale.median() > 0


@pytest.mark.parametrize(
    "loss_agg_mode",
    [
        *("token-mean", "token-sum", "seq-mean-token-mean"),
        *("seq-mean-token-sum", "seq-mean-token-sum-norm"),
    ],
)
def test_every_aggregation_keeps_the_tokens_of_a_response_in_proportion(loss_agg_mode):
    pull, advantages = gradients("vanilla", loss_agg_mode)
    for row in range(2):
        scale = pull[row, 0] / advantages[row, 0]
        torch.testing.assert_close(pull[row], advantages[row] * scale)


def test_the_refused_loss_mode_treats_all_tokens_alike(changed):
    pull, advantages = gradients("geo_mean")
    torch.testing.assert_close(pull[0, 0], pull[0, 1])
    assert advantages[0, 0] != advantages[0, 1]
    mode = {"actor_rollout_ref.actor.policy_loss.loss_mode": "geo_mean"}
    with pytest.raises(ValueError, match="would train like grpo"):
        check_trainer_config(changed(mode))
    check_trainer_config(changed({**mode, "algorithm.adv_estimator": "grpo"}))


def test_an_unknown_loss_mode_is_warned_of(changed):
    mode = {"actor_rollout_ref.actor.policy_loss.loss_mode": "mine"}
    with pytest.warns(UserWarning, match="loss_mode=mine is unknown to this package"):
        check_trainer_config(changed(mode))


def test_no_name_of_verls_counts_as_a_misspelt_one_of_ours(changed):
    for key, names in (
        ("algorithm.adv_estimator", ADV_ESTIMATOR_REGISTRY),
        ("trainer.v1.trainer_mode", TRAINER_REGISTRY),
    ):
        for name in names:
            if name not in ESTIMATORS:
                check_trainer_config(changed({"algorithm.adv_estimator": "grpo", key: name}))


def test_keys_of_verls_other_engines_are_accepted(changed):
    check_trainer_config(changed({f"{ACTOR}.megatron": {"tensor_model_parallel_size": 2}}))


ACTOR = "actor_rollout_ref.actor"
BATCHES = {
    # keys, expected message; None if the sizes fit
    "mini-batches leave a rest": (
        {"data.train_batch_size": 64, f"{ACTOR}.ppo_mini_batch_size": 48},
        "train_batch_size=64 is not a multiple of .*ppo_mini_batch_size=48",
    ),
    "responses do not divide": ({"trainer.n_gpus_per_node": 3}, "divide evenly among 3 GPUs"),
    "three nodes": ({"trainer.n_gpus_per_node": 8, "trainer.nnodes": 3}, "among 24 GPUs"),
    "micro-batches leave a rest": (
        {f"{ACTOR}.ppo_micro_batch_size_per_gpu": 24},
        "32 responses per GPU and update are not a multiple of .*24",
    ),
    "micro-batches by tokens": (
        {f"{ACTOR}.ppo_micro_batch_size_per_gpu": 24, f"{ACTOR}.use_dynamic_bsz": True},
        None,
    ),
    "12 GPUs in groups of 3 that share sequences": (
        {"trainer.n_gpus_per_node": 12, f"{ACTOR}.ulysses_sequence_parallel_size": 3},
        None,
    ),
    "Megatron distributes responses differently": (
        {"trainer.n_gpus_per_node": 3, f"{ACTOR}.strategy": "megatron"},
        None,
    ),
}


def assert_checked(config, message):
    """The check raises a ValueError with ``message``, or passes where it is None."""
    raised = nullcontext() if message is None else pytest.raises(ValueError, match=message)
    with raised:
        check_trainer_config(config)


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
@pytest.mark.parametrize(("change", "message"), BATCHES.values(), ids=BATCHES)
def test_batch_sizes_that_do_not_divide_are_refused(changed, change, message, adv_estimator):
    config = changed({"algorithm.adv_estimator": adv_estimator, **change})
    assert_checked(config, message)


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"treshold": 2},
            "reward_kwargs.treshold: .*has no such parameter.*Did you mean threshold",
        ),
        ({"threshold": 2}, None),
        ({"anything": 2}, None),
    ],
)
def test_a_misspelt_keyword_of_the_reward_is_refused(
    changed, tmp_path, kwargs, message, adv_estimator
):
    path = tmp_path / "reward.py"
    path.write_text(REWARD)
    function = {"path": str(path), "name": "compute_score", "reward_kwargs": kwargs}
    config = changed(
        {
            "algorithm.adv_estimator": adv_estimator,
            "reward.custom_reward_function": function,
        }
    )
    assert_checked(config, message)


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
def test_the_trainer_itself_refuses_what_the_checks_refuse(changed, tmp_path, adv_estimator):
    """verl's entry point calls no other part of this package first."""
    path = tmp_path / "reward.py"
    path.write_text(REWARD)
    function = {"path": str(path), "name": "compute_score", "reward_kwargs": {"treshold": 2}}
    estimator = {"algorithm.adv_estimator": adv_estimator}
    for change, message in (
        ({"data.train_batch_size": 65}, "not a multiple of"),
        ({"reward.custom_reward_function": function}, "Did you mean threshold"),
    ):
        with pytest.raises(ValueError, match=message):
            CandidateTrainerMixin(changed({**estimator, **change}))


@pytest.mark.parametrize("estimator", ["shape_grpo", "grpo"])
def test_one_response_per_prompt_is_warned_of(changed, estimator):
    config = changed({"actor_rollout_ref.rollout.n": 1, "algorithm.adv_estimator": estimator})
    with pytest.warns(UserWarning, match=r"rollout\.n=1: .* raw reward\. Write .*rollout\.n=8"):
        check_trainer_config(config)


ROLLOUT, ACTOR = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
VALUES = [
    # key, value, what the message must say
    # Hydra leaves these as text, and verl takes text for true.
    (f"{ACTOR}.use_kl_loss", "no", "takes for true. Write actor_rollout_ref.actor.use_kl_loss=fal"),
    ("algorithm.filter_groups.enable", "off", "takes for true"),
    ("trainer.val_before_train", "n", "takes for true"),
    ("critic.enable", "No", "takes for true"),  # Null in verl's files.
    (f"{ACTOR}.use_remove_padding", "no", "takes for true"),  # Copies another key there.
    (f"{ACTOR}.megatron.use_dist_checkpointing", "no", "takes for true"),  # Another engine's.
    ("data.shuffle", "maybe", "must be true or false"),
    (f"{ACTOR}.optim.lr", "1e-3x", "must be a number"),
    ("data.seed", "abc", "data.seed=abc: must be a number"),
    ("data.max_response_length", "abc", "data.max_response_length=abc: must be a number"),
    ("data.train_batch_size", 0, "=0: write a whole number of 1 or more"),
    ("data.train_batch_size", None, "=null: write a whole number of 1 or more"),
    ("data.max_prompt_length", -1, "whole number"),
    (f"{ACTOR}.ppo_mini_batch_size", 0, "whole number"),
    (f"{ROLLOUT}.n", None, "whole number"),
    (f"{ROLLOUT}.val_kwargs.n", 0, "whole number"),
    ("reward.num_workers", 0, "whole number"),
    ("trainer.n_gpus_per_node", 0, "whole number"),
    ("trainer.total_training_steps", -1, "whole number"),
    ("trainer.total_epochs", 0, "whole number"),
    ("trainer", None, "trainer=null: verl needs this block"),
    ("reward.custom_reward_function", None, "verl needs this block"),
    ("reward", 5, "reward=5: verl needs this block"),
    ("actor_rollout_ref.model.path", None, "model.path=null: verl needs it"),
    ("trainer.default_local_dir", None, "verl needs it"),
    ("data.train_max_samples", None, "verl needs it"),
    ("data.truncation", "rigth", "Did you mean right"),
    ("trainer.resume_mode", "Auto", "Did you mean auto"),
    ("algorithm.adv_estimator", "grp", "Did you mean grpo"),
    ("reward.reward_manager.name", "naiv", "Did you mean naive"),
    (f"{ROLLOUT}.name", "vlm", "Did you mean vllm"),
    (f"{ACTOR}.strategy", "fspd", "Did you mean fsdp"),
    ("trainer.device", "gpu", "Did you mean cuda"),
    (f"{ROLLOUT}.agent.default_agent_loop", "single_turn", "Did you mean single_turn_agent"),
]


@pytest.mark.parametrize(("key", "value", "says"), VALUES, ids=[f"{k}={v}" for k, v, _ in VALUES])
def test_a_value_of_another_kind_is_refused(changed, key, value, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        check_values(changed({key: value}))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"data.shuffle": "on"},  # Which verl takes for what is meant.
        {f"{ACTOR}.optim.lr": "1e-6"},
        {"data.filter_overlong_prompts_workers": None},
        {"algorithm.rollout_correction": None},
        {"algorithm.adv_estimator": "grpo_of_mine"},
        {"trainer.total_epochs": 0, "trainer.val_only": True},
        {f"{ROLLOUT}.agent.default_agent_loop": "react_agent"},
    ],
    ids=str,
)
def test_a_value_that_verl_takes_passes(changed, change):
    check_values(changed(change))


def test_verls_own_files_pass():
    """Their kinds are what values are compared with; some interpolate what is not there."""
    for reference in references():
        config = OmegaConf.create(reference)
        config.actor_rollout_ref.rollout.name = "vllm"
        check_values(config)


def test_verls_own_names_are_known():
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.workers.rollout.base import _ROLLOUT_REGISTRY

    verls = {
        "algorithm.adv_estimator": [*map(str, ADV_ESTIMATOR_REGISTRY)],
        "reward.reward_manager.name": [*REWARD_MANAGER],
        f"{ROLLOUT}.name": [name for name, _ in _ROLLOUT_REGISTRY],
        f"{ROLLOUT}.agent.default_agent_loop": [*_agent_loop_registry],
    }
    for key, registered in verls.items():
        for name in registered:
            close = closest(name, NAMES[key], cutoff=0.75)
            assert name in NAMES[key] or not close or name.startswith(close), (key, name)
