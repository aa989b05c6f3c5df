"""The block algorithm.shape_grpo fails at start, with the allowed values in the message."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from shape_grpo.verl.config import ShapeGRPOConfig, check_trainer_config


def read(**block):
    return ShapeGRPOConfig.from_algorithm(OmegaConf.create({"shape_grpo": block}))


@pytest.fixture(scope="module")
def trainer_config():
    folder = Path(__file__).parents[2] / "recipe/shape_grpo/config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("shape_grpo_trainer")


def test_absent_block_gives_the_defaults():
    assert ShapeGRPOConfig.from_algorithm(OmegaConf.create({})) == ShapeGRPOConfig()


def test_yaml_of_the_recipe_states_the_defaults_and_every_key(trainer_config):
    written = OmegaConf.to_container(trainer_config.algorithm.shape_grpo)
    assert written == vars(ShapeGRPOConfig())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"utillity": "max"}, r"utillity: unknown key\. Did you mean utility\?.*allocator"),
        ({"utility": "median"}, r"utility=median: unknown value.*Allowed: .*max"),
        ({"utility": "top_m"}, r"utility_options=\{\}: .*needs the option 'm'"),
        ({"utility_options": {"m": 2}}, r"utility_options=\{'m': 2\}: .*'max' has no option 'm'"),
        ({"utility": "noisy_or", "floor_reward": -1}, r"floor_reward=-1.*noisy_or.*0 to 1"),
        ({"utility": "custom", "utility_options": {"function": "f"}}, r"package\.module:function"),
        ({"allocator": "shapely"}, r"allocator=shapely.*Did you mean shapley\?"),
        ({"advantage": "normalise"}, r"advantage=normalise: unknown value.*reweight"),
        ({"format": "json"}, r"format=json.*xml, numbered"),
        ({"truncated": "keep"}, r"truncated=keep.*score, floor, drop"),
        ({"on_error": "ignore"}, r"on_error=ignore.*skip, raise"),
        ({"max_candidates": 0}, r"max_candidates=0: must be 1 or more"),
        ({"max_candidates": "many"}, r"algorithm\.shape_grpo\.max_candidates.*many"),
        ({"epsilon": 0.0}, r"epsilon=0\.0: must be positive"),
        ({"length_correction": "maybe"}, r"algorithm\.shape_grpo\.length_correction.*maybe"),
    ],
)
def test_a_wrong_block_says_what_to_write(block, message):
    with pytest.raises(ValueError, match=message):
        read(**block)


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
    ],
)
def test_a_trainer_that_could_not_work_is_refused(trainer_config, change, message):
    config = trainer_config.copy()
    for key, value in change.items():
        OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match=message):
        check_trainer_config(config)


def test_the_recipe_and_a_stock_baseline_pass(trainer_config):
    assert check_trainer_config(trainer_config) == ShapeGRPOConfig()
    baseline = trainer_config.copy()
    baseline.algorithm.adv_estimator = "grpo"
    baseline.trainer.v1.trainer_mode = "sync"
    check_trainer_config(baseline)
