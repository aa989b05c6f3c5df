"""Reads run folders into tables, with one row per run and per step.

A finished run is a folder with ``metrics.jsonl`` (verl's file logger) and ``settings.json``. A run
of verl that was started by hand has neither, but may have a file of verl's file logger,
TASK-kK-METHOD.jsonl, or a folder of that name with TensorBoard's event files: its task, K and
method are read from this name, and its seed is unknown.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recipe.shape_grpo.common.files import STAMP
from recipe.shape_grpo.common.run_folder import (
    METRICS,
    held_out_reward,
    number,
    read_metrics,
    read_steps,
)
from recipe.shape_grpo.report.archive import FACTS, read_archive
from recipe.shape_grpo.report.rates import at_best_rates
from shape_grpo.methods import METHODS, method_options

BASELINE = "grpo"
"""Method that the others are compared with."""

WINDOW = 8
"""Training steps that the running mean of the training reward covers."""

COLUMNS = {
    "critic/score/mean": "training",
    "actor/entropy": "entropy",
    "actor/grad_norm": "gradient_norm",
    "timing_s/step": "seconds",
    "shape_grpo/distinct_candidates": "distinct_candidates",
    "shape_grpo/candidate_length_variation": "length_variation",
}
"""verl's names of the metrics that the report shows, and their columns."""

CREDIT = ("utility", "utility_options", "allocator", "allocator_options", "advantage",
          "length_correction")  # fmt: skip
"""Settings of ``algorithm.shape_grpo`` that define a method."""

HOW_TO_MAKE = (
    f"A run is a folder with {METRICS} and {STAMP}, which `python -m recipe.shape_grpo.runs METHOD "
    "FOLDER` writes; started again, it finishes an unfinished run. Runs of main_shape_grpo and of "
    "verl's own entry point are read from their tracker's files if these are named "
    "TASK-kK-METHOD, as films-k3-grpo: TASK-kK-METHOD.jsonl (trainer.logger=[file], "
    "trainer.experiment_name=TASK-kK-METHOD), or a folder with TensorBoard's event files."
)

_MEASURED = ("folder", "final", "over_training")
_EVENTS = "events.out.tfevents."
_EXPERIMENT = re.compile(r"(?P<task>.+)-k(?P<candidates>\d+)-(?P<method>.+)")
_FACTS: dict[str, tuple[type, ...]] = {
    "trainer": (str,),
    "task": (str,),
    "method": (str,),
    "candidates": (int,),
    "seed": (int,),
    "learning_rate": (int, float),
    "steps": (int,),
}


