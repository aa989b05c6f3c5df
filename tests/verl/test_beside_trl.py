"""verl beside a TRL that is too new for verl 0.9.1, in fresh processes."""

import os
import subprocess
import sys

import pytest

BUILD_A_MODEL = """
import verl
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.models.transformers.monkey_patch import apply_monkey_patch
sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, vocab_size=64)
model = Qwen3ForCausalLM(Qwen3Config(num_attention_heads=2, num_key_value_heads=2, **sizes))
apply_monkey_patch(model, use_remove_padding=False, ulysses_sp_size=1)
"""


def build_a_model(**environment):
    """Build a model as verl's FSDP engine does."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD_A_MODEL],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_verl_builds_models_beside_a_trl_without_the_class_that_it_patches():
    pytest.importorskip("trl")
    result = build_a_model()
    assert result.returncode == 0, result.stderr[-2000:]


def test_verl_builds_no_models_without_the_plugin():
    """If this fails, shape_grpo/verl/beside_trl.py is no longer needed."""
    pytest.importorskip("trl")
    result = build_a_model(VERL_USE_EXTERNAL_PLUGINS="none")
    assert result.returncode == 1
    assert "cannot import name 'AutoModelForCausalLMWithValueHead'" in result.stderr
