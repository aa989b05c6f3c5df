"""A tiny Qwen3 for machines without a GPU, with a byte-level BPE tokenizer built like Qwen's.

Its folder loads like any Hugging Face model (transformers, vLLM, verl).
"""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
# Pattern by which Qwen's tokenizers split text before merging bytes. As there, "<candidate>" is
# ordinary text, and its ">" may share a token with the first word of the title.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class PolicySettings:
    """Settings of a tiny policy and its training.

    Attributes:
        vocabulary: maximum number of tokens; the model has one row per token of the tokenizer.
        width: width of the residual stream; heads are 32 wide, the minimum of vLLM's CPU attention.
        layers: number of transformer layers.
        positions: maximum length in tokens of prompt and response together.
        steps: number of supervised updates.
        batch: examples per update.
        learning_rate: peak learning rate; falls linearly to zero.
        tokenizer_examples: number of example answers, with prompts, that train the tokenizer.
        sampled: number of answers sampled at the end, to report how many are valid.
        seed: seed of every random choice.
    """

    vocabulary: int = 2048
    width: int = 128
    layers: int = 2
    positions: int = 256
    steps: int = 600
    batch: int = 16
    learning_rate: float = 3e-3
    tokenizer_examples: int = 2000
    sampled: int = 256
    seed: int = 0


TINY = PolicySettings(
    width=64, positions=8192, steps=150, batch=4, tokenizer_examples=256, sampled=32
)
"""Settings for every task, also with a paper or program in the prompt: quick to train, and only
good enough to write candidates."""


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE with Qwen's pre-tokenisation, special tokens and chat format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, settings: PolicySettings) -> Qwen3ForCausalLM:
    """Return an untrained Qwen3 with one row per token of the tokenizer."""
    heads = settings.width // 32
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=32,
        max_position_embeddings=settings.positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Write model and tokenizer into one folder in Hugging Face's layout."""
    logging.disable_progress_bar()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
