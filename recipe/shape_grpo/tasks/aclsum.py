"""ACLSum for multi-candidate training: prompts that ask for K summaries of a paper.

Each prompt shows a paper's abstract, introduction and conclusion, as far as they fit, and asks for
K different summaries of one aspect of it: the challenge it addresses, its approach, or its outcome.
The reward compares each summary with an expert's, by a judge (`reward_fns/aclsum.py`) or by ROUGE
(`reward_fns/aclsum_rouge.py`).

    python -m recipe.shape_grpo.tasks aclsum --tokenizer Qwen/Qwen3-8B --candidates 5

The question shows the answer's format by an example. Small models learn it from whole conversations
only: with `--worked_examples 2`, two come first, as earlier turns of the chat.

It writes `train.parquet` and `test.parquet` (verl's columns), one row per paper and aspect.

The data come with the `aclsum` package (MIT licence). Publications cite them as

    Sotaro Takeshita, Tommaso Green, Ines Reinig, Kai Eckert and Simone Paolo Ponzetto. 2024.
    ACLSum: A New Dataset for Aspect-based Summarization of Scientific Publications. NAACL 2024.
    https://arxiv.org/abs/2403.05303
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import yaml
from aclsum import ACLSum

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.common.files import begin
from recipe.shape_grpo.tasks.common import (
    EXAMPLE_PROMPTS,
    Examples,
    Messages,
    answer_text,
    answers_to_prompts,
    is_prepared,
    task_stamp,
    verl_row,
    write_task,
)
from reward_fns.aclsum_question import ASPECTS

FILES = ("train.parquet", "test.parquet")
SECTIONS = ["abstract", "introduction", "conclusion"]


EXAMPLES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("aclsum_examples.yaml").read_text(encoding="utf-8")
)
"""Worked examples: an excerpt, and summaries by aspect."""


@dataclass(frozen=True)
class TaskSettings:
    """Settings of the task; the same settings give the same files.

    Attributes:
        tokenizer: folder or name of the policy's tokenizer, which counts the prompts' tokens; or
            `bytes`, if it is made later from the prompts (`policies tiny`): then the bytes of the
            messages are counted, which its tokens never exceed.
        candidates: K, the number of summaries that a prompt asks for.
        max_prompt_tokens: maximum length of a prompt, including chat template and worked examples;
            a prompt shows as many sentences of the paper as fit.
        worked_examples: number of questions with answers, of up to 3 summaries each, before the
            question. With 0, the question itself shows the format.
        aspects: aspects that the prompts ask about, as [challenge, outcome].
    """

    dataset: ClassVar[str] = "aclsum"

    tokenizer: str
    candidates: int = 3
    max_prompt_tokens: int = 3072
    worked_examples: int = 0
    aspects: list[str] = field(default_factory=lambda: list(ASPECTS))

    def __post_init__(self) -> None:
        require_positive(self, "candidates")
        if not 0 <= self.worked_examples <= len(EXAMPLES):
            raise ValueError(f"worked_examples is {self.worked_examples}: use 0 to {len(EXAMPLES)}")
        if self.worked_examples and self.candidates > 3:
            raise ValueError(
                "the worked examples have 3 summaries, too few for "
                f"candidates={self.candidates}: use worked_examples=0"
            )
        if not self.aspects or not set(self.aspects) <= set(ASPECTS):
            raise ValueError(f"aspects are {self.aspects}: use some of {', '.join(ASPECTS)}")


def question(excerpt: str, aspect: str, settings: TaskSettings) -> dict[str, str]:
    """Return one question as a chat message."""
    candidates = settings.candidates
    summaries = "one summary" if candidates == 1 else f"{candidates} different summaries"
    content = (
        f"Paper: {excerpt}\n\nIn one sentence, summarise {ASPECTS[aspect]}. Write {summaries}, "
        "each as <candidate>summary</candidate>."
    )
    if not settings.worked_examples:
        example = answer_text(EXAMPLES[0]["summaries"][aspect][:candidates])
        more = "" if candidates <= 3 else f"\n(and so on, {candidates} in all)"
        content += f" For another paper, the answer could be:\n\n{example}{more}"
    return {"role": "user", "content": content}


def prompt_messages(excerpt: str, aspect: str, settings: TaskSettings) -> Messages:
    """Return the prompt as chat messages: worked examples of the same aspect, and the question."""
    messages = []
    for example in EXAMPLES[: settings.worked_examples]:
        answer = answer_text(example["summaries"][aspect][: settings.candidates])
        messages += [
            question(example["excerpt"], aspect, settings),
            {"role": "assistant", "content": answer},
        ]
    return [*messages, question(excerpt, aspect, settings)]


def tidy_sentence(sentence: str) -> str:
    """Undo a paper's tokenisation: `parsers ( for chat ) , and` to `parsers (for chat), and`."""
    sentence = re.sub(r"\s+([,.;:!?%)\]])", r"\1", sentence)
    return re.sub(r"([(\[])\s+", r"\1", sentence).strip()


