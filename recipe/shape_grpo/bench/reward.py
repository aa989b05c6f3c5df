"""Candidates scored per second: the reward manager beside verl's own ``naive``.

    python -m recipe.shape_grpo.bench reward

``naive`` gets each candidate as a separate response, all in one gather like verl's reward worker;
ours gets whole responses, and parses the candidates first. Rounds of both alternate, and the best
rounds are compared, because the machine may be busy with something else.
"""

import asyncio
import random
import time
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls

from recipe.shape_grpo.policies.tiny_qwen3 import train_tokenizer

NAIVE, OURS = "naive", "multi_candidate"


def make_responses(
    tokenizer: PreTrainedTokenizerFast, responses: int, tokens: int, candidates: int
) -> list[list[list[int]]]:
    """Return token ids by response and candidate, including the tags."""
    rng = random.Random(0)
    opening, closing = (tokenizer(tag)["input_ids"] for tag in ("<candidate>", "</candidate>"))
    words = [n for n in range(len(tokenizer)) if str(tokenizer.decode([n])).strip().isalpha()]
    length = tokens // candidates - len(opening) - len(closing)
    return [
        [[*opening, *rng.choices(words, k=length), *closing] for _ in range(candidates)]
        for _ in range(responses)
    ]


def as_data(ids: list[int]) -> DataProto:
    """Return a response as verl's agent loop passes it on."""
    prompt = [5, 6, 7]
    return DataProto.from_dict(
        tensors={
            "prompts": torch.tensor([prompt]),
            "responses": torch.tensor([ids]),
            "attention_mask": torch.ones(1, len(prompt) + len(ids), dtype=torch.int64),
        },
        non_tensors={
            "data_source": np.array(["bench"], dtype=object),
            "reward_model": np.array([{"ground_truth": ""}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
            "__num_turns__": np.array([2]),
            "response_len": np.array([len(ids)]),
        },
    )


def score(
    name: str, config: DictConfig, tokenizer: Any, batch: list[DataProto], pause: float
) -> tuple[float, list[float]]:
    """Return the seconds that the reward manager ``name`` takes, and its scores."""

    def compute_score(solution_str: str, **_: Any) -> float:
        time.sleep(pause)
        return float(solution_str.count("o"))

    async def main() -> tuple[float, list[float]]:
        manager = get_reward_manager_cls(name)(config, tokenizer, compute_score)
        manager.loop = asyncio.get_running_loop()
        began = time.perf_counter()
        results = await asyncio.gather(*(manager.run_single(data) for data in batch))
        return time.perf_counter() - began, [result["reward_score"] for result in results]

    return asyncio.run(main())


def run(
    rounds: int = 5,
    responses: int = 1000,
    tokens: int = 1024,
    candidates: int = 8,
    pause: float = 0.001,
) -> None:
    """Print candidates scored per second, by this reward manager and by verl's ``naive``.

    Args:
        rounds: Rounds per manager, of which the best counts.
        responses: Responses per round.
        tokens: Tokens per response.
        candidates: Candidates per response.
        pause: Seconds that the reward function takes.

    Raises:
        RuntimeError: The managers disagree on the scores of the best candidates.
    """
    console = Console()
    names = ["Alien", "Solaris", "The Stalker", "a long good night", "one more film", "no other"]
    tokenizer = train_tokenizer(names, 320)
    answers = make_responses(tokenizer, responses, tokens, candidates)
    batches = {
        NAIVE: [as_data(candidate) for answer in answers for candidate in answer],
        OURS: [
            as_data([token for candidate in answer for token in candidate]) for answer in answers
        ],
    }
    config = OmegaConf.create(
        {
            "algorithm": {},
            "actor_rollout_ref": {"rollout": {"response_length": tokens + 1}},
        }
    )
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    scores: dict[str, list[float]] = {}
    for _ in track(range(rounds), "rounds", console=console, transient=True):
        for name, batch in batches.items():
            took, scores[name] = score(name, config, tokenizer, batch, pause)
            seconds[name].append(took)
    best = np.reshape(scores[NAIVE], (responses, candidates)).max(1)
    if best.tolist() != scores[OURS]:
        raise RuntimeError("the two managers do not agree on the best candidates")
    count = responses * candidates
    table = Table(
        title=f"{count:,} candidates of {responses:,} responses of {tokens:,} "
        f"tokens, a function of {pause * 1000:g} ms",
    )
    for heading in ("reward manager", "candidates / s", f"/ {NAIVE}"):
        table.add_column(heading, justify="right")
    for name, times in seconds.items():
        ratio = min(seconds[NAIVE]) / min(times)
        table.add_row(name, f"{count / min(times):,.0f}", f"{ratio:.2f}")
    console.print(table)
