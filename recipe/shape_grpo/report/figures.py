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

from recipe.shape_grpo.report.convergence import steps_to_baseline
from recipe.shape_grpo.report.results import BASELINE, WINDOW, Results
from recipe.shape_grpo.report.rollouts import FILES_READ, length_samples
from recipe.shape_grpo.report.statistics import ONE_SEED, intervals_of_means, mean_over_seeds
from recipe.shape_grpo.report.style import INK, STYLE, method_line

matplotlib.use("Agg")

POINTS = 80
"""Maximum number of steps at which a curve is drawn."""


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        name: Name of its files, without the ending.
        title: Subject of the figure.
        caption: How it was made.
        svg: SVG for a page, with a clear background and text in the page's colour; None if the
            runs lack the data, which the caption then names.
    """

    name: str
    title: str
    caption: str
    svg: str | None


@dataclass(frozen=True)
class Painter:
    """Draws the figures of one report.

    Attributes:
        results: The runs.
        folder: Folder of the files.
        source: The command and the runs, written under each figure.
        study: Runs of other seeds in one setup, whose bands are drawn with single runs' curves.
    """

    results: Results
    folder: Path
    source: str
    study: Results | None = None

    count = 5

    def figures(self) -> Iterator[Figure]:
        """Draw all figures, one after another."""
        for draw in (self.lengths, self.rewards, self.candidates, self.steps_needed, self.health):
            yield draw()

    def rewards(self, name: str = "figure3_curves") -> Figure:
        """Draw the paper's figure 3."""
        return self._curves(
            name,
            "Figure 3: reward over training",
            {"held_out": "held-out reward", "training_mean": "training reward"},
            f"Left: held-out prompts; right: the rollouts of training, mean of {WINDOW} steps.",
        )

    def health(self) -> Figure:
        """Draw entropy, gradient norm and distinct candidates over training."""
        metrics = ("entropy", "gradient_norm", "distinct_candidates")
        return self._curves(
            "health",
            "Entropy, gradient norm and distinct candidates",
            {metric: metric.replace("_", " ") for metric in metrics},
            "A policy without entropy does not explore, and stops learning.",
        )

    def candidates(self) -> Figure:
        """Draw the paper's figure 4."""
        name, title = "figure4_candidates", "Figure 4: reward against the number of candidates"
        runs = self.results.runs.dropna(subset="candidates").copy()
        runs["setup"] = runs["setup"].str.replace(r", K=\d+", "", regex=True)
        several = runs.groupby(["setup", "method"])["candidates"].transform("nunique") > 1
        runs = runs[several]

        def draw(axes: Axes, setup: str) -> None:
            for method in self.results.methods:
                by_k = runs[(runs["setup"] == setup) & (runs["method"] == method)]
                if by_k.empty:
                    continue
                groups = by_k.groupby("candidates")["final"]
                means = {k: mean_over_seeds(final) for k, final in groups}
                values = np.array([mean.value for mean in means.values()])
                # With one seed there is no interval.
                lows = [mean.value if mean.low is None else mean.low for mean in means.values()]
                style = {**self._line(method), "marker": "o", "ms": 4, "capsize": 2}
                axes.errorbar(list(means), values, yerr=values - lows, **style)
            axes.set(title=setup, xlabel="candidates K", ylabel="held-out reward")
            axes.set_xticks(sorted(runs.loc[runs["setup"] == setup, "candidates"].unique()))

        return self._grid(
            name, title, sorted(runs["setup"].unique()), draw,
            "Final held-out reward, mean over seeds; bars: 95% intervals by Student's t.",
            needs="runs of one method at several K; there are none",
        )  # fmt: skip

    def lengths(self) -> Figure:
        """Draw the paper's figure 2."""
        name, title = "figure2_lengths", "Figure 2: how unequal the lengths of candidates are"
        samples, per_response = length_samples(self.results)
        levels = np.linspace(0, 1, 101)

        def draw(axes: Axes, setup: str) -> None:
            for method in self.results.methods:
                if (setup, method) in samples:
                    sample = np.quantile(samples[setup, method], levels)
                    axes.plot(sample, levels, **self._line(method))
            axes.set(title=setup, xlabel="coefficient of variation of at most", ylabel="share")
            axes.set_xlim(left=0)

        unit = (
            f"response, of the last {FILES_READ} steps with rollouts"
            if per_response
            else "step (the mean over its responses: there are runs without rollouts)"
        )
        return self._grid(
            name, title, sorted({setup for setup, _ in samples}), draw,
            f"Cumulative, all seeds, one value per {unit}: the standard deviation of the "
            "candidates' lengths in tokens over their mean. 0: equal lengths, where reweighting is "
            "unbiased.",
            needs="RUN/rollouts/ or the metric shape_grpo/candidate_length_variation",
        )  # fmt: skip

    def steps_needed(self) -> Figure:
        """Draw how soon each method earns GRPO's final reward."""
        name, title = "steps_to_grpo", f"Steps to {BASELINE}'s final training reward"
        steps = self.results.steps
        cells = {
            (setup, method): steps_to_baseline(self.results, setup, method)
            for setup, method, _ in self.results.cells()
        }
        needed = {cell: reached for cell, reached in cells.items() if len(reached)}

        def draw(axes: Axes, setup: str) -> None:
            end = steps.loc[steps["setup"] == setup, "step"].max()
            methods = [method for task, method in needed if task == setup]
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
            name, title, sorted({setup for setup, _ in needed}), draw,
            f"One dot per run: the first step whose training reward (mean of {WINDOW} steps) is at "
            f"{BASELINE}'s last one, median of its seeds. Bars: medians.",
            needs=f"runs of {BASELINE} with {WINDOW} training steps or more",
            legend=False,
        )  # fmt: skip

    def _curves(self, name: str, title: str, panels: dict[str, str], caption: str) -> Figure:
        """Draw one row per setup and one column per metric."""
        steps = self.results.steps
        panels = {metric: label for metric, label in panels.items() if steps[metric].notna().any()}
        setups = self.results.setups
        if not panels:
            return Figure(name, title, "The runs did not log these metrics.", None)
        with matplotlib.rc_context(STYLE):
            size = (3.7 * len(panels), 2.5 * len(setups) + 0.7)
            drawing, grid = plt.subplots(len(setups), len(panels), squeeze=False, figsize=size)
            for setup, row in zip(setups, grid, strict=True):
                for (metric, label), axes in zip(panels.items(), row, strict=True):
                    for method in self.results.methods:
                        self._draw_curve(axes, setup, method, metric)
                    axes.set(title=setup, xlabel="step", ylabel=label)
            bands = "Mean over seeds; bands: 95% intervals by Student's t."
            return self._finish(drawing, name, title, f"{caption} {bands}")

    def _draw_curve(self, axes: Axes, setup: str, method: str, metric: str) -> None:
        """Draw mean and band over seeds, at the steps that all seeds have."""
        seeds = _thinned(self.results.curves(setup, method, metric))
        if seeds.empty:
            return
        line = self._line(method)
        axes.plot(seeds.index, seeds.mean(axis=1), **line)
        if seeds.shape[1] == 1 and self.study is not None:
            seeds = _thinned(self.study.curves(self.study.setups[0], method, metric))
        if seeds.shape[1] > 1:
            low, high = intervals_of_means(seeds.to_numpy())
            axes.fill_between(seeds.index, low, high, color=line["color"], alpha=0.18, lw=0)

    def _grid(
        self,
        name: str,
        title: str,
        setups: Sequence[str],
        draw: Callable[[Axes, str], None],
        caption: str,
        needs: str,
        legend: bool = True,
    ) -> Figure:
        """Draw one panel per setup, two in a row; without setups, say what the figure needs."""
        if not setups:
            return Figure(name, title, f"Needs {needs}.", None)
        columns = min(2, len(setups))
        rows = -(-len(setups) // columns)
        size = (3.7 * columns if columns > 1 else 5.0, 2.7 * rows + 0.7)
        with matplotlib.rc_context(STYLE):
            drawing, grid = plt.subplots(rows, columns, squeeze=False, figsize=size)
            for axes, setup in zip(grid.flat, setups, strict=False):
                draw(axes, setup)
            for axes in grid.flat[len(setups) :]:
                axes.remove()
            return self._finish(drawing, name, title, caption, legend)

    def _line(self, method: str) -> dict[str, Any]:
        return method_line(method, self.results.methods)

    def _finish(
        self, drawing: Drawing, name: str, title: str, caption: str, legend: bool = True
    ) -> Figure:
        """Write the files, with the source under the drawing."""
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


def _thinned(curves: pd.DataFrame) -> pd.DataFrame:
    kept = np.linspace(0, len(curves) - 1, min(POINTS, len(curves))).round().astype(int)
    return curves.iloc[kept]
