"""The advantage step with vectors: many components beside one of the same utility.

    python -m recipe.shape_grpo.bench vectors

One thread, CPU time, all cases in turn. The step goes from stacked rewards and spans to (N, T)
advantages; "credit" is the part of it without tokens.
"""

from collections.abc import Callable
from itertools import product

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from recipe.shape_grpo.bench.measure import cpu_seconds_in_turn, processor
from recipe.shape_grpo.bench.scatter import GROUP, random_spans
from shape_grpo.advantage import (
    CandidateBatch,
    Method,
    candidate_advantages,
    token_advantages,
)
from shape_grpo.credit import make_utility

SETS, TOKENS, CANDIDATES, COMPONENTS = 8192, 2048, 8, 16
ROUNDS = 20
UTILITIES = ("best_per_component", "coverage")
ADVANTAGES = ("reweight", "contrast", "praise")


def steps(utility: str, advantage: str, components: int) -> list[Callable[[], object]]:
    """Return the whole step, and its credit alone."""
    rewards = torch.rand(SETS, CANDIDATES, components, generator=torch.Generator().manual_seed(0))
    if utility == "coverage":
        rewards = rewards.round()
    starts, ends = random_spans(SETS, TOKENS, CANDIDATES)
    nothing = torch.zeros(SETS)
    batch = CandidateBatch(
        rewards,
        torch.ones(SETS, CANDIDATES, dtype=torch.bool),
        starts,
        ends,
        nothing.bool(),
        torch.zeros(SETS, CANDIDATES),
        nothing,
    )
    method = Method(make_utility(utility), advantage=advantage)
    scores, mask = rewards.amax(1).sum(1), torch.ones(SETS, TOKENS, dtype=torch.int64)
    index = [f"prompt {row // GROUP}" for row in range(SETS)]

    def whole() -> object:
        return token_advantages(batch, batch.compute_shares(method), scores, mask, index, method)

    def credit() -> object:
        shares = batch.compute_shares(method)
        lengths = ends - starts
        return candidate_advantages(
            rewards, batch.mask, lengths, index, method, scores=scores, shares=shares
        )

    return [whole, credit]


def run() -> None:
    """Print the time of the advantage step with many components beside that with one."""
    console = Console(width=100)
    table = Table(
        title=f"{processor()}: {SETS:,} sets of {CANDIDATES} candidates, {TOKENS:,} tokens, "
        f"ms of CPU time, best of {ROUNDS}"
    )
    table.add_column("utility, advantage")
    for part, heading in product(("step", "credit"), (1, COMPONENTS, "ratio")):
        table.add_column(f"{part}, {heading}", justify="right")
    cases = list(product(UTILITIES, ADVANTAGES))
    for names in track(cases, "vectors", console=console, transient=True):
        calls = [steps(*names, components) for components in (1, COMPONENTS)]
        times = cpu_seconds_in_turn([*calls[0], *calls[1]], ROUNDS)
        cells = []
        for one, many in zip(times[:2], times[2:], strict=True):
            cells += [f"{one * 1e3:.1f}", f"{many * 1e3:.1f}", f"{many / one:.2f}"]
        table.add_row(", ".join(names), *cells)
    console.print(table)
