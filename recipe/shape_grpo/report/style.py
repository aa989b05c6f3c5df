"""Colours, lines and fonts of the report's figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from recipe.shape_grpo.report.results import BASELINE
from shape_grpo.methods import METHODS

INK = "#1b1c1e"
"""Colour of text and axes only; a page replaces it by the colour of its text."""

LINES = ("-", "--", ":", "-.")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of Okabe and Ito that are visible on white and on black."""

FIRST = ("shape_grpo", "praise", "contrast", "reweight_positive", "winner_takes_all")
KNOWN = (*FIRST, *(method for method in METHODS if method not in (BASELINE, *FIRST)))
"""Methods whose colour is the same in every report."""

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


def method_line(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return the colour and line of a method, the same in every figure of a report.

    Methods that are not `KNOWN` take styles that the report's known methods do not use.
    """
    if method == BASELINE:
        return {"color": "#808285", "ls": "-", "lw": 1.8}
    others = [other for other in methods if other != BASELINE]
    taken = {KNOWN.index(other) for other in others if other in KNOWN}
    free = (place for place in count() if place not in taken)
    places = dict(zip((other for other in others if other not in KNOWN), free, strict=False))
    place = places[method] if method in places else KNOWN.index(method)
    line = LINES[place // len(COLOURS) % len(LINES)]
    return {"color": COLOURS[place % len(COLOURS)], "ls": line, "lw": 1.5}
