import pytest
import torch

from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings, new_model, train_tokenizer

SETTINGS = PolicySettings(vocabulary=400, width=32, layers=1)
TEXTS = ["<candidate>Fargo</candidate>", "<candidate>七人の侍</candidate>", "Amélie is a film."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 20, SETTINGS.vocabulary)


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


def test_model_has_one_row_per_token(tokenizer):
    torch.manual_seed(0)
    model = new_model(tokenizer, SETTINGS)
    assert model.lm_head.weight.shape == model.model.embed_tokens.weight.shape
    assert model.lm_head.weight.shape[0] == len(tokenizer) <= SETTINGS.vocabulary
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
