"""A small Qwen3 policy that can already write sets of film titles, and has no taste yet.

Trains, on the CPU and in a minute or two, a byte-level BPE tokenizer built like Qwen's and a
Qwen3 model of about 1M parameters. The model learns by supervised examples what a language model
would bring along: the answer's format and the titles. The example answers are titles drawn
evenly from the catalogue, so which films are good, and for whom, is left to the reinforcement
learning.

    python -m recipe.shape_grpo.policies.tiny_qwen3 --task FOLDER --output FOLDER

The folder loads like any Hugging Face model (transformers, vLLM, verl).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from recipe.shape_grpo.files import STAMP, begin, is_current, write_stamp
from recipe.shape_grpo.tasks.movielens import prompt_messages
from shape_grpo.candidates import parse_candidates

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
# How Qwen's tokenizers split text before merging bytes; "<candidate>" is ordinary text to them
# too, and its ">" may share a token with the first word of the title.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

MAX_ANSWER_TOKENS = 48
Example = tuple[list[dict[str, str]], str]  # chat messages and the answer to them


@dataclass(frozen=True)
class PolicySettings:
    """What the policy is made from.

    Attributes:
        vocabulary: at most so many tokens; the model has exactly as many rows as the tokenizer.
        width: of the residual stream; heads are 32 wide, the least vLLM's CPU attention takes.
        layers: number of transformer layers.
        positions: tokens that prompt and response may have together.
        steps: supervised updates.
        batch: examples per update.
        learning_rate: peak; falls linearly to zero.
        seed: of every random choice.
    """

    vocabulary: int = 2048
    width: int = 128
    layers: int = 2
    positions: int = 256
    steps: int = 600
    batch: int = 16
    learning_rate: float = 3e-3
    seed: int = 0


def answer_text(titles: list[str]) -> str:
    """A set of titles as the prompt asks for it."""
    return "\n".join(f"<candidate>{title}</candidate>" for title in titles)


def draw_example(
    titles: list[str], history: int, candidates: int, rng: np.random.Generator
) -> Example:
    """A prompt with a made-up history, and an answer; all their titles differ."""
    shown = int(rng.integers(history + 1))
    drawn = rng.choice(titles, shown + candidates, replace=False).tolist()
    return prompt_messages(drawn[:shown], candidates), answer_text(drawn[shown:])


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen's pre-tokenisation, special tokens and chat format."""
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
    """An untrained Qwen3 with one row per token of the tokenizer."""
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


def collate(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T), padded on the right, and which of them are answer tokens (B, T) bool."""
    prompts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for messages, _ in examples
    ]
    prompt_ids = tokenizer(prompts)["input_ids"]
    answer_ids = tokenizer([answer + tokenizer.eos_token for _, answer in examples])["input_ids"]
    rows = [torch.tensor(p + a) for p, a in zip(prompt_ids, answer_ids, strict=True)]
    marks = [
        torch.tensor([False] * len(p) + [True] * len(a))
        for p, a in zip(prompt_ids, answer_ids, strict=True)
    ]
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    return ids, pad_sequence(marks, batch_first=True)


def answer_loss(
    model: Qwen3ForCausalLM, ids: torch.Tensor, is_answer: torch.Tensor
) -> torch.Tensor:
    """Mean cross entropy of the answer tokens; the head runs on their positions only."""
    # Padding is on the right and attention is causal: no attention mask is needed.
    hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
    target = is_answer[:, 1:]
    return cross_entropy(model.lm_head(hidden[target]), ids[:, 1:][target])


def warm_start(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: Callable[[int], list[Example]],
    settings: PolicySettings,
    console: Console,
) -> None:
    """Supervised learning on the examples that `draw(n)` makes up; trains in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    warm_up = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, 1 - step / settings.steps)
    )
    progress = Progress(
        TextColumn("warm start"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.2f}  time left"),
        TimeRemainingColumn(),
        console=console,
    )
    model.train()
    with progress:
        bar = progress.add_task("", total=settings.steps, loss=float("nan"))
        for _ in range(settings.steps):
            loss = answer_loss(model, *collate(draw(settings.batch), tokenizer))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.update(bar, advance=1, loss=loss.item())
    model.eval()


def make_policy(
    draw: Callable[[int], list[Example]], settings: PolicySettings, console: Console
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """A tokenizer made for the examples that `draw(n)` makes up, and a model that imitates them."""
    texts = [f"{messages[0]['content']}\n{answer}" for messages, answer in draw(2000)]
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    # lenskit leaves torch with one thread.
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(settings.seed)
    model = new_model(tokenizer, settings)
    warm_start(model, tokenizer, draw, settings, console)
    return model, tokenizer


def save_policy(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Write both into one folder, as Hugging Face models lie."""
    transformers_logging.disable_progress_bar()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


@torch.no_grad()
def sample_answers(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[dict[str, str]]],
) -> list[str]:
    """One answer to each prompt, at temperature 1."""
    texts = [
        tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    output = model.generate(  # type: ignore[misc]  # transformers' own annotation
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=True,
        top_k=0,
        max_new_tokens=MAX_ANSWER_TOKENS,
    )
    answers = output[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


def train_policy(task: Path, output: Path, settings: PolicySettings, console: Console) -> None:
    """Train tokenizer and model for the task in folder `task`, unless they are there already.

    Raises:
        FileNotFoundError: `task` holds no task.
    """
    if not (task / STAMP).is_file():
        raise FileNotFoundError(
            f"no task in {task}: write it with `python -m recipe.shape_grpo.tasks.movielens "
            f"--output {task}`"
        )
    task_settings = json.loads((task / STAMP).read_text())
    stamp = {"policy": asdict(settings), "task": task_settings}
    if is_current(output, stamp, FILES):
        console.print(f"policy: reusing {output}")
        return
    titles = np.load(task / "ratings.npz")["titles"].tolist()
    candidates = task_settings["candidates"]
    rng = np.random.default_rng(settings.seed)

    def draw(count: int) -> list[Example]:
        return [
            draw_example(titles, task_settings["history"], candidates, rng) for _ in range(count)
        ]

    model, tokenizer = make_policy(draw, settings, console)
    answers = sample_answers(model, tokenizer, [messages for messages, _ in draw(256)])
    suggested = [[c.text for c in parse_candidates(answer)] for answer in answers]
    right = [len(set(names) & set(titles)) == len(names) == candidates for names in suggested]
    named = {name for names in suggested for name in names} & set(titles)
    begin(output)
    save_policy(model, tokenizer, output)
    write_stamp(output, stamp)
    console.print(
        f"policy: {model.num_parameters() / 1e6:.2f}M parameters, {len(tokenizer)} tokens; of "
        f"{len(answers)} sampled answers {np.mean(right):.0%} are {candidates} different titles "
        f"of the catalogue, naming {len(named)} of its {len(titles)} films -> {output}"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="small_policy", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", type=Path, default=Path("outputs/movielens"))
    parser.add_argument("--output", type=Path, default=Path("outputs/small_policy"))
    for field in fields(PolicySettings):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    values = vars(parser.parse_args(arguments))
    task, output = values.pop("task"), values.pop("output")
    try:
        train_policy(task, output, PolicySettings(**values), Console())
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"small_policy: {error}")


if __name__ == "__main__":
    main()
