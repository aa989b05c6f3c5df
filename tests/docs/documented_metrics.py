"""The names in docs/metrics.md; capitals stand for any part of a name."""

import re
from pathlib import Path

METRICS_PAGE = Path(__file__).parents[2] / "recipe/shape_grpo/docs/metrics.md"


def undocumented(names):
    """Those of the metrics that the page does not name, sorted."""
    written = re.findall(r"`([\w-]+(?:/[\w@-]+)+)`", METRICS_PAGE.read_text())
    patterns = [re.sub(r"[A-Z]+", ".+", re.escape(name)) for name in written]
    known = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return sorted(name for name in names if not known.fullmatch(name))
