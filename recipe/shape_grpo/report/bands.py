"""What several seeds of each method gave, for a picture of somebody's own run."""

from __future__ import annotations

from pathlib import Path

from recipe.shape_grpo.report.curves import Band
from recipe.shape_grpo.report.results import read_results
from recipe.shape_grpo.report.statistics import band

RESULTS = Path(__file__).parents[1] / "results"
"""The archives of the study."""


def read_bands(archive: Path) -> dict[str, Band]:
    """Method to the band of its held-out reward, of an archive with one setup."""
    bands = {}
    for method, steps in read_results([archive]).steps.groupby("method"):
        seeds = steps.pivot(index="step", columns="run", values="held_out").dropna()
        low, high = band(seeds.to_numpy())
        bands[str(method)] = Band(
            steps=seeds.index.tolist(),
            low=low.tolist(),
            high=high.tolist(),
            seeds=seeds.shape[1],
            spread=float(seeds.iloc[-1].std()),
        )
    return bands
