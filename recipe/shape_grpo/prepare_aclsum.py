"""A summarisation task for multi-candidate training, from real papers and their summaries.

Each prompt shows the beginning of a paper and asks for three different summaries of one aspect of
it: the challenge it addresses, its approach, or its outcome. Small models take the answer's format
from examples and not from instructions, so two worked examples come first, as earlier turns of
the chat. The reward compares each summary with the one an expert wrote
(`reward_fns/aclsum_rouge.py`).

    python -m recipe.shape_grpo.prepare_aclsum --tokenizer outputs/smollm2 --output outputs/aclsum

writes `train.parquet` and `test.parquet` (verl's columns), one row a paper and aspect.

The data come with the `aclsum` package (MIT licence). Publications cite them as

    Sotaro Takeshita, Tommaso Green, Ines Reinig, Kai Eckert and Simone Paolo Ponzetto. 2024.
    ACLSum: A New Dataset for Aspect-based Summarization of Scientific Publications. NAACL 2024.
    https://arxiv.org/abs/2403.05303
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from aclsum import ACLSum

from recipe.shape_grpo.reuse import begin, is_current, write_stamp

FILES = ("train.parquet", "test.parquet")
ASPECTS = {
    "challenge": "the challenge it addresses",
    "approach": "its approach",
    "outcome": "its outcome",
}


@dataclass(frozen=True)
class Example:
    """A made-up paper with three summaries of each aspect; the model imitates their length."""

    excerpt: str
    summaries: dict[str, tuple[str, str, str]]


EXAMPLES = (
    Example(
        "Parsers trained on newspaper text fail on short chat messages, and annotated chat data "
        "are scarce. We train a parser on news and on messages that two older parsers label "
        "alike. It makes a fifth fewer errors on chat than the best earlier parser.",
        {
            "challenge": (
                "Parsers trained on newspapers fail on chat, for which annotated data are scarce.",
                "Little annotated chat data exists, so parsers do badly on short messages.",
                "Chat differs from the news that parsers learn from, which leads to many errors.",
            ),
            "approach": (
                "They train a parser on news and on messages that two parsers label alike.",
                "They use the agreement of two older parsers to obtain labelled chat messages.",
                "They add automatically labelled messages to the news data of a parser.",
            ),
            "outcome": (
                "The parser makes a fifth fewer errors on chat than the best earlier one.",
                "Training on messages that two parsers agree on reduces errors on chat by a fifth.",
                "The proposed parser outperforms all earlier parsers on chat messages.",
            ),
        },
    ),
    Example(
        "Bilingual dictionaries are missing for most of the world's languages. We align word "
        "vectors of two languages with a few hundred shared names and need no parallel text. On "
        "twelve language pairs the dictionaries found are as good as those made from a million "
        "translated sentences.",
        {
            "challenge": (
                "Most languages lack bilingual dictionaries, which are costly to make.",
                "Dictionaries are missing for most language pairs, and parallel text is rare.",
                "Building dictionaries needs parallel text that most languages do not have.",
            ),
            "approach": (
                "They align word vectors of two languages by a few hundred shared names.",
                "They find dictionaries without parallel text, from word vectors and names.",
                "They propose to use names that two languages share to align their word vectors.",
            ),
            "outcome": (
                "The dictionaries are as good as those made from a million translated sentences.",
                "The method matches dictionaries made from parallel text on twelve language pairs.",
                "Shared names are enough to find good dictionaries for twelve language pairs.",
            ),
        },
    ),
)


@dataclass(frozen=True)
class TaskSettings:
    """What the task is made from; the same settings give the same files.

    Attributes:
        tokenizer: folder or name of the policy's tokenizer, which measures the prompts.
        max_prompt_tokens: a prompt shows as many sentences of the paper as fit, chat template and
            worked examples included.
    """

    tokenizer: str
    max_prompt_tokens: int = 512


def question(excerpt: str, aspect: str) -> dict[str, str]:
    """One question as a chat message."""
    return {
        "role": "user",
        "content": f"Paper: {excerpt}\n\nSummarise {ASPECTS[aspect]} in one sentence. Write 3 "
        "different summaries, each as <candidate>summary</candidate>.",
    }


def prompt_messages(excerpt: str, aspect: str) -> list[dict[str, str]]:
    """The prompt as chat messages: the worked examples, of the same aspect, and the question."""
    messages = []
    for example in EXAMPLES:
        summaries = example.summaries[aspect]
        answer = "\n".join(f"<candidate>{summary}</candidate>" for summary in summaries)
        messages += [question(example.excerpt, aspect), {"role": "assistant", "content": answer}]
    return [*messages, question(excerpt, aspect)]


def tidy_sentence(sentence: str) -> str:
    """ "parsers ( for chat ) , and" -> "parsers (for chat), and": the papers come tokenised."""
    sentence = re.sub(r"\s+([,.;:!?%)\]])", r"\1", sentence)
    return re.sub(r"([(\[])\s+", r"\1", sentence).strip()


def longest_prompt(
    sentences: list[str],
    aspect: str,
    count_tokens: Callable[[list[dict[str, str]]], int],
    limit: int,
) -> list[dict[str, str]] | None:
    """The prompt with as many of the first sentences as `limit` tokens hold; None if not one."""
    fitting = None
    for end in range(1, len(sentences) + 1):
        messages = prompt_messages(" ".join(sentences[:end]), aspect)
        if count_tokens(messages) > limit:
            break
        fitting = messages
    return fitting


def make_rows(
    split: str, count_tokens: Callable[[list[dict[str, str]]], int], limit: int
) -> list[dict[str, Any]]:
    """Rows in verl's columns, one a paper and aspect; papers whose first sentence is too long for
    `limit` are left out."""
    rows: list[dict[str, Any]] = []
    for paper in ACLSum(split):
        sentences = [
            tidy_sentence(s) for s in paper.get_all_sentences(["abstract", "introduction"])
        ]
        for aspect in ASPECTS:
            messages = longest_prompt(sentences, aspect, count_tokens, limit)
            if messages is None:
                continue
            extra_info = {"split": split, "index": len(rows), "paper": paper.id, "aspect": aspect}
            rows.append(
                {
                    "data_source": "aclsum",
                    "prompt": messages,
                    "ability": "summarisation",
                    "reward_model": {"style": "rule", "ground_truth": paper.summaries[aspect]},
                    "extra_info": extra_info,
                }
            )
    return rows


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless the same task is there already.

    Raises:
        ValueError: No prompt fits into `settings.max_prompt_tokens`.
    """
    if is_current(output, asdict(settings), FILES):
        print(f"task: reusing {output}")
        return
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(settings.tokenizer)

    def count_tokens(messages: list[dict[str, str]]) -> int:
        return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])

    begin(output)
    counts = {}
    for split in ("train", "test"):
        rows = make_rows(split, count_tokens, settings.max_prompt_tokens)
        if not rows:
            raise ValueError(
                f"no prompt fits into {settings.max_prompt_tokens} tokens of {settings.tokenizer}: "
                "give a larger --max-prompt-tokens"
            )
        pd.DataFrame(rows).to_parquet(output / f"{split}.parquet")
        counts[split] = len(rows)
    write_stamp(output, asdict(settings))
    print(f"task: {counts['train']} training and {counts['test']} test prompts -> {output}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="prepare_aclsum", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tokenizer", required=True, help="the policy's folder or name")
    parser.add_argument("--output", type=Path, default=Path("outputs/aclsum"))
    default = TaskSettings.max_prompt_tokens
    parser.add_argument("--max-prompt-tokens", type=int, default=default)
    values = vars(parser.parse_args(arguments))
    output = values.pop("output")
    try:
        prepare(output, TaskSettings(**values))
    except (OSError, ValueError) as error:
        sys.exit(f"prepare_aclsum: {error}")


if __name__ == "__main__":
    main()
