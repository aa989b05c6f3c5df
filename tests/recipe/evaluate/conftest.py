import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.recipe.film_task import make_policy, prepare, write_ratings


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """Four test prompts, for sets of three of 12 films."""
    folder = tmp_path_factory.mktemp("task with space")
    prepare("movielens", folder, write_ratings(tmp_path_factory.mktemp("ratings")))
    make_policy(folder / "policy")
    return folder


@pytest.fixture(scope="session")
def policy(task):
    return task / "policy"


def write_checkpoint(actor, policy):
    """What verl's FSDP checkpoint manager leaves of a run on one device."""
    (actor / "huggingface").mkdir(parents=True)
    model = AutoModelForCausalLM.from_pretrained(policy)
    model.config.save_pretrained(actor / "huggingface")
    AutoTokenizer.from_pretrained(policy).save_pretrained(actor / "huggingface")
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))


@pytest.fixture
def run(policy, tmp_path):
    """A run's folder with the steps 2 and 10, the newest of which is 10."""
    checkpoints = tmp_path / "run/checkpoints"
    for step in (2, 10):
        write_checkpoint(checkpoints / f"global_step_{step}/actor", policy)
    (checkpoints / "latest_checkpointed_iteration.txt").write_text("10")
    return tmp_path / "run"