@dataclass(frozen=True)
class Results:
    """The runs that a report is made from.

    Attributes:
        runs: One row per run: its settings, ``setup`` (methods and seeds are compared within it),
            ``folder``, ``final``, the last held-out reward, and ``over_training``, the mean of the
            held-out rewards after step 0.
        steps: One row per step of a run: the columns of ``runs``, ``run`` (its index there),
            ``step`` (0: before training), ``held_out``, the columns of `COLUMNS`, and
            ``training_mean``, the running mean of ``training`` over `WINDOW` steps. NaN where
            nothing was logged.
        rates: Rewards of each method at each learning rate (`at_best_rates`). ``runs`` and
            ``steps`` are those at its best rate.
        left_out: Reason to the folders that were left out for it.
    """

    runs: pd.DataFrame
    steps: pd.DataFrame
    rates: pd.DataFrame
    left_out: dict[str, list[Path]]

    @property
    def setups(self) -> list[str]:
        """The setups, in the order of the runs."""
        return list(self.runs["setup"].unique())

    @property
    def methods(self) -> list[str]:
        """All methods, with the baseline first."""
        return sorted(self.runs["method"].unique(), key=lambda method: (method != BASELINE, method))

    def of(self, setup: str, method: str) -> pd.DataFrame:
        """Return the runs of one method in one setup."""
        runs = self.runs
        return runs[(runs["setup"] == setup) & (runs["method"] == method)]

    def steps_of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the steps of these runs."""
        return self.steps[self.steps["run"].isin(runs.index)]

    def curves(self, setup: str, method: str, metric: str) -> pd.DataFrame:
        """Return a metric (steps, runs) at the steps that all runs of the method have."""
        steps = self.steps_of(self.of(setup, method))
        return steps.pivot(index="step", columns="run", values=metric).dropna()

    def cells(self) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """Yield every setup and method that has runs, and its runs."""
        for setup, method in itertools.product(self.setups, self.methods):
            if len(runs := self.of(setup, method)):
                yield setup, method, runs


def read_results(roots: Iterable[Path], split_by: Iterable[str] = ()) -> Results:
    """Read all runs below ``roots``, and keep those at each method's best learning rate.

    Args:
        roots: Folders.
        split_by: Further settings whose values are not to be compared with each other; with
            ``learning_rate``, methods are compared at each rate instead.

    Raises:
        FileNotFoundError: A root does not exist, or no run is whole.
        ValueError: A file cannot be read, or the report could not tell two runs apart.
    """
    roots = list(roots)
    facts, curves, left_out = read_runs(roots)
    if not facts:
        raise FileNotFoundError(
            f"no whole run below {', '.join(map(str, roots))}."
            + "".join(f" Left out: {len(found)}, {why}." for why, found in left_out.items())
            + f" {HOW_TO_MAKE}"
        )
    # TensorBoard's files do not know all facts.
    runs = pd.DataFrame([{**dict.fromkeys(_FACTS), **fact} for fact in facts])
    runs["setup"] = _setups(runs, split_by)
    runs["compared"] = runs["method"] != BASELINE
    runs = runs.sort_values(["setup", "compared", "method", "seed", "folder"])
    _check_distinct(runs)
    runs["over_training"] = [curves[run]["held_out"].iloc[1:].mean() for run in runs.index]
    runs, rates = at_best_rates(runs)
    curves = [curves[old].assign(run=new) for new, old in enumerate(runs.index)]
    runs = runs.drop(columns="compared").reset_index(drop=True)
    steps = pd.concat(curves, ignore_index=True).merge(runs, left_on="run", right_index=True)
    return Results(runs, steps, rates, left_out)


def read_runs(
    roots: Iterable[Path],
) -> tuple[list[dict[str, Any]], list[pd.DataFrame], dict[str, list[Path]]]:
    """Return facts and curves of all whole runs and archives, and the folders that are left out.

    Raises:
        FileNotFoundError: A root does not exist.
        ValueError: A file cannot be read.
    """
    facts: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    left_out: dict[str, list[Path]] = {}
    for folder, files in _run_folders(roots):
        if FACTS in files:
            archived, archived_curves = read_archive(folder)
            facts += [{**fact, "folder": f"{folder}: {fact['folder']}"} for fact in archived]
            curves += archived_curves
            continue
        try:
            fact = _read_facts(folder, files)
            curve = _read_curve(folder, files)
        except _NotARun as reason:
            left_out.setdefault(str(reason), []).append(folder)
            continue
        fact.setdefault("steps", int(curve["step"].iloc[-1]))
        final = float(curve["held_out"].dropna().iloc[-1])
        facts.append({**fact, "folder": str(folder), "final": final})
        curves.append(curve)
    return facts, curves, left_out


class _NotARun(Exception):
    """Error for a folder that is left out; the message says why."""


def _run_folders(roots: Iterable[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with metrics of any form once, and the names of its files.

    A file of verl's file logger is yielded by itself.
    """
    seen = set()
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder. {HOW_TO_MAKE}")
        for name, folders, files in os.walk(root):
            folders.sort()
            folder = Path(name)
            is_run = METRICS in files or any(file.startswith(_EVENTS) for file in files)
            if (is_run or FACTS in files) and folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder, files
            for file in sorted(folder / name for name in files if _is_logged(name)):
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield file, []


def _is_logged(name: str) -> bool:
    """Return whether this is the name of a file of verl's file logger."""
    path = Path(name)
    return path.suffix == ".jsonl" and _EXPERIMENT.fullmatch(path.stem) is not None


