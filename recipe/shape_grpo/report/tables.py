"""The report's tables: final rewards, all tasks together, speed, rates, ablations, cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from recipe.shape_grpo.report import convergence, statistics
from recipe.shape_grpo.report.results import BASELINE, CREDIT, Results
from recipe.shape_grpo.report.statistics import (
    Estimate,
    mean_over_seeds,
    paired_difference,
    probability_of_improvement,
)

NOTHING = "-"
NARROW = 105
"""Width of a terminal that has room for two intervals and a probability."""

INTERVALS = "In brackets: 95% intervals of the mean over seeds, by Student's t."
FACTORS = {
    "advantage": ("advantage", "reweight"),
    "allocator": ("allocator", "shapley"),
    "length_correction": ("length correction", "False"),
}
"""Settings that the ablations vary, with their names in the table and the paper's choice."""


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: Name of its files, without the ending.
        title: Subject of the table.
        caption: How its numbers were made.
        rows: Cells as text; empty if the runs lack the data.
        wide: Column that is left out on a narrow terminal.
    """

    name: str
    title: str
    caption: str
    rows: pd.DataFrame
    wide: str | None = None

    def write(self, folder: Path) -> None:
        """Write the table as Markdown and as LaTeX (package booktabs)."""
        if self.rows.empty:
            return
        lines = [list(self.rows), ["---"] * len(self.rows.columns), *self.rows.values.tolist()]
        cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        (folder / f"{self.name}.md").write_text(f"{self.title}\n\n{table}\n\n{self.caption}\n")
        latex = self.rows.to_latex(
            index=False, escape=True, caption=_escaped(self.caption), label=f"tab:{self.name}"
        )
        (folder / f"{self.name}.tex").write_text(latex)

    def print(self, console: Console) -> None:
        """Print one table per task, and the caption."""
        shown = self.rows
        if self.wide is not None and console.width < NARROW:
            shown = shown.drop(columns=self.wide)
        for task, rows in shown.groupby("task", sort=False):
            title = f"{self.title}: {task}"
            table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD)
            for place, heading in enumerate(rows.columns[1:]):
                table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
            for row in rows.values.tolist():
                table.add_row(*row[1:])
            console.print(table)
        console.print(self.caption)


def all_tables(results: Results) -> list[Table]:
    """Return the tables of a report, in its order."""
    over_tasks = [overall_table(results)] if len(results.setups) > 1 else []
    return [
        main_table(results),
        *over_tasks,
        convergence_table(results),
        rate_table(results),
        ablation_table(results),
        cost_table(results),
    ]


def main_table(results: Results) -> Table:
    """Return the final held-out reward of each method in each setup, compared with GRPO."""
    chance = f"P(better than {BASELINE})"
    rows = []
    for setup, method, runs in results.cells():
        row = {
            "task": setup,
            "method": method,
            "seeds": str(len(runs)),
            "held-out reward": mean_over_seeds(runs["final"]).text(),
            f"minus {BASELINE}, same seeds": NOTHING,
            chance: NOTHING,
        }
        baseline = results.of(setup, BASELINE)
        if method != BASELINE and len(baseline):
            paired = paired_difference(runs, baseline, "final")
            difference = paired.text("+.3f") if paired else "no seed in common"
            row[f"minus {BASELINE}, same seeds"] = difference
            better = probability_of_improvement(runs["final"], baseline["final"])
            row[chance] = better.text(".2f")
        rows.append(row)
    caption = (
        "Best-of-set reward on held-out prompts after the last step, mean over seeds. "
        f"{INTERVALS} P: share of all pairs of runs in which the method's run is the better one "
        "(Mann-Whitney), with a 95% percentile bootstrap interval over seeds "
        f"({statistics.RESAMPLES_OVER_TASKS} resamples)."
    )
    lacking = [setup for setup in results.setups if results.of(setup, BASELINE).empty]
    if lacking:
        caption += f" There is no run of {BASELINE} to compare with for: {'; '.join(lacking)}."
    return Table("main", "Final held-out reward", caption, pd.DataFrame(rows), wide=chance)


def overall_table(results: Results) -> Table:
    """Return each method over all setups, by rliable, for the seeds that it shares with GRPO."""
    caption = (
        f"Final held-out rewards, divided by {BASELINE}'s mean of the same task, over all tasks: "
        f"rliable's interquartile mean and probability of improvement, averaged over tasks, with "
        f"95% stratified bootstrap intervals ({statistics.RESAMPLES_OVER_TASKS} resamples). "
        "Only methods with runs of every task, and seeds with runs of every task."
    )
    finals = {method: _finals(results, method) for method in results.methods}
    baseline = finals.get(BASELINE, pd.DataFrame())
    shared = {name: table.index.intersection(baseline.index) for name, table in finals.items()}
    pairs = {
        method: (finals[method].loc[seeds].to_numpy(), baseline.loc[seeds].to_numpy())
        for method, seeds in shared.items()
        if len(seeds)
    }
    level = baseline.mean().to_numpy()
    # A ratio of rewards is meaningful only if GRPO's are positive.
    positive = pairs if (level > 0).all() else {}
    relative = {method: ours / level for method, (ours, _) in positive.items()}
    means = statistics.interquartile_means(relative)
    chances = statistics.improvements_over_tasks(
        {method: pair for method, pair in pairs.items() if method != BASELINE}
    )

    def cell(estimates: dict[str, Estimate], method: str, form: str) -> str:
        if method not in estimates:
            return NOTHING
        estimate = estimates[method]
        one_seed = len(shared[method]) == 1
        return (Estimate(estimate.value) if one_seed else estimate).text(form)

    rows = [
        {
            "method": method,
            "tasks x seeds": f"{ours.shape[1]} x {ours.shape[0]}",
            f"interquartile mean, {BASELINE} = 1": cell(means, method, ".3f"),
            f"P(better than {BASELINE})": cell(chances, method, ".2f"),
        }
        for method, (ours, _) in pairs.items()
    ]
    return Table("overall", "Over all tasks", caption, pd.DataFrame(rows))


def convergence_table(results: Results) -> Table:
    """Return the table of speed and steadiness."""
    rows = pd.DataFrame(convergence.convergence_rows(results))
    caption = f"{convergence.CAPTION} {INTERVALS}"
    return Table("convergence", "Speed and steadiness", caption, rows)


def rate_table(results: Results) -> Table:
    """Return the rewards at each learning rate, for methods that were tried at several."""
    several = results.rates[results.rates["tried"] > 1]
    rows = pd.DataFrame(
        {
            "task": several["setup"],
            "method": several["method"],
            "learning rate": several["learning_rate"].map("{:g}".format),
            "seeds": several["seeds"].astype(str),
            "held-out reward over training": several["over_training"].map("{:.3f}".format),
            "held-out reward": several["final"].map("{:.3f}".format),
            "compared": several["best"].map({True: "yes", False: ""}),
        }
    )
    caption = (
        "Every method is compared at its own best rate: the one with the highest held-out reward, "
        "averaged over training and over the seeds that all its rates have."
    )
    return Table("rates", "Learning rates tried", caption, rows)


def ablation_table(results: Results) -> Table:
    """Return methods that differ in one thing: advantage, allocator or length correction."""
    runs = results.runs
    rows = []
    named = runs.reindex(columns=list(CREDIT)).notna().any(axis=1)
    known = runs[(runs["method"] != BASELINE) & named]
    known = known.assign(**{f"chosen {name}": _choices(known, name) for name in FACTORS})
    for factor in FACTORS:
        others = [name for name in FACTORS if name != factor]
        for key, group in known.groupby(["setup", *(f"chosen {name}" for name in others)]):
            if group[f"chosen {factor}"].nunique() > 1:
                values = zip(others, key[1:], strict=True)
                same = ", ".join(f"{FACTORS[name][0]} {value}" for name, value in values)
                rows += _compared(group, factor, same)
    caption = (
        "Final held-out reward of methods that differ in one setting. The difference is to the "
        f"first row of each block, over the same seeds. {INTERVALS}"
    )
    return Table("ablation", "One thing changed at a time", caption, pd.DataFrame(rows))


def cost_table(results: Results) -> Table:
    """Return the seconds per step, and the minutes per run."""
    rows = []
    for setup, method, runs in results.cells():
        steps = results.steps_of(runs).groupby("run")["seconds"]
        seconds, total = steps.median().dropna(), steps.sum(min_count=1).dropna() / 60
        rows.append(
            {
                "task": setup,
                "method": method,
                "seconds per step": mean_over_seeds(seconds).text() if len(seconds) else NOTHING,
                "minutes per run": f"{total.mean():.1f}" if len(total) else NOTHING,
            }
        )
    caption = (
        "Seconds: the median step of a run, mean over seeds. Minutes: all steps together. "
        f"{INTERVALS}"
    )
    return Table("cost", "Cost", caption, pd.DataFrame(rows))


def _finals(results: Results, method: str) -> pd.DataFrame:
    """Return final rewards (seeds, setups) for the seeds that have runs in every setup."""
    runs = results.runs[results.runs["method"] == method]
    table = runs.dropna(subset="seed").pivot(index="seed", columns="setup", values="final")
    return table.reindex(columns=results.setups).dropna()


def _choices(runs: pd.DataFrame, name: str) -> pd.Series:
    """Return a setting as text, with an allocator's options; the default if it is not recorded."""
    settings = runs.reindex(columns=[name, "allocator_options"])
    texts = settings[name].where(settings[name].notna(), FACTORS[name][1]).astype(str)
    if name != "allocator":
        return texts
    options = settings["allocator_options"].map(
        lambda value: f" {json.dumps(value)}" if isinstance(value, dict) and value else ""
    )
    return texts + options


def _compared(group: pd.DataFrame, factor: str, same: str) -> list[dict[str, str]]:
    """Return the rows of one block, the paper's choice first."""
    name, papers = FACTORS[factor]
    methods = group.groupby([f"chosen {factor}", "method"])
    blocks = sorted(methods, key=lambda block: (block[0][0] != papers, block[0]))
    first = blocks[0][1]
    rows = []
    for (value, method), runs in blocks:
        difference = None if runs is first else paired_difference(runs, first, "final")
        rows.append(
            {
                "task": group["setup"].iloc[0],
                "varied": name,
                "value": value,
                "method": method,
                "the same": same,
                "seeds": str(len(runs)),
                "held-out reward": mean_over_seeds(runs["final"]).text(),
                "minus the first": difference.text("+.3f") if difference else NOTHING,
            }
        )
    return rows


def _escaped(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
    return text
