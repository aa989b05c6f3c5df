"""Cost of the records of a step's candidates in the trainer's driver.

    python -m recipe.shape_grpo.bench records

One thread. The reward manager writes one record per response; the driver parses all records of a
step, stacks them, and computes the step's metrics, mostly the split of the sets' utilities. One
response of 1,000 candidates among small ones shows the cost of a degenerate response that
`max_candidates` does not cut.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from recipe.shape_grpo.bench.measure import peak_bytes, seconds
from shape_grpo.advantage import (
    CandidateBatch,
    CandidateRecord,
    Method,
    Reward,
    candidate_metrics,
)
from shape_grpo.credit import Utility, make_utility

TOKENS = 4096


@dataclass(frozen=True)
class Case:
    """The responses of a step."""

    name: str
    candidates: list[int]
    utility: Utility
    tests: int = 0


NUMBERS, TESTS = make_utility("max"), make_utility("coverage")
CHOICE = make_utility("softmax", temperature=0.5)
CASES = (
    Case("8,192 x 64 numbers", [64] * 8192, NUMBERS),
    Case("8,192 x 64, of 100 tests each", [64] * 8192, TESTS, tests=100),
    Case("128 x 4 numbers", [4] * 128, NUMBERS),
    Case("127 x 4, one of 1,000", [4] * 127 + [1000], NUMBERS),
    Case("128 x 4, of 100 tests each", [4] * 128, TESTS, tests=100),
    Case("127 x 4, one of 1,000, of 100 tests each", [4] * 127 + [1000], TESTS, tests=100),
    Case("128 x 4, softmax", [4] * 128, CHOICE),
    Case("127 x 4, one of 64, softmax", [4] * 127 + [64], CHOICE),
)


def random_record(count: int, tests: int, generator: np.random.Generator) -> CandidateRecord:
    """Return the record of a response with ``count`` candidates."""
    cuts = np.sort(generator.choice(TOKENS, 2 * count, replace=False)).tolist()
    rewards: list[Reward | None]
    if tests:
        passed = generator.integers(0, 2, (count, tests), dtype=np.uint8)
        rewards = [candidate.tobytes() for candidate in passed]
    else:
        rewards = (generator.integers(1, 11, count) / 2).tolist()
    starts, ends = cuts[::2], cuts[1::2]
    # About four characters per token of English.
    texts = ["word" * (end - start) for start, end in zip(starts, ends, strict=True)]
    return CandidateRecord(rewards, starts, ends, distinct=count, texts=texts)


def parse(texts: list[str]) -> list[CandidateRecord]:
    """Parse records of the reward manager."""
    return [CandidateRecord.from_json(text) for text in texts]


def step(texts: list[str], utility: Utility) -> None:
    """Process the records of a step as the driver does, except for the advantages."""
    records = parse(texts)
    batch, method = CandidateBatch.collate(records, vectors=utility.takes_vectors), Method(utility)
    lengths = [TOKENS] * len(records)
    candidate_metrics(records, lengths, batch, batch.compute_shares(method), method)


def run() -> None:
    """Print what a step's records cost the trainer's driver."""
    console = Console(width=100)
    table = Table(title="Records of a step: parsed, stacked, measured; one thread")
    table.add_column("responses x candidates")
    for heading in ("bytes per record", "parse, s", "stack, s", "all, s", "peak, MB"):
        table.add_column(heading, justify="right")
    for case in track(CASES, "records", console=console, transient=True):
        generator = np.random.default_rng(0)
        texts = [random_record(k, case.tests, generator).to_json() for k in case.candidates]
        records = parse(texts)
        to_parse = seconds(partial(parse, texts))
        vectors = case.utility.takes_vectors
        to_stack = seconds(partial(CandidateBatch.collate, records, vectors=vectors))
        del records
        whole = partial(step, texts, case.utility)
        table.add_row(
            case.name,
            f"{sum(map(len, texts)) / len(texts):,.0f}",
            f"{to_parse:.3f}",
            f"{to_stack:.3f}",
            f"{seconds(whole):.3f}",
            f"{peak_bytes(whole) / 1e6:,.0f}",
        )
    console.print(table)
