"""The report's HTML pages: single files that open without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recipe.shape_grpo.report.figures import Figure
from recipe.shape_grpo.report.results import Results
from recipe.shape_grpo.report.tables import Table

if TYPE_CHECKING:
    # It imports torch, which a report without rollouts does not need.
    from recipe.shape_grpo.report.credit_map import GroupMap, StepMap


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recipe.shape_grpo.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: Any) -> str:
    """Return a reward or an advantage in three digits; rewards may be vectors, or unknown."""
    if value is None:
        return "unknown"
    if isinstance(value, list | bytes):
        return "[" + ", ".join(map(_number, value)) + "]"
    return f"{value:.3g}"


def write_report(
    path: Path,
    *,
    results: Results,
    tables: Sequence[Table],
    figures: Sequence[Figure],
    maps: Sequence[tuple[str, StepMap, GroupMap]],
    source: str,
) -> None:
    """Write the report's page.

    Args:
        path: File of the page.
        results: The runs, listed at the end.
        tables: Tables, in their order.
        figures: Figures, in their order.
        maps: Title, step and chosen responses of each credit map.
        source: The command and the runs.
    """
    page = _environment().get_template("page.html.jinja")
    drawn = [(figure, Markup(figure.svg)) if figure.svg else (figure, None) for figure in figures]
    path.write_text(
        page.render(results=results, tables=tables, figures=drawn, maps=maps, source=source),
        encoding="utf-8",
    )


def write_credit_map(path: Path, step_map: StepMap, source: str) -> None:
    """Write the page of one step's credit map."""
    page = _environment().get_template("credit_map.html.jinja")
    path.write_text(page.render(map=step_map, source=source), encoding="utf-8")
