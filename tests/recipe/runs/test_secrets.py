"""A judge's key stands in the environment alone: nothing that verl prints or writes has it."""

import asyncio
import logging
import traceback
from pathlib import Path
from pprint import pprint
from types import SimpleNamespace

import pytest
import ray
from omegaconf import OmegaConf
from verl.trainer import main_ppo

from recipe.shape_grpo.runs.check import check_config, compose_config
from reward_fns.judge import JudgeSettings, find_judge

ROOT = Path(__file__).parents[3]
KEY = "sk-0123456789abcdef"
KWARGS = "reward.custom_reward_function.reward_kwargs"
JUDGE = f"{KWARGS}.base_url=http://localhost:8000/v1"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JUDGE_KEY", KEY)


def print_as_verl(config):
    """The first lines of verl's task runner."""
    pprint(OmegaConf.to_container(config, resolve=True))


def test_what_verl_prints_of_a_run_with_a_judge_has_not_the_key(monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    config = compose_config(["+task=aclsum", JUDGE, f"{KWARGS}.api_key_env=JUDGE_KEY"])
    check_config(config)
    given = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(ray, "get", lambda result: result)
    runner = SimpleNamespace(run=SimpleNamespace(remote=print_as_verl))
    main_ppo.run_ppo(config, SimpleNamespace(remote=lambda: runner))
    printed = "".join(capfd.readouterr())
    # It is what a run prints, and names where the key is.
    assert "ray init kwargs" in printed and "'api_key_env': 'JUDGE_KEY'" in printed
    assert given and KEY not in repr(given)
    assert KEY not in printed + caplog.text + OmegaConf.to_yaml(config)


@pytest.mark.parametrize(
    "override",
    [
        f"+{KWARGS}.api_key={KEY}",
        f"+ray_kwargs.ray_init.runtime_env.env_vars.JUDGE_KEY={KEY}",
        "+ray_kwargs.ray_init.runtime_env.env_vars.JUDGE_TOKEN='${oc.env:JUDGE_KEY}'",
        f"{KWARGS}.api_key_env={KEY}",
    ],
)
def test_a_key_in_the_configuration_is_refused_in_words_without_it(override):
    with pytest.raises(ValueError, match=r"environment") as refused:
        check_config(compose_config(["+task=aclsum", JUDGE, override]))
    assert KEY not in str(refused.value)


def test_a_judge_that_fails_says_nothing_of_its_key():
    async def ask():
        settings = JudgeSettings(
            base_url="http://127.0.0.1:9/v1", model="judge", api_key_env="JUDGE_KEY", retries=0
        )
        judge = find_judge(settings, None)
        assert judge.client.api_key == KEY
        assert KEY not in repr(settings)
        await judge.score([{"role": "user", "content": "?"}])

    try:
        asyncio.run(ask())
    except Exception as error:
        assert KEY not in "".join(traceback.format_exception(error))
    else:
        pytest.fail("nothing listens there")
