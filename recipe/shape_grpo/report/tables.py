"""The report's tables: the main one, one over all tasks, the ablations, the cost."""

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
"""Terminals below this width have no room for two intervals and a probability."""

INTERVALS = (
    f"In brackets: 95% percentile bootstrap intervals over seeds (scipy.stats.bootstrap, "
    f"{statistics.RESAMPLES} resamples); with five seeds or fewer they are too narrow."
)
FACTORS = {
    "advantage": ("reading", "reweight"),
    "allocator": ("allocator", "shapley"),
    "length_correction": ("length correction", "False"),
}
"""Settings that the ablations vary, their names in the table, and the paper's choice."""


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: How its numbers were made.
        rows: Text, ready to print; empty where the runs do not hold what the table needs.
    """

    name: str
    title: str
    caption: str
    rows: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write it as Markdown and as LaTeX (package booktabs)."""
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
        """Print it, a table a task, on a narrow terminal without the last column."""
        shown = self.rows if console.width >= NARROW else self.rows.iloc[:, :-1]
        for task, rows in shown.groupby("task", sort=False):
            title = f"{self.title}: {task}"
            table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD)
            for place, heading in enumerate(rows.columns[1:]):
                left = place == 0
                table.add_column(heading, justify="left" if left else "right", no_wrap=left)
            for row in rows.values.tolist():
                table.add_row(*row[1:])
            console.print(table)
        console.print(self.caption)


def all_tables(results: Results) -> list[Table]:
    """The tables of a report, in its order."""
    tables = [
        main_table(results),
        overall_table(results),
        convergence_table(results),
        rate_table(results),
        ablation_table(results),
        cost_table(results),
    ]
    return tables if len(results.setups) > 1 else [tables[0], *tables[2:]]


def main_table(results: Results) -> Table:
    """Each method in each setup: the final held-out reward, and how it compares with GRPO."""
    rows = []
    for setup, method, runs in results.cells():
        baseline = results.of(setup, BASELINE)
        difference = chance = NOTHING
        if method != BASELINE and len(baseline):
            paired = paired_difference(runs, baseline, "final")
            difference = "no seed in common" if paired is None else paired.text("+.3f")
            chance = probability_of_improvement(runs["final"], baseline["final"]).text(".2f")
        rows.append(
            {
                "task": setup,
                "method": method,
                "seeds": str(len(runs)),
                "held-out reward": mean_over_seeds(runs["final"]).text(),
                f"minus {BASELINE}, same seeds": difference,
                f"P(better than {BASELINE})": chance,
            }
        )
    caption = (
        "Best-of-set reward on held-out prompts after the last step, mean over seeds. "
        f"{INTERVALS} P: the part of all pairs of runs in which the method's is the better one "
        f"(Mann-Whitney, {statistics.RESAMPLES_OVER_TASKS} resamples)."
    )
    lacking = [setup for setup in results.setups if results.of(setup, BASELINE).empty]
    if lacking:
        caption += f" There is no run of {BASELINE} to compare with for: {'; '.join(lacking)}."
    return Table("main", "Final held-out reward", caption, pd.DataFrame(rows))


def overall_table(results: Results) -> Table:
    """Each method over all setups, by rliable; of the seeds that all its runs and GRPO's share."""
    scores = {method: _scores(results, method) for method in results.methods}
    rows = []
    if scores.get(BASELINE) is not None:
        whole = {method: of for method, of in scores.items() if of is not None}
        pairs = {}
        relative = {}
        for method, finals in whole.items():
            seeds = finals.index.intersection(whole[BASELINE].index)
            if len(seeds):
                ours, theirs = finals.loc[seeds].to_numpy(), whole[BASELINE].loc[seeds].to_numpy()
                pairs[method] = (ours, theirs)
                relative[method] = ours / whole[BASELINE].mean().to_numpy()
        # A ratio of rewards says something only where GRPO's are positive.
        positive = bool((whole[BASELINE].mean() > 0).all())
        means = statistics.interquartile_means(relative) if positive else {}
        others = {method: pair for method, pair in pairs.items() if method != BASELINE}
        chances = statistics.improvements_over_tasks(others)
        for method, pair in pairs.items():
            one = len(pair[0]) == 1
            rows.append(
                {
                    "method": method,
                    "tasks x seeds": f"{pair[0].shape[1]} x {pair[0].shape[0]}",
                    f"interquartile mean, {BASELINE} = 1": _without_interval(means[method], one)
                    if means
                    else NOTHING,
                    f"P(better than {BASELINE})": _without_interval(chances[method], one, ".2f")
                    if method in chances
                    else NOTHING,
                }
            )
    caption = (
        f"Final held-out rewards, divided by {BASELINE}'s mean of the same task, over all tasks: "
        f"rliable's interquartile mean and probability of improvement, averaged over tasks, with "
        f"95% stratified bootstrap intervals ({statistics.RESAMPLES_OVER_TASKS} resamples). "
        "Methods that have runs of every task, and their seeds that are there for every task."
    )
    return Table("overall", "Over all tasks", caption, pd.DataFrame(rows))


