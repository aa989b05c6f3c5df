"""Shapley values of the max game: time, memory and growth, beside other ways to get them.

    python -m recipe.shape_grpo.bench credit

One run, one data set, one thread. Ways that take long are timed on some of the sets, and their time
is multiplied up; the table says on how many. "difference" is the largest to our values, "memory" is
the peak in sizes of the input.
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
    """The paper's sum for each candidate of each set, O(K^2), in Python."""
    shares = []
    for row in rewards.double().tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        of_row = [0.0] * len(row)
        for j, k in enumerate(order):
            for i in range(j + 1):
                step = row[order[i]] - (row[order[i - 1]] if i else 0.0)
                of_row[k] += step / (len(row) - i)
        shares.append(of_row)
    return torch.tensor(shares)


def quadratic(rewards: Tensor) -> Tensor:
    """The same sums for all sets at once, as a product with a triangular matrix, O(K^2)."""
    ordered, order = rewards.double().sort(dim=1)
    k = rewards.shape[1]
    steps = ordered.diff(dim=1, prepend=ordered.new_zeros(len(ordered), 1))
    sharers = torch.arange(k, 0, -1, dtype=torch.float64)
    triangle = (1 / sharers).unsqueeze(1).expand(k, k).triu()
    return torch.empty_like(ordered).scatter_(1, order, steps @ triangle)


def by_shapiq(rewards: Tensor) -> Tensor:
    """All 2^K subsets of each set, by shapiq."""
    import shapiq

    shares = []
    for row in rewards.double().numpy():

        def game(coalitions: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            best = np.where(coalitions, row, -np.inf).max(axis=1)
            return np.where(coalitions.any(axis=1), best, 0.0)

        exact = shapiq.ExactComputer(game=game, n_players=len(row))
        shares.append(exact("SV").get_n_order_values(1))
    return torch.tensor(np.stack(shares))


@dataclass(frozen=True)
class Way:
    """A way to get the values, and how many sets it is timed on, for each number of candidates."""

    name: str
    compute: Callable[[Tensor], Tensor]
    sets: dict[int, int]


WAYS = (
    Way("shape_grpo (sorted)", shapley_values, {8: 65_536, 1024: 4_096}),
    Way("vectorised, O(K²)", quadratic, {8: 65_536, 1024: 4_096}),
    Way("loop over rows, O(K²)", row_loop, {8: 4_096, 1024: 2}),
    Way("shapiq, 2^K subsets", by_shapiq, {8: 64}),
)


def compare(n: int, k: int, console: Console) -> None:
    """One table: each way at (n, k), against one ``torch.sort``."""
    rewards = torch.rand(n, k, generator=torch.Generator().manual_seed(0))
    exact = shapley_values(rewards)
    sort = seconds(lambda: rewards.sort(dim=1))
    table = Table(title=f"{n:,} sets of {k:,} candidates, float32")
    table.add_column("way")
    for heading in ("ms", "/ sort", "timed on", "difference", "memory"):
        table.add_column(heading, justify="right")
    memory = peak_bytes(lambda: rewards.sort(dim=1)) / rewards.nbytes
    table.add_row("torch.sort alone", f"{sort * 1e3:.2f}", "1.0", f"{n:,}", "", f"{memory:.1f}")
    for way in track(WAYS, f"{n:,} x {k:,}", console=console, transient=True):
        if k not in way.sets:
            table.add_row(way.name, "-", "-", "cannot", "", "")
            continue
        some = rewards[: way.sets[k]]
        call = partial(way.compute, some)
        time = seconds(call) * n / len(some)
        difference = (call() - exact[: len(some)]).abs().max().item()
        memory = peak_bytes(call) / some.nbytes
        table.add_row(
            way.name,
            f"{time * 1e3:,.2f}",
            f"{time / sort:,.1f}",
            f"{len(some):,}",
            f"{difference:.1e}",
            f"{memory:.1f}" if len(some) == n else "",
        )
    console.print(table)


def growth(console: Console) -> None:
    """Time against K, and the slope of a line through the logarithms."""
    table = Table(title=f"{GROWTH_SETS:,} sets, time against K")
    for heading in ("K", "ms", "ns a candidate"):
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
    """Standard errors of sampled values, in units of the rewards' standard deviation."""
    utility = make_utility("softmax", temperature=0.2)
    table = Table(title="softmax utility, 64 sets, Shapley values from random orders")
    for heading in ("K", "orders", "standard error / spread of rewards", "ms a set"):
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
