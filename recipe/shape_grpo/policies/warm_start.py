"""A tiny policy that can already answer a task's prompts, and has no taste yet.

It learns by supervised examples what a language model would bring along: the answer's format, and
what candidates look like. The task makes the examples up (`tasks/`), right or wrong, so which
candidates are good, and for whom, is left to the reinforcement learning.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from recipe.shape_grpo.common.files import begin, is_current, write_stamp
from recipe.shape_grpo.common.progress import progress_bar
from recipe.shape_grpo.policies.tiny_qwen3 import (
    FILES,
    PolicySettings,
    new_model,
    save_policy,
    train_tokenizer,
)
from recipe.shape_grpo.tasks import load_task
from recipe.shape_grpo.tasks.common import Example, Messages
from recipe.shape_grpo.tasks.own import read_any_task
from shape_grpo.candidates import parse_candidates


def prompt_texts(prompts: list[Messages], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Prompts as the model reads them, up to where its answer begins."""
    return [
        str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        for messages in prompts
    ]


def collate(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T), padded on the right, and which of them are answer tokens (B, T) bool."""
    prompts = prompt_texts([messages for messages, _ in examples], tokenizer)
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


def imitate(
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
    model.train()
    with progress_bar(console) as progress:
        bar = progress.add_task("warm start", total=settings.steps)
        for _ in range(settings.steps):
            loss = answer_loss(model, *collate(draw(settings.batch), tokenizer))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.update(bar, advance=1, description=f"warm start, loss {loss.item():.2f}")
    model.eval()


def make_policy(
    draw: Callable[[int], list[Example]], settings: PolicySettings, console: Console
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """A tokenizer made for the examples that `draw(n)` makes up, and a model that imitates them."""
    texts = [
        "\n".join([*(message["content"] for message in messages), answer])
        for messages, answer in draw(settings.tokenizer_examples)
    ]
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    # lenskit leaves torch with one thread.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    torch.manual_seed(settings.seed)
    model = new_model(tokenizer, settings)
    imitate(model, tokenizer, draw, settings, console)
    return model, tokenizer


@torch.no_grad()
def sample_answers(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[Messages],
    max_tokens: int,
) -> list[str]:
    """One answer to each prompt, at temperature 1."""
    texts = prompt_texts(prompts, tokenizer)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    output = model.generate(  # type: ignore[misc]  # transformers' own annotation
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=True,
        top_k=0,
        max_new_tokens=max_tokens,
    )
    answers = output[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


def describe_answers(answers: list[str], texts: list[str], candidates: int) -> str:
    """How many of the `answers` are right in form, and how many name what the examples name.

    Args:
        answers: Sampled ones.
        texts: What the candidates of the examples say.
        candidates: K, the number of candidates of an example.
    """
    known = {text.strip() for text in texts}
    suggested = [[c.text for c in parse_candidates(answer) if c.closed] for answer in answers]
    whole = [len(said) == candidates for said in suggested]
    right = [len(set(said) & known) == len(said) == candidates for said in suggested]
    named = {text for said in suggested for text in said} & known
    return (
        f"of {len(answers)} sampled answers {np.mean(whole):.0%} have {candidates} candidates and "
        f"{np.mean(right):.0%} {candidates} different ones of the examples', naming {len(named)} "
        f"of these {len(known)}"
    )


def train_policy(folder: Path, output: Path, settings: PolicySettings, console: Console) -> None:
    """Train tokenizer and model for the task in `folder`, unless they are there already.

    Raises:
        FileNotFoundError: `folder` holds no task.
    """
    task = read_any_task(folder)
    stamp = {"policy": asdict(settings), "task": task}
    if is_current(output, stamp, FILES):
        console.print(f"policy: reusing {output}")
        return
    rng = np.random.default_rng(settings.seed)
    examples = load_task(task["task"]).example_answers(folder, rng)
    model, tokenizer = make_policy(examples.draw, settings, console)
    begin(output)
    save_policy(model, tokenizer, output)
    write_stamp(output, stamp)

    drawn = examples.draw(settings.sampled)
    longest = max(len(ids) for ids in tokenizer([answer for _, answer in drawn])["input_ids"])
    answers = sample_answers(model, tokenizer, [messages for messages, _ in drawn], longest + 1)
    console.print(
        f"policy: {model.num_parameters() / 1e6:.2f}M parameters, {len(tokenizer)} tokens; "
        f"{describe_answers(answers, examples.texts, task['candidates'])} -> {output}"
    )
