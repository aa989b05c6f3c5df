"""Sandboxed runs per second: fresh interpreters and the warm pool, in one run.

    python -m recipe.shape_grpo.bench sandbox

A run multiplies a small array and returns a DataFrame, so it needs NumPy and pandas. Rounds of the
kinds alternate, and the best rounds are compared, because the machine may be busy with something
else.
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
# Importing pandas on a busy machine takes longer than the default limit of a run.
LIMITS = Limits(seconds=120)


def rate(sandbox: Sandbox, runs: int, threads: int) -> float:
    """Return the number of runs per second.

    Raises:
        RuntimeError: a run failed.
    """

    def multiply(factor: int) -> int:
        outcome = sandbox.run(CODE, inputs={"factor": factor}, outputs=["result"])
        if outcome.status != "done":
            raise RuntimeError(f"a run ended with {outcome.status}: {outcome.detail}")
        return int(outcome.values()["result"]["x"].max())

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        results = list(pool.map(multiply, range(runs)))
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
    kinds: dict[str, tuple[Sandbox, int]] = {}
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
        kinds[name] = (sandbox, runs)
    table = Table(title="sandboxed runs per second, best round (median)")
    table.add_column("way")
    for number in threads:
        table.add_column(f"{number} at a time", justify="right")
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in track(range(rounds), "rounds", console=console, transient=True):
        for name, (sandbox, runs) in kinds.items():
            for number in threads:
                rates.setdefault((name, number), []).append(rate(sandbox, runs, number))
    for name in kinds:
        cells = []
        for number in threads:
            found = sorted(rates[name, number])
            cells.append(f"{found[-1]:.1f} ({found[len(found) // 2]:.1f})")
        table.add_row(name, *cells)
    console.print(table)
    for sandbox, _ in kinds.values():
        sandbox.close()
