"""Many runs in two small files, so that a report can be made again without their folders.

    python -m recipe.shape_grpo.report archive RUNS ... --output FOLDER

writes ``runs.jsonl.gz``, the facts of each run, and ``steps.parquet``, the report's metrics of each
step in four significant digits. The report and this command take FOLDER in the place of RUNS: an
archive and new runs give a larger archive. A run that both hold is kept once.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FACTS = "runs.jsonl.gz"
STEPS = "steps.parquet"
DIGITS = 4
PARTS = 4
"""Number of parts kept of an absolute path: a sweep's task, method, learning rate and seed."""


def write_archive(
    facts: list[dict[str, Any]], curves: list[pd.DataFrame], output: Path, every: int = 1
) -> int:
    """Write both files, and return the number of runs in them.

    Args:
        facts: Facts of each run, as `recipe.shape_grpo.report.results` reads them.
        curves: One row per step of the same runs.
        output: Folder of the files.
        every: Keep the steps that are a multiple of this, and those with a held-out reward.
    """
    output.mkdir(parents=True, exist_ok=True)
    runs: dict[str, tuple[str, pd.DataFrame]] = {}
    for fact, curve in zip(facts, curves, strict=True):
        # The folder of a run from an archive starts with the archive's folder.
        bare = {**fact, "folder": fact["folder"].split(": ")[-1]}
        short = {key: _short(value) for key, value in bare.items()}
        # Runs with equal settings, seed and last reward are the same run.
        same = json.dumps({**short, "folder": None}, sort_keys=True)
        runs.setdefault(same, (json.dumps(short), curve))
    lines = [line for line, _ in runs.values()]
    # Without the time, the same runs give the same file.
    (output / FACTS).write_bytes(gzip.compress("\n".join([*lines, ""]).encode(), mtime=0))
    steps = pd.concat([curve.assign(run=run) for run, (_, curve) in enumerate(runs.values())])
    steps = steps[(steps["step"] % every == 0) | steps["held_out"].notna()]
    figures = steps.columns.drop(["run", "step"])
    steps[figures] = _rounded(steps[figures]).astype("float32")
    steps.to_parquet(output / STEPS, index=False, compression="zstd")
    return len(lines)


def _short(value: Any) -> Any:
    """Return a fact, but only the end of an absolute path, whose beginning names a machine."""
    if isinstance(value, str) and Path(value).is_absolute():
        return str(Path(*Path(value).parts[-PARTS:]))
    return value


def read_archive(folder: Path) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Return facts and curves of the runs, in the same order."""
    with gzip.open(folder / FACTS, "rt") as lines:
        facts = [json.loads(line) for line in lines]
    steps = pd.read_parquet(folder / STEPS).astype({"step": int})
    curves = [curve.drop(columns="run") for _, curve in steps.groupby("run", sort=True)]
    figures = curves[0].columns.drop("step")
    # Rounded again, because the float32 nearest to 4.418 is not 4.418.
    return facts, [curve.assign(**_rounded(curve[figures].astype(float))) for curve in curves]


def _rounded(figures: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers in `DIGITS` significant digits."""
    values = figures.to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** (DIGITS - 1 - np.where(np.isfinite(exponent), exponent, 0))
    return pd.DataFrame(np.round(values * scale) / scale, figures.index, figures.columns)
