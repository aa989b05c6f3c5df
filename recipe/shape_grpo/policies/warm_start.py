"""Warm start: a tiny policy that can answer a task's prompts, but does not know good answers.

It learns from supervised examples what a language model would already know: the answer's format and
the form of candidates. The task generates the examples (`tasks/`), right or wrong; reinforcement
learning then teaches which candidates are good.
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

FEW_COMPLETE = 0.8
"""Share of sampled answers with K candidates below which more steps are advised."""


def prompt_texts(prompts: list[Messages], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return prompts as the model reads them, up to the beginning of its answer."""
    return [
        str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        for messages in prompts
    ]


def collate(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids (B, T), padded on the right, and a mask of answer tokens (B, T) bool."""
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
    """Return the mean cross entropy of answer tokens; the head runs on their positions only."""
    # Right padding and causal attention need no attention mask.
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
    """Train the model in place on examples from `draw(n)`."""
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
    """Return a model trained on examples from `draw(n)`, and a tokenizer trained on them."""
    texts = [
        "\n".join([*(message["content"] for message in messages), answer])
        for messages, answer in draw(settings.tokenizer_examples)
    ]
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    # lenskit sets torch to one thread.
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
    """Sample one answer per prompt, at temperature 1."""
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


def describe_answers(
    suggested: list[list[str]], texts: list[str], candidates: int, steps: int
) -> str:
    """Report how many answers have K candidates, and K different ones of the examples'.

    Args:
        suggested: Candidates of each sampled answer.
        texts: Texts of the examples' candidates.
        candidates: K, the number of candidates per example.
        steps: Steps of the warm start.
    """
    known = {text.strip() for text in texts}
    complete = [len(names) == candidates for names in suggested]
    valid = [len(set(names) & known) == len(names) == candidates for names in suggested]
    used = {text for names in suggested for text in names} & known
    advice = (
        f"; for more of them, write a larger --steps (it is {steps})"
        if np.mean(complete) < FEW_COMPLETE
        else ""
    )
    return (
        f"of {len(suggested)} sampled answers, {np.mean(complete):.0%} have {candidates} "
        f"candidates and {np.mean(valid):.0%} have {candidates} different ones from the examples; "
        f"they use {len(used)} of the examples' {len(known)} candidates{advice}"
    )


def train_policy(folder: Path, output: Path, settings: PolicySettings, console: Console) -> None:
    """Train tokenizer and model for the task in `folder`, unless `output` has them already.

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
    suggested = list(map(examples.find, answers))
    console.print(
        f"policy: {model.num_parameters() / 1e6:.2f}M parameters, {len(tokenizer)} tokens; "
        f"{describe_answers(suggested, examples.texts, task['candidates'], settings.steps)} "
        f"-> {output}"
    )
