import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.files import write_stamp
from recipe.shape_grpo.policies.tiny_qwen3 import (
    PolicySettings,
    answer_loss,
    collate,
    draw_example,
    main,
    new_model,
    train_policy,
    train_tokenizer,
    warm_start,
)
from shape_grpo.candidates import parse_candidates

TITLES = [
    *("The Usual Suspects", "M*A*S*H", "Shall We Dance?", "12 Angry Men", "Amélie", "七人の侍"),
    *("Apollo 13", "Toy Story", "The Net", "2001: A Space Odyssey", "Fargo", "Heat"),
]
SETTINGS = PolicySettings(vocabulary=400, width=32, layers=1, steps=20, batch=8)
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


def test_examples_name_different_films_in_the_format_of_the_parser():
    lengths = set()
    for messages, answer in draw(200):
        suggested = [candidate.text for candidate in parse_candidates(answer)]
        shown = [title for title in TITLES if title in messages[0]["content"]]
        lengths.add(len(shown))
        assert len(set(suggested)) == len(suggested) == 3
        assert set(suggested) <= set(TITLES)
        assert not set(suggested) & set(shown)
    assert lengths == {0, 1, 2, 3}


def test_examples_carry_no_taste():
    answers = [answer for _, answer in draw(2000)]
    counts = [sum(title in answer for answer in answers) for title in TITLES]
    assert max(counts) - min(counts) < 6 * np.sqrt(500)


@pytest.mark.parametrize(
    "text",
    [
        "<candidate>The Usual Suspects</candidate>",
        "a text it has never seen, 123 \t\n\n é 七人の侍 🎬",
        "<candidate>",
    ],
)
def test_tokenizer_round_trip(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_chat_format_is_qwens(tokenizer):
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]).count("<|im_start|>") == 2


def test_model_has_one_row_a_token(model, tokenizer):
    assert model.lm_head.weight.shape == model.model.embed_tokens.weight.shape
    assert model.lm_head.weight.shape[0] == len(tokenizer) <= SETTINGS.vocabulary
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_loss_is_transformers_own_on_the_answers(model, tokenizer):
    examples = draw(6, seed=1)
    ids, is_answer = collate(examples, tokenizer)
    for row, mark, (_, answer) in zip(ids, is_answer, examples, strict=True):
        assert tokenizer.decode(row[mark]) == answer + "<|im_end|>"
    labels = ids.masked_fill(~is_answer, -100)
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(answer_loss(model, ids, is_answer), expected)


def test_warm_start_learns(tokenizer):
    torch.manual_seed(0)
    model = new_model(tokenizer, SETTINGS)
    held_out = collate(draw(32, seed=9), tokenizer)
    with torch.no_grad():
        before = answer_loss(model, *held_out).item()
    warm_start(model, tokenizer, draw, SETTINGS, QUIET)
    with torch.no_grad():
        assert answer_loss(model, *held_out).item() < before - 1


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    np.savez(folder / "ratings.npz", titles=np.array(TITLES))
    write_stamp(folder, {"candidates": 3, "history": 2})
    return folder


def test_saved_policy_loads_and_is_reused(task, tmp_path):
    train_policy(task, tmp_path, SETTINGS, QUIET)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.architectures == ["Qwen3ForCausalLM"]
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template

    weights = (tmp_path / "model.safetensors").read_bytes()
    time = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train_policy(task, tmp_path, SETTINGS, QUIET)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == time

    write_stamp(task, {"candidates": 2, "history": 2})
    train_policy(task, tmp_path, SETTINGS, QUIET)
    assert (tmp_path / "model.safetensors").read_bytes() != weights


def test_missing_task_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"small_policy: no task in .*tasks.movielens"):
        main(["--task", str(tmp_path), "--output", str(tmp_path / "policy")])
