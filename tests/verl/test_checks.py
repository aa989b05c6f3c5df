"""What could not work is refused before anything starts, by verl's own entry point too."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import check_trainer_config
from shape_grpo.verl.trainer import CandidateTrainerMixin

REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info, threshold=1, **kwargs):
    return 1.0
"""


@pytest.fixture(scope="module")
def trainer_config():
    folder = Path(__file__).parents[2] / "recipe/shape_grpo/config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("shape_grpo_trainer")


@pytest.fixture
def changed(trainer_config):
    """changed(keys to values) -> a configuration with these."""

    def run(change):
        config = trainer_config.copy()
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


def test_the_recipe_and_a_stock_baseline_pass(trainer_config):
    assert check_trainer_config(trainer_config) == ShapeGRPOConfig()
    baseline = trainer_config.copy()
    baseline.algorithm.adv_estimator = "grpo"
    baseline.trainer.v1.trainer_mode = "sync"
    check_trainer_config(baseline)


ACTOR = "actor_rollout_ref.actor"
BATCHES = {
    # keys, what the message must say; None where the sizes fit
    "mini-batches leave a rest": (
        {"data.train_batch_size": 64, f"{ACTOR}.ppo_mini_batch_size": 48},
        "train_batch_size=64 is no multiple of .*ppo_mini_batch_size=48",
    ),
    "responses do not divide": ({"trainer.n_gpus_per_node": 3}, "do not divide among 3 GPUs"),
    "three nodes": ({"trainer.n_gpus_per_node": 8, "trainer.nnodes": 3}, "among 24 GPUs"),
    "micro-batches leave a rest": (
        {f"{ACTOR}.ppo_micro_batch_size_per_gpu": 24},
        "32 responses a GPU and update are no multiple of .*24",
    ),
    "micro-batches by tokens": (
        {f"{ACTOR}.ppo_micro_batch_size_per_gpu": 24, f"{ACTOR}.use_dynamic_bsz": True},
        None,
    ),
    "12 GPUs in groups of 3 that share sequences": (
        {"trainer.n_gpus_per_node": 12, f"{ACTOR}.ulysses_sequence_parallel_size": 3},
        None,
    ),
    "Megatron spreads responses otherwise": (
        {"trainer.n_gpus_per_node": 3, f"{ACTOR}.strategy": "megatron"},
        None,
    ),
}


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
@pytest.mark.parametrize(("change", "message"), BATCHES.values(), ids=BATCHES)
def test_batch_sizes_that_do_not_divide_are_refused(changed, change, message, adv_estimator):
    config = changed({"algorithm.adv_estimator": adv_estimator, **change})
    if message is None:
        check_trainer_config(config)
        return
    with pytest.raises(ValueError, match=message):
        check_trainer_config(config)


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"treshold": 2}, "reward_kwargs.treshold: .*does not name it.*Did you mean threshold"),
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
    if message is None:
        check_trainer_config(config)
        return
    with pytest.raises(ValueError, match=message):
        check_trainer_config(config)


@pytest.mark.parametrize("adv_estimator", ["shape_grpo", "grpo"])
def test_the_trainer_itself_refuses_what_the_checks_refuse(changed, tmp_path, adv_estimator):
    """verl's entry point calls nothing of this package before it."""
    path = tmp_path / "reward.py"
    path.write_text(REWARD)
    function = {"path": str(path), "name": "compute_score", "reward_kwargs": {"treshold": 2}}
    estimator = {"algorithm.adv_estimator": adv_estimator}
    for change, message in (
        ({"data.train_batch_size": 65}, "no multiple of"),
        ({"reward.custom_reward_function": function}, "Did you mean threshold"),
    ):
        with pytest.raises(ValueError, match=message):
            CandidateTrainerMixin(changed({**estimator, **change}))
