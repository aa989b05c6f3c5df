"""Shapley values of the max utility: time, memory and growth, beside other implementations.

    python -m recipe.shape_grpo.bench credit

One run, one data set, one thread. Slow implementations are timed on fewer sets, and their time is
extrapolated; the table has the number of sets. "difference" is the largest from our values,
"memory" is the peak in multiples of the input's size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from recipe.shape_grpo.bench.measure import peak_bytes, seconds
from shape_grpo.credit import Shapley, make_utility, sample_semivalue, shapley_values

SHAPES = ((65_536, 8), (4_096, 1_024))
GROWTH = tuple(2**power for power in range(1, 13))
GROWTH_SETS = 1_024


def row_loop(rewards: Tensor) -> Tensor:
    """Compute the paper's sum per candidate of each set, O(K^2), in Python."""
    shares = []
    for row in rewards.double().tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        row_shares = [0.0] * len(row)
        for j, k in enumerate(order):
            for i in range(j + 1):
                step = row[order[i]] - (row[order[i - 1]] if i else 0.0)
                row_shares[k] += step / (len(row) - i)
        shares.append(row_shares)
    return torch.tensor(shares)


def quadratic(rewards: Tensor) -> Tensor:
    """Compute the same sums for all sets at once by a triangular matrix, O(K^2)."""
    ordered, order = rewards.double().sort(dim=1)
    k = rewards.shape[1]
    steps = ordered.diff(dim=1, prepend=ordered.new_zeros(len(ordered), 1))
    sharers = torch.arange(k, 0, -1, dtype=torch.float64)
    triangle = (1 / sharers).unsqueeze(1).expand(k, k).triu()
    return torch.empty_like(ordered).scatter_(1, order, steps @ triangle)


def by_shapiq(rewards: Tensor) -> Tensor:
    """Compute the values by shapiq, from all 2^K subsets of each set."""
    import shapiq

    shares = []
    for row in rewards.double().numpy():

        def utility(coalitions: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            best = np.where(coalitions, row, -np.inf).max(axis=1)
            return np.where(coalitions.any(axis=1), best, 0.0)

        exact = shapiq.ExactComputer(game=utility, n_players=len(row))
        shares.append(exact("SV").get_n_order_values(1))
    return torch.tensor(np.stack(shares))


@dataclass(frozen=True)
class Implementation:
    """An implementation of the values, and the sets it is timed on per number of candidates."""

    name: str
    compute: Callable[[Tensor], Tensor]
    sets: dict[int, int]


IMPLEMENTATIONS = (
    Implementation("shape_grpo (sorted)", shapley_values, {8: 65_536, 1024: 4_096}),
    Implementation("vectorised, O(K²)", quadratic, {8: 65_536, 1024: 4_096}),
    Implementation("loop over rows, O(K²)", row_loop, {8: 4_096, 1024: 2}),
    Implementation("shapiq, 2^K subsets", by_shapiq, {8: 64}),
)


def compare(n: int, k: int, console: Console) -> None:
    """Print the table of all implementations for (n, k), relative to one ``torch.sort``."""
    rewards = torch.rand(n, k, generator=torch.Generator().manual_seed(0))
    exact = shapley_values(rewards)
    sort = seconds(lambda: rewards.sort(dim=1))
    table = Table(title=f"{n:,} sets of {k:,} candidates, float32")
    table.add_column("implementation")
    for heading in ("ms", "/ sort", "timed on", "difference", "memory"):
        table.add_column(heading, justify="right")
    memory = peak_bytes(lambda: rewards.sort(dim=1)) / rewards.nbytes
    table.add_row("torch.sort alone", f"{sort * 1e3:.2f}", "1.0", f"{n:,}", "", f"{memory:.1f}")
    for implementation in track(IMPLEMENTATIONS, f"{n:,} x {k:,}", console=console, transient=True):
        if k not in implementation.sets:
            table.add_row(implementation.name, "-", "-", "not feasible", "", "")
            continue
        sample = rewards[: implementation.sets[k]]
        call = partial(implementation.compute, sample)
        time = seconds(call) * n / len(sample)
        difference = (call() - exact[: len(sample)]).abs().max().item()
        memory = peak_bytes(call) / sample.nbytes
        table.add_row(
            implementation.name,
            f"{time * 1e3:,.2f}",
            f"{time / sort:,.1f}",
            f"{len(sample):,}",
            f"{difference:.1e}",
            f"{memory:.1f}" if len(sample) == n else "",
        )
    console.print(table)


def growth(console: Console) -> None:
    """Print time against K, and the slope of a line through the logarithms."""
    table = Table(title=f"{GROWTH_SETS:,} sets, time against K")
    for heading in ("K", "ms", "ns per candidate"):
        table.add_column(heading, justify="right")
    times = []
    for k in track(GROWTH, "growth with K", console=console, transient=True):
        rewards = torch.rand(GROWTH_SETS, k, generator=torch.Generator().manual_seed(0))
        times.append(seconds(partial(shapley_values, rewards), at_least=0.2))
        table.add_row(
            f"{k:,}", f"{times[-1] * 1e3:.2f}", f"{times[-1] / rewards.numel() * 1e9:.0f}"
        )
    large = [k >= 32 for k in GROWTH]
    slope, _ = np.polyfit(np.log(GROWTH)[large], np.log(times)[large], 1)
    console.print(table)
    console.print(f"From K = 32 the time grows as K^{slope:.2f}.")


def sampling(console: Console) -> None:
    """Print standard errors of sampled values, relative to the rewards' standard deviation."""
    utility = make_utility("softmax", temperature=0.2)
    table = Table(title="softmax utility, 64 sets, Shapley values from random orders")
    for heading in ("K", "orders", "standard error / spread of rewards", "ms per set"):
        table.add_column(heading, justify="right")
    for k in (16, 32, 64):
        rewards = torch.rand(64, k, generator=torch.Generator().manual_seed(0)).double()
        for samples in (128, 512, 2048):

            def sample(rewards: Tensor = rewards, samples: int = samples) -> Tensor:
                return sample_semivalue(utility.value, rewards, Shapley(), samples=samples)[1]

            time = seconds(sample, at_least=0.2) / len(rewards)
            error = (sample().mean() / rewards.std()).item()
            table.add_row(f"{k}", f"{samples}", f"{error:.4f}", f"{time * 1e3:.1f}")
    console.print(table)


def run() -> None:
    """Print time, memory and growth of the shares, beside other ways to compute them."""
    console = Console(width=100)
    for n, k in SHAPES:
        compare(n, k, console)
    growth(console)
    sampling(console)