def _read_facts(folder: Path, files: list[str]) -> dict[str, Any]:
    if STAMP not in files:
        if METRICS in files:
            raise _NotARun(f"unfinished (no {STAMP})")
        named = _EXPERIMENT.fullmatch(folder.name.removesuffix(".jsonl"))
        if named is None:
            return {"trainer": "verl", "task": folder.resolve().parent.name, "method": folder.name}
        return {"trainer": "verl", **named.groupdict(), "candidates": int(named["candidates"])}
    try:
        settings = json.loads((folder / STAMP).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / STAMP} is not JSON: {error}") from None
    missing = [name for name in _FACTS if name not in settings]
    if missing:
        raise _NotARun(f"{STAMP} does not name {', '.join(missing)}")
    for name, types in _FACTS.items():
        if not isinstance(settings[name], types) and settings[name] is not None:
            raise ValueError(
                f"{folder / STAMP}: {name} is {settings[name]!r}; write "
                f"{' or '.join(kind.__name__ for kind in types)}."
            )
    credit = credit_settings(settings)
    settings.pop("shape_grpo", None)
    return {**settings, **{name: credit[name] for name in CREDIT if name in credit}}


def credit_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings of ``algorithm.shape_grpo``.

    They come from the block ``shape_grpo`` or single keys of its ``settings.json``, and else from
    the method's file in `shape_grpo/methods`.
    """
    method = settings.get("method")
    defaults = method_options(method) if method in METHODS else {}
    single = {name: settings[name] for name in (*CREDIT, "norm_by_std") if name in settings}
    return {**defaults, **single, **settings.get("shape_grpo", {})}


def _read_curve(folder: Path, files: list[str]) -> pd.DataFrame:
    """Return one row per step, as `Results` describes them."""
    if folder.is_file():
        metrics = read_steps(folder)
    else:
        metrics = read_metrics(folder) if METRICS in files else _read_events(folder)
    rows = []
    for step, values in sorted(metrics.items()):
        row = {name: number(values.get(key)) for key, name in COLUMNS.items()}
        rows.append({"step": step, "held_out": held_out_reward(values), **row})
    curve = pd.DataFrame(rows, columns=["step", "held_out", *COLUMNS.values()])
    if curve["held_out"].isna().all():
        raise _NotARun("no held-out reward (trainer.test_freq=N measures it every N steps)")
    curve = curve.astype({name: float for name in COLUMNS.values()})
    curve["training_mean"] = curve["training"].dropna().rolling(WINDOW).mean()
    return curve


def _read_events(folder: Path) -> dict[int, dict[str, float]]:
    """Return the scalars of TensorBoard's event files, by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    metrics: dict[int, dict[str, float]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            metrics.setdefault(event.step, {})[name] = event.value
    return metrics


def _setups(runs: pd.DataFrame, split_by: Iterable[str]) -> list[str]:
    """Return the task of each run, with the settings that vary among the runs."""
    unknown = [name for name in split_by if name not in runs]
    if unknown:
        known = ", ".join(name for name in runs if name not in _MEASURED)
        raise ValueError(f"--split-by {unknown[0]}: no run has this setting. There are: {known}.")
    shown = {"trainer": "{}", "candidates": "K={:.0f}", "steps": "{:.0f} steps",
             **{name: name.replace("_", " ") + " {}" for name in split_by}}  # fmt: skip
    varies = {name: text for name, text in shown.items() if runs[name].astype(str).nunique() > 1}
    labels = []
    for _, run in runs.iterrows():
        known = run.notna()
        parts = [text.format(run[name]) for name, text in varies.items() if known[name]]
        labels.append(", ".join([run["task"], *parts]))
    return labels


def _check_distinct(runs: pd.DataFrame) -> None:
    """Raise a ValueError for two runs of the same setup, method, rate and seed."""
    same = ["setup", "method", "learning_rate", "seed"]
    known = runs.dropna(subset="seed").groupby(same, dropna=False)
    for (setup, method, _, seed), twins in known:
        if len(twins) == 1:
            continue
        first, second = twins.iloc[0], twins.iloc[1]
        differing = [
            name for name in runs if name not in _MEASURED and str(first[name]) != str(second[name])
        ]
        advice = (
            f"they differ in {', '.join(differing)}: write --split-by {differing[0]}"
            if differing
            else "leave one of them out"
        )
        raise ValueError(
            f"{first['folder']} and {second['folder']} are both {setup}, {method}, seed "
            f"{seed:.0f}; {advice}."
        )
