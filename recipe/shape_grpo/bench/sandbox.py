"""Sandboxed runs a second: fresh interpreters and the warm pool, in one run.

    python -m recipe.shape_grpo.bench sandbox

A run multiplies a small array and returns a DataFrame, so that NumPy and pandas are needed. Rounds
of the ways alternate, since the machine may be busy with something else: what is compared is the
best round of each.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track
from rich.table import Table

from shape_grpo.sandbox import Limits, Sandbox, SandboxError

CODE = """
import numpy as np
import pandas as pd
result = pd.DataFrame({"x": np.arange(10) * factor})
"""
MODULES = ("numpy", "pandas")
# On a busy machine, importing pandas anew takes longer than a run may by default.
LIMITS = Limits(seconds=120)


def rate(sandbox: Sandbox, runs: int, threads: int) -> float:
    """Runs a second.

    Raises:
        RuntimeError: a run failed.
    """

    def one(factor: int) -> int:
        outcome = sandbox.run(CODE, inputs={"factor": factor}, outputs=["result"])
        if outcome.status != "done":
            raise RuntimeError(f"a run ended with {outcome.status}: {outcome.detail}")
        return int(outcome.values()["result"]["x"].max())

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        results = list(pool.map(one, range(runs)))
        elapsed = time.perf_counter() - began
    if results != [9 * factor for factor in range(runs)]:
        raise RuntimeError("a run returned another run's result")
    return runs / elapsed


def run(rounds: int = 5, threads: tuple[int, ...] = (1, 2)) -> None:
    """Print sandboxed runs per second, by fresh interpreters and by the warm pool.

    Args:
        rounds: Rounds per way, of which the best counts.
        threads: Numbers of runs at a time.
    """
    console = Console()
    ways: dict[str, tuple[Sandbox, int]] = {}
    for name, backend, warm, runs in (
        ("bubblewrap, fresh interpreters", "bubblewrap", (), 6),
        ("bubblewrap, warm pool", "bubblewrap", MODULES, 60),
    ):
        try:
            sandbox = Sandbox(backend, warm=warm, limits=LIMITS)
        except SandboxError as error:
            console.print(f"{name}: {error}")
            continue
        if warm and not sandbox.warm:
            console.print(f"{name}: {sandbox.refusals['warm pool']}")
            continue
        ways[name] = (sandbox, runs)
    table = Table(title="sandboxed runs a second, best round (median)")
    table.add_column("way")
    for number in threads:
        table.add_column(f"{number} at a time", justify="right")
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in track(range(rounds), "rounds", console=console, transient=True):
        for name, (sandbox, runs) in ways.items():
            for number in threads:
                rates.setdefault((name, number), []).append(rate(sandbox, runs, number))
    for name in ways:
        cells = []
        for number in threads:
            found = sorted(rates[name, number])
            cells.append(f"{found[-1]:.1f} ({found[len(found) // 2]:.1f})")
        table.add_row(name, *cells)
    console.print(table)
    for sandbox, _ in ways.values():
        sandbox.close()