def longest_prompt(
    sentences: list[str],
    aspect: str,
    count_tokens: Callable[[Messages], int],
    settings: TaskSettings,
) -> Messages | None:
    """Return the prompt with as many of the first sentences as fit; None if none fits."""

    def prompt(count: int) -> Messages:
        return prompt_messages(" ".join(sentences[:count]), aspect, settings)

    counts = range(1, len(sentences) + 1)
    limit = settings.max_prompt_tokens
    fitting = bisect_right(counts, limit, key=lambda count: count_tokens(prompt(count)))
    return prompt(fitting) if fitting else None


def make_rows(
    split: str, count_tokens: Callable[[Messages], int], settings: TaskSettings
) -> list[dict[str, Any]]:
    """Return rows in verl's columns, one per paper and aspect for which one sentence fits."""
    rows: list[dict[str, Any]] = []
    for paper in ACLSum(split):
        sentences = [tidy_sentence(sentence) for sentence in paper.get_all_sentences(SECTIONS)]
        for aspect in settings.aspects:
            messages = longest_prompt(sentences, aspect, count_tokens, settings)
            if messages is None:
                continue
            rows.append(
                verl_row(
                    "aclsum",
                    "summarisation",
                    messages,
                    paper.summaries[aspect],
                    split=split,
                    index=len(rows),
                    paper=paper.id,
                    aspect=aspect,
                )
            )
    return rows


def token_counter(tokenizer: str) -> Callable[[Messages], int]:
    """Return the function that counts a prompt's tokens; see `TaskSettings.tokenizer`."""
    if tokenizer == "bytes":
        return lambda messages: sum(len(message["content"].encode()) for message in messages)
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(tokenizer)

    def count_tokens(messages: Messages) -> int:
        # Without thinking, Qwen3's template adds an empty thought; other models ignore the key.
        ids = loaded.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=False
        )["input_ids"]
        return len(ids)

    return count_tokens


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless `output` holds the same task.

    Raises:
        ValueError: No prompt fits into `settings.max_prompt_tokens`.
    """
    words = [prompt_messages("A paper.", aspect, settings) for aspect in settings.aspects]
    stamp = task_stamp("aclsum", settings, *words)
    if is_prepared(output, stamp, FILES):
        return
    count_tokens = token_counter(settings.tokenizer)
    begin(output)
    parts = {split: make_rows(split, count_tokens, settings) for split in ("train", "test")}
    if not all(parts.values()):
        raise ValueError(
            f"no prompt fits into {settings.max_prompt_tokens} tokens of {settings.tokenizer}: "
            "give a larger --max_prompt_tokens"
        )
    write_task(output, stamp, **parts)
    print(f"task: {len(parts['train'])} training and {len(parts['test'])} test prompts -> {output}")


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return examples from the task in `folder`: references of arbitrary prompts."""
    rows = pd.read_parquet(folder / "train.parquet").head(EXAMPLE_PROMPTS)
    references = [row["ground_truth"] for row in rows["reward_model"]]
    return answers_to_prompts(folder, references, rng)
