"""The block algorithm.shape_grpo fails at start, with the allowed values in the message."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from recipe.shape_grpo.runs.check import compose_config
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.methods import METHODS


def read(**block):
    return ShapeGRPOConfig.from_algorithm(OmegaConf.create({"shape_grpo": block}))


def test_absent_block_gives_the_defaults():
    assert ShapeGRPOConfig.from_algorithm(OmegaConf.create({})) == ShapeGRPOConfig()


def test_the_recipe_has_the_defaults_and_every_key():
    config = compose_config(["trainer.v1.trainer_mode=shape_grpo"])
    block = OmegaConf.to_container(config.algorithm.shape_grpo)
    assert block == ShapeGRPOConfig.block_defaults()
    assert ShapeGRPOConfig.from_algorithm(config.algorithm) == ShapeGRPOConfig()


def test_the_documented_defaults_are_those_of_the_block():
    document = Path(__file__).parents[1] / "recipe/shape_grpo/docs/configuration.md"
    table = document.read_text().partition("| key | default |")[2].partition("\n\n")[0]
    documented = {}
    for line in table.splitlines()[2:]:
        keys, default = line.split(" | ")[:2]
        value = yaml.safe_load(default.strip("`"))
        documented |= dict.fromkeys(re.findall(r"`(\w+)`", keys), value)
    assert ShapeGRPOConfig.from_algorithm({"shape_grpo": documented}) == ShapeGRPOConfig()
    assert set(documented) == set(ShapeGRPOConfig.block_defaults())


def test_verls_switch_is_no_key_of_the_block():
    algorithm = {"norm_adv_by_std_in_grpo": False}
    assert not ShapeGRPOConfig.from_algorithm(algorithm).method.norm_by_std
    with pytest.raises(ValueError, match=r"algorithm.shape_grpo.norm_by_std: unknown key"):
        read(norm_by_std=False)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"reward_timeout": 0}, "reward_timeout=0.0: must be a number of seconds above 0"),
        ({"reward_timeout": float("inf")}, "reward_timeout=inf: must be"),
        ({"utillity": "max"}, r"utillity: unknown key\. Did you mean utility\?.*allocator"),
        ({"utility": "median"}, r"utility=median: unknown value.*Allowed: .*max"),
        ({"utility": "top_m"}, r"utility_options=\{\}: .*needs the option 'm'"),
        ({"utility_options": {"m": 2}}, r"utility_options=\{'m': 2\}: .*'max' has no option 'm'"),
        ({"utility": "noisy_or", "floor_reward": -1}, r"floor_reward=-1.*noisy_or.*0 to 1"),
        ({"utility": "custom", "utility_options": {"function": "f"}}, r"package\.module:function"),
        ({"allocator": "shapely"}, r"allocator=shapely.*Did you mean shapley\?"),
        ({"allocator": "beta_shapley"}, r"allocator_options=\{\}: .*needs the option 'alpha'"),
        (
            {"allocator": "beta_shapley", "allocator_options": {"alpha": -1, "beta": 1}},
            r"allocator_options=.*alpha to be a finite number above 0",
        ),
        (
            {"allocator_options": {"alpha": 3}},
            r"allocator_options=.*'shapley' has no option 'alpha'",
        ),
        ({"advantage": "normalise"}, r"advantage=normalise: unknown value.*reweight"),
        (
            {"format": "jsn"},
            r"format=jsn: unknown value\. Did you mean json\?.*: .*json.*numbered.*xml",
        ),
        ({"format_options": {"tagg": "a"}}, r"format_options=\{'tagg': 'a'\}: .*no option 'tagg'"),
        ({"format_options": {"tag": "<a>"}}, r"format_options=.*tag='<a>': must be a name"),
        ({"format": "regex"}, r"format_options=\{\}: .*needs the option 'pattern'"),
        ({"thoughts": "no"}, r"thoughts=no: write auto .*, none .*, or two different marks"),
        ({"thoughts": ["<a>", "<a>"]}, r"thoughts=.*two different marks"),
        ({"turns": "first"}, r"turns=first: unknown value.*last, all"),
        (
            {"ignore_thoughts": False},
            r"\.ignore_thoughts: there is no such key any more: write thoughts=none for ignore_th",
        ),
        ({"truncated": "keep"}, r"truncated=keep.*score, floor, drop"),
        ({"on_error": "ignore"}, r"on_error=ignore.*skip, raise"),
        ({"reward_calls": "process"}, r"reward_calls=process: .*Did you mean processes\?"),
        ({"max_error_share": 1.5}, r"max_error_share=1\.5: must be from 0 to 1"),
        ({"error_window": 0}, r"error_window=0: must be 1 step or more"),
        ({"log_samples_every": -1}, r"log_samples_every=-1: must be a number of steps, or 0"),
        ({"log_samples": 0}, r"log_samples=0: must be 1 or more.*log_samples_every=0"),
        ({"max_candidates": 0}, r"max_candidates=0: must be 1 or more"),
        ({"max_candidates": "many"}, r"algorithm\.shape_grpo\.max_candidates.*many"),
        ({"epsilon": 0.0}, r"epsilon=0\.0: must be positive"),
        ({"length_correction": "maybe"}, r"algorithm\.shape_grpo\.length_correction.*maybe"),
    ],
)
def test_a_wrong_block_says_what_to_write(block, message):
    with pytest.raises(ValueError, match=message):
        read(**block)


def test_a_block_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"algorithm\.shape_grpo=shapley: must be a block"):
        ShapeGRPOConfig.from_algorithm({"shape_grpo": "shapley"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"advantage": "pool"}, r"^advantage=pool: unknown value\. Did you mean pooled\?"),
        ({"max_candidates": 0}, r"^max_candidates=0: must be 1 or more"),
        ({"max_candidates": "many"}, r"^max_candidates: .*many"),
        ({"utility": "top_m"}, r"^utility_options=\{\}: .*needs the option 'm'"),
        ({"surplus": "keep"}, r"^surplus=keep: unknown value.*score, floor, drop"),
        ({"epsilon": "???"}, r"^epsilon=\?\?\?: missing; write its value"),
    ],
)
def test_without_verl_the_message_names_the_field(settings, message):
    with pytest.raises(ValueError, match=message):
        ShapeGRPOConfig(**settings)


def test_values_get_the_types_of_their_fields():
    config = ShapeGRPOConfig(epsilon="1e-5", max_candidates="3", floor_reward=1)
    assert (config.epsilon, config.max_candidates) == (1e-5, 3)
    assert type(config.floor_reward) is float


def test_thoughts_may_be_a_pair_of_marks_of_ones_own():
    config = read(thoughts=["<a>", "</a>"], format="json", format_options={"key": "text"})
    assert config.thoughts == ["<a>", "</a>"] and config.answer_format.key == "text"
    assert config.known_thoughts.answer("<a>x</a>y") == (8, 9)


def test_a_utility_of_ones_own_may_be_the_function_itself():
    def longest(rewards, coalitions):
        return (rewards * coalitions).amax(dim=1)

    config = ShapeGRPOConfig(utility="custom", utility_options={"function": longest})
    rewards = torch.tensor([[1.0, 3.0]])
    assert config.method.utility.value(rewards, torch.ones(1, 2, dtype=torch.bool)).tolist() == [
        3.0
    ]


def test_a_validated_configuration_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        ShapeGRPOConfig().allocator = "shapely"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"format_options": {"attributes": "no"}}, "attributes='no': must be true or false"),
        (
            {"format": "regex", "format_options": {"pattern": "(a)", "seconds": True}},
            "seconds=True: must be a number",
        ),
        (
            {"utility": "top_m", "utility_options": {"m": 2, "average": "no"}},
            "average='no': must be true or false",
        ),
        (
            {"utility": "softmax", "utility_options": {"temperature": "abc"}},
            "temperature='abc': must be a number",
        ),
        ({"utility": "owa", "utility_options": {"weights": 2}}, "utility_options=.*weights.*: "),
        (
            {"allocator": "beta_shapley", "allocator_options": {"alpha": "a", "beta": 1}},
            "alpha=?.*'a'",
        ),
    ],
)
def test_an_option_of_a_wrong_type_is_refused(block, message):
    """Hydra reads no and off as texts, which Python takes for true."""
    with pytest.raises(ValueError, match=message):
        ShapeGRPOConfig(**block)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "best_of_k"])
def test_a_named_method_has_the_settings_of_verls_flag(name):
    more = ["+algorithm.shape_grpo.utility_options.components=3"] if "vpo" in name else []
    options = {"utility_options": {"components": 3}} if more else {}
    algorithm = compose_config([f"+method={name}", *more]).algorithm
    if algorithm.adv_estimator == "grpo":
        algorithm.shape_grpo.allocator = "uniform"
    expected = ShapeGRPOConfig.from_algorithm(algorithm)
    assert ShapeGRPOConfig.from_method(name, **options) == expected


def test_a_named_method_takes_further_settings():
    found = ShapeGRPOConfig.from_method("praise", allocator_options={"alpha": 2}, epsilon="1e-4")
    expected = {"allocator_options": {"alpha": 2, "beta": 1.0}, "epsilon": 1e-4}
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.advantage == "praise"
    assert ShapeGRPOConfig.from_method("praise", allocator="shapley").allocator_options == {}
    with pytest.raises(ValueError, match=r"credits the rollouts of a prompt: write RolloutsTrain"):
        ShapeGRPOConfig.from_method("best_of_k")
    with pytest.raises(ValueError, match=r"method=prase: unknown value\. Did you mean praise\?"):
        ShapeGRPOConfig.from_method("prase")
    with pytest.raises(ValueError, match=r"dublicate: unknown setting\. Did you mean duplicate\?"):
        ShapeGRPOConfig.from_method("praise", dublicate="drop")
