"""Every promise of the recipe's table has its test."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "recipe/shape_grpo/docs/reliability.md").read_text()
ROWS = [
    line
    for line in TABLE.splitlines()
    if line.startswith("|") and not line.startswith(("| what happens", "|---"))
]


def names_in(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS)
def test_the_test_of_a_promise_is_there(row):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert len(named) == 1, "a row names one test"
    ((path, name),) = named
    assert name in names_in(path)


def test_there_are_rows():
    assert len(ROWS) > 20
