"""The report's figures: each as PNG and SVG, and as SVG for a page that may be dark."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from recipe.shape_grpo.report import statistics
from recipe.shape_grpo.report.convergence import steps_to_baseline
from recipe.shape_grpo.report.curves import WINDOW
from recipe.shape_grpo.report.results import BASELINE, Results
from recipe.shape_grpo.report.rollouts import FILES_READ, length_samples
from recipe.shape_grpo.report.statistics import ONE_SEED, mean_over_seeds

matplotlib.use("Agg")

INK = "#1b1c1e"
"""The colour of text and axes, and of nothing else: in a page it becomes the page's own."""

BASELINE_COLOUR = "#808285"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours that show on white and on black."""

LINES = ("-", "--", ":", "-.")
POINTS = 80
"""Steps at which a curve is drawn, at most."""

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "figure.constrained_layout.use": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
}


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: How it was made.
        svg: For a page: a clear background, and text in the page's colour; None where the runs do
            not hold what the figure needs, which the caption then says.
    """

    name: str
    title: str
    caption: str
    svg: str | None


@dataclass(frozen=True)
class Painter:
    """Draws the figures of one report.

    Attributes:
        results: What is drawn.
        folder: Where the files go.
        source: The command and the runs, written under each figure.
    """

    results: Results
    folder: Path
    source: str

    count = 5

    def figures(self) -> Iterator[Figure]:
        """All figures, drawn one after another."""
        paint = (self.lengths, self.rewards, self.candidates, self.steps_needed, self.health)
        for draw in paint:
            with matplotlib.rc_context(STYLE):
                yield draw()

    def rewards(self) -> Figure:
        """The paper's figure 3."""
        panels = {"held_out": "held-out reward", "training_mean": "training reward"}
        return self._curves(
            "figure3_curves",
            "Figure 3: reward over training",
            panels,
            f"Left: held-out prompts; right: the rollouts of training, mean of {WINDOW} steps.",
        )

    def health(self) -> Figure:
        """Entropy, gradient norm and distinct candidates over training."""
        panels = {
            "entropy": "entropy",
            "gradient_norm": "gradient norm",
            "distinct_candidates": "distinct candidates",
        }
        return self._curves(
            "health",
            "Entropy, gradient norm and distinct candidates",
            panels,
            "Where entropy is gone, nothing more is learnt.",
        )

    def candidates(self) -> Figure:
        """The paper's figure 4."""
        name, title = "figure4_candidates", "Figure 4: reward against the number of candidates"
        runs = self.results.runs.dropna(subset="candidates").copy()
        runs["setup"] = runs["setup"].str.replace(r", K=\d+", "", regex=True)
        several = runs.groupby(["setup", "method"])["candidates"].transform("nunique") > 1
        runs = runs[several]
        if runs.empty:
            return Figure(
                name, title, "Needs runs of one method at several K; there are none.", None
            )

        def draw(axes: Axes, setup: str) -> None:
            for method in self.results.methods:
                of = runs[(runs["setup"] == setup) & (runs["method"] == method)]
                if of.empty:
                    continue
                means = {k: mean_over_seeds(x["final"]) for k, x in of.groupby("candidates")}
                values = [mean.value for mean in means.values()]
                ends = [
                    [0 if mean.low is None else mean.value - mean.low for mean in means.values()],
                    [0 if mean.high is None else mean.high - mean.value for mean in means.values()],
                ]
                style = {**self._line(method), "marker": "o", "ms": 4, "capsize": 2}
                axes.errorbar(list(means), values, yerr=ends, **style)
            axes.set(title=setup, xlabel="candidates K", ylabel="held-out reward")
            axes.set_xticks(sorted(runs.loc[runs["setup"] == setup, "candidates"].unique()))

        return self._grid(
            name, title, sorted(runs["setup"].unique()), draw,
            "Final held-out reward, mean over seeds; bars: 95% bootstrap intervals.",
        )  # fmt: skip

    def lengths(self) -> Figure:
        """The paper's figure 2."""
        name, title = "figure2_lengths", "Figure 2: how unequal the lengths of candidates are"
        samples, per_response = length_samples(self.results)
        if not samples:
            needs = "Needs RUN/rollouts/ or the metric shape_grpo/candidate_length_variation."
            return Figure(name, title, needs, None)
        levels = np.linspace(0, 1, 101)

        def draw(axes: Axes, setup: str) -> None:
            for method in self.results.methods:
                sample = samples.get((setup, method))
                if sample is not None:
                    axes.plot(np.quantile(sample, levels), levels, **self._line(method))
            axes.set(title=setup, xlabel="coefficient of variation of at most", ylabel="share")
            axes.set_xlim(left=0)

        setups = [setup for setup in self.results.setups if any(setup == of for of, _ in samples)]
        what = (
            f"a response, of the last {FILES_READ} steps with rollouts"
            if per_response
            else "a step (the mean over its responses: there are runs without rollouts)"
        )
        return self._grid(
            name, title, setups, draw,
            f"Cumulative, all seeds, one value {what}: the standard deviation of the candidates' "
            "lengths in tokens over their mean. 0: equal lengths, where reweighting is unbiased.",
        )  # fmt: skip

    def steps_needed(self) -> Figure:
        """How soon each method earns what GRPO earns in the end."""
        name, title = "steps_to_grpo", f"Steps to {BASELINE}'s final training reward"
        needed = {
            (setup, method): steps_to_baseline(self.results, setup, method)
            for setup in self.results.setups
            for method in self.results.methods
        }
        setups = [
            setup
            for setup in self.results.setups
            if any(len(steps) for (of, _), steps in needed.items() if of == setup)
        ]
        if not setups:
            needs = f"Needs runs of {BASELINE} with {WINDOW} training steps or more."
            return Figure(name, title, needs, None)

        def draw(axes: Axes, setup: str) -> None:
            steps = self.results.steps
            end = steps.loc[steps["setup"] == setup, "step"].max()
            methods = [method for method in self.results.methods if len(needed[setup, method])]
            for place, method in enumerate(methods):
                reached = np.minimum(needed[setup, method], 1.08 * end)
                colour = self._line(method)["color"]
                axes.plot(reached, [place] * len(reached), "o", color=colour, alpha=0.5, ms=5)
                axes.plot(np.median(reached), place, "|", color=colour, ms=16, mew=2.5)
            axes.axvline(1.04 * end, color=INK, lw=0.8, ls=":")
            axes.set(title=setup, xlabel="step (right of the dots: not reached)")
            axes.set_yticks(range(len(methods)), methods)
            axes.set_xlim(0, 1.13 * end)
            axes.invert_yaxis()

        return self._grid(
            name, title, setups, draw,
            f"A dot a run: the first step whose training reward (mean of {WINDOW} steps) is at "
            f"{BASELINE}'s last one, median of its seeds. Bars: medians.",
            legend=False,
        )  # fmt: skip

    def _curves(self, name: str, title: str, panels: dict[str, str], caption: str) -> Figure:
        """A row a setup, a column a metric."""
        steps = self.results.steps
        panels = {metric: label for metric, label in panels.items() if steps[metric].notna().any()}
        setups = self.results.setups
        if not panels:
            return Figure(name, title, "The runs did not log these metrics.", None)
        drawing, grid = plt.subplots(
            len(setups), len(panels), squeeze=False,
            figsize=(3.7 * len(panels), 2.5 * len(setups) + 0.7),
        )  # fmt: skip
        for setup, row in zip(setups, grid, strict=True):
            for (metric, label), axes in zip(panels.items(), row, strict=True):
                for method in self.results.methods:
                    of = steps[(steps["setup"] == setup) & (steps["method"] == method)]
                    _draw_curve(axes, of, metric, self._line(method), method)
                axes.set(title=setup, xlabel="step", ylabel=label)
        bands = (
            f"Mean over seeds; bands: 95% bootstrap intervals ({statistics.RESAMPLES_OF_A_BAND} "
        )
        return self._finish(drawing, name, title, f"{caption} {bands}resamples).")

    def _grid(
        self,
        name: str,
        title: str,
        setups: Sequence[str],
        draw: Callable[[Axes, str], None],
        caption: str,
        legend: bool = True,
    ) -> Figure:
        """A panel a setup, two in a row."""
        columns = min(2, len(setups))
        rows = -(-len(setups) // columns)
        size = (3.7 * columns if columns > 1 else 5.0, 2.7 * rows + 0.7)
        drawing, grid = plt.subplots(rows, columns, squeeze=False, figsize=size)
        for axes, setup in zip(grid.flat, setups, strict=False):
            draw(axes, setup)
        for axes in grid.flat[len(setups) :]:
            axes.remove()
        return self._finish(drawing, name, title, caption, legend)

    def _line(self, method: str) -> dict[str, Any]:
        """The colour and the line of a method, the same in every figure."""
        if method == BASELINE:
            return {"color": BASELINE_COLOUR, "ls": "-", "lw": 1.8}
        others = [other for other in self.results.methods if other != BASELINE]
        place = others.index(method)
        line = LINES[place // len(COLOURS) % len(LINES)]
        return {"color": COLOURS[place % len(COLOURS)], "ls": line, "lw": 1.5}

    def _finish(
        self, drawing: Drawing, name: str, title: str, caption: str, legend: bool = True
    ) -> Figure:
        if legend:
            methods = self.results.methods
            lines = [Line2D([], [], **self._line(method)) for method in methods]
            columns = max(1, int(drawing.get_figwidth() / 1.8))
            drawing.legend(lines, methods, loc="outside upper left", ncols=columns)
        source = textwrap.fill(self.source, int(22 * drawing.get_figwidth()))
        drawing.supxlabel(source, x=0.01, ha="left", fontsize=6)
        if self.results.runs.groupby(["setup", "method"]).size().max() == 1:
            caption = f"{caption} {ONE_SEED.capitalize()}."
        about = {"Title": title, "Description": f"{caption} {self.source}"}
        drawing.savefig(self.folder / f"{name}.png", dpi=160, facecolor="white", metadata=about)
        with matplotlib.rc_context({"svg.hashsalt": name}):
            undated = {**about, "Date": None}
            drawing.savefig(self.folder / f"{name}.svg", facecolor="white", metadata=undated)
            page = io.StringIO()
            drawing.savefig(page, format="svg", transparent=True, metadata=undated)
        plt.close(drawing)
        svg = page.getvalue()
        return Figure(name, title, caption, svg[svg.index("<svg") :].replace(INK, "currentColor"))


def _draw_curve(
    axes: Axes, steps: pd.DataFrame, metric: str, line: dict[str, Any], method: str
) -> None:
    """Mean and band over the seeds of one method, at the steps that all of them have."""
    seeds = steps.pivot(index="step", columns="run", values=metric).dropna()
    if seeds.empty:
        return
    kept = np.unique(np.linspace(0, len(seeds) - 1, POINTS).round().astype(int))
    seeds = seeds.iloc[kept]
    axes.plot(seeds.index, seeds.mean(axis=1), label=method, **line)
    if seeds.shape[1] > 1:
        low, high = statistics.band(seeds.to_numpy())
        axes.fill_between(seeds.index, low, high, color=line["color"], alpha=0.18, lw=0)
