"""The warm start: its loss, learning from a task's examples, and reuse of a saved policy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.policies.__main__ import main
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings, new_model, train_tokenizer
from recipe.shape_grpo.policies.warm_start import (
    answer_loss,
    collate,
    describe_answers,
    imitate,
    train_policy,
)
from recipe.shape_grpo.tasks.common import find_tagged
from recipe.shape_grpo.tasks.movielens import draw_example

TITLES = [
    *("The Usual Suspects", "M*A*S*H", "Shall We Dance?", "12 Angry Men", "Amélie", "七人の侍"),
    *("Apollo 13", "Toy Story", "The Net", "2001: A Space Odyssey", "Fargo", "Heat"),
]
SETTINGS = PolicySettings(
    vocabulary=400, width=32, layers=1, steps=20, batch=8, tokenizer_examples=200, sampled=8
)
QUIET = Console(quiet=True)


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_example(TITLES, 3, 3, rng) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [f"{messages[0]['content']}\n{answer}" for messages, answer in draw(200)]
    return train_tokenizer(texts, SETTINGS.vocabulary)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return new_model(tokenizer, SETTINGS)


def test_loss_is_transformers_own_on_the_answers(model, tokenizer):
    examples = draw(6, seed=1)
    ids, is_answer = collate(examples, tokenizer)
    for row, mark, (_, answer) in zip(ids, is_answer, examples, strict=True):
        assert tokenizer.decode(row[mark]) == answer + "<|im_end|>"
    labels = ids.masked_fill(~is_answer, -100)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(answer_loss(model, ids, is_answer), expected)


def test_imitation_learns(tokenizer):
    torch.manual_seed(0)
    model = new_model(tokenizer, SETTINGS)
    held_out = collate(draw(32, seed=9), tokenizer)
    with torch.no_grad():
        before = answer_loss(model, *held_out).item()
    imitate(model, tokenizer, draw, SETTINGS, QUIET)
    with torch.no_grad():
        assert answer_loss(model, *held_out).item() < before - 1


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    np.savez(folder / "ratings.npz", titles=np.array(TITLES))
    write_stamp(folder, {"task": "movielens", "candidates": 3, "history": 2})
    return folder


def test_saved_policy_loads(task, tmp_path):
    train_policy(task, tmp_path / "policy", SETTINGS, QUIET)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    assert model.config.architectures == ["Qwen3ForCausalLM"]
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template


@pytest.mark.parametrize(
    ("settings", "stamp", "why"),
    [
        ({}, {"candidates": 2}, "another K"),
        ({}, {"prompts": ["Name 3 films."]}, "other words in the prompt"),
        ({"steps": 21}, {}, "other settings of the policy"),
    ],
)
def test_policy_is_reused_until_its_task_or_settings_change(settings, stamp, why, task, tmp_path):
    weights = tmp_path / "policy/model.safetensors"
    train_policy(task, tmp_path / "policy", SETTINGS, QUIET)
    first = weights.stat().st_mtime_ns
    train_policy(task, tmp_path / "policy", SETTINGS, QUIET)
    assert weights.stat().st_mtime_ns == first

    write_stamp(task, {"task": "movielens", "candidates": 3, "history": 2, **stamp})
    train_policy(task, tmp_path / "policy", replace(SETTINGS, **settings), QUIET)
    assert weights.stat().st_mtime_ns != first, why


def test_answers_are_described():
    right = "<candidate>Heat</candidate><candidate>Fargo</candidate>"
    answers = [
        right,
        right.replace("Heat", "Fargo"),  # one film twice
        right.replace("Heat", "Hat"),  # no film
        right + "<candidate>The Net</candidate>",  # one too many
        right.removesuffix("</candidate>"),  # cut off
    ]
    text = describe_answers(list(map(find_tagged, answers)), TITLES, 2, steps=600)
    assert "of 5 sampled answers, 60% have 2 candidates and 20% have 2 different ones" in text
    assert "they use 3 of the examples' 12 candidates; for more of them, write a larger " in text
    assert text.endswith("--steps (it is 600)")
    assert "--steps" not in describe_answers([find_tagged(right)], TITLES, 2, steps=600)


def test_missing_task_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"policies tiny: no task in .*shape_grpo.tasks NAME"):
        main(["tiny", str(tmp_path)])


def test_command_writes_beside_the_task(task):
    main(["tiny", str(task), "--steps", "2", "--tokenizer_examples", "20", "--sampled", "2"])
    assert AutoModelForCausalLM.from_pretrained(task / "policy").config.hidden_size == 64


@pytest.mark.parametrize("arguments", [[], ["large"], ["tiny"], ["tiny", "FOLDER", "--k", "3"]])
def test_wrong_usage_ends_with_code_2_and_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