def convergence_table(results: Results) -> Table:
    """How soon each method earns what GRPO earns in the end, and how steadily."""
    caption = f"{convergence.CAPTION} {INTERVALS}"
    return Table(
        "convergence",
        "Speed and steadiness",
        caption,
        pd.DataFrame(convergence.convergence_rows(results)),
    )


def rate_table(results: Results) -> Table:
    """What each method did at each learning rate, where it was tried at several."""
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
        "Every method is compared at its own best rate: that with the highest held-out reward, "
        "averaged over training, of the seeds that all its rates have."
    )
    return Table("rates", "Learning rates tried", caption, rows)


def ablation_table(results: Results) -> Table:
    """Methods that differ in one thing: the reading, the allocator or the length correction."""
    runs = results.runs
    rows = []
    named = runs.reindex(columns=list(CREDIT)).notna().any(axis=1)
    known = runs[(runs["method"] != BASELINE) & named]
    known = known.assign(**{f"chosen {name}": _choices(known, name) for name in FACTORS})
    for factor in FACTORS:
        fixed = [name for name in FACTORS if name != factor]
        for key, group in known.groupby(["setup", *(f"chosen {name}" for name in fixed)]):
            if group[f"chosen {factor}"].nunique() > 1:
                held = ", ".join(
                    f"{FACTORS[name][0]} {value}"
                    for name, value in zip(fixed, key[1:], strict=True)
                )
                rows += _compared(group, factor, held)
    caption = (
        "Final held-out reward of methods that differ in one setting; the difference is to the "
        f"first row of each block, over the same seeds. {INTERVALS}"
    )
    return Table("ablation", "One thing changed at a time", caption, pd.DataFrame(rows))


def cost_table(results: Results) -> Table:
    """Seconds a step, and the time of a whole run."""
    rows = []
    for setup, method, runs in results.cells():
        steps = results.steps[results.steps["run"].isin(runs.index)].groupby("run")
        seconds = steps["seconds"].median().dropna()
        total = steps["seconds"].sum(min_count=1).dropna() / 60
        rows.append(
            {
                "task": setup,
                "method": method,
                "seconds a step": mean_over_seeds(seconds).text() if len(seconds) else NOTHING,
                "minutes a run": f"{total.mean():.1f}" if len(total) else NOTHING,
            }
        )
    caption = (
        "Seconds: the median step of a run, mean over seeds. Minutes: all steps together. "
        f"{INTERVALS}"
    )
    return Table("cost", "Cost", caption, pd.DataFrame(rows))


def _scores(results: Results, method: str) -> pd.DataFrame | None:
    """Final rewards (seeds, setups) of the seeds that are there in every setup."""
    runs = results.runs[results.runs["method"] == method]
    table = runs.dropna(subset="seed").pivot(index="seed", columns="setup", values="final")
    table = table.reindex(columns=results.setups).dropna()
    return table if len(table) else None


def _choices(runs: pd.DataFrame, name: str) -> pd.Series:
    """The setting ``name`` as text, an allocator with its options; the default where not named."""
    settings = runs.reindex(columns=[name, "allocator_options"])
    texts = settings[name].where(settings[name].notna(), FACTORS[name][1]).astype(str)
    if name != "allocator":
        return texts
    options = settings["allocator_options"].map(
        lambda of: f" {json.dumps(of)}" if isinstance(of, dict) and of else ""
    )
    return texts + options


def _compared(group: pd.DataFrame, factor: str, held: str) -> list[dict[str, str]]:
    """Rows of one block, the paper's choice first."""
    name, papers = FACTORS[factor]
    chosen = f"chosen {factor}"
    methods = group.groupby([chosen, "method"])
    keys = sorted(methods.groups, key=lambda key: (key[0] != papers, key))
    first = methods.get_group(keys[0])
    rows = []
    for key in keys:
        runs = methods.get_group(key)
        difference = None if key == keys[0] else paired_difference(runs, first, "final")
        rows.append(
            {
                "task": group["setup"].iloc[0],
                "varied": name,
                "value": key[0],
                "method": key[1],
                "the same": held,
                "seeds": str(len(runs)),
                "held-out reward": mean_over_seeds(runs["final"]).text(),
                "minus the first": difference.text("+.3f") if difference else NOTHING,
            }
        )
    return rows


def _without_interval(estimate: Estimate, one_seed: bool, form: str = ".3f") -> str:
    return (Estimate(estimate.value) if one_seed else estimate).text(form)


def _escaped(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
    return text
