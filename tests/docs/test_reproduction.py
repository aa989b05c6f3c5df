"""The estimate of GPU hours is what its program prints, and its commands are complete."""

import re
from pathlib import Path

import pytest

from recipe.shape_grpo.sweep.cells import cells, read_sweep

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "recipe/shape_grpo/docs/reproduction.md").read_text()


def test_the_hours_are_those_of_the_program(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(program, {})
    printed = capsys.readouterr().out
    assert printed.strip() in PAGE
    totals = {
        row.split("`")[1]: int(row.split(" | ")[-1].strip(" |")) for row in printed.splitlines()
    }
    stated = dict(
        re.findall(
            r"^\| (figure 4|table, Netflix|table, ACLSum|table, DS-1000) .*?\| 3 \| ([\d,]+) ",
            PAGE,
            re.M,
        )
    )
    stated = {name: int(hours.replace(",", "")) for name, hours in stated.items()}
    assert stated == {
        "figure 4": sum(totals.values()),
        "table, Netflix": totals["netflix"] + totals["netflix_history"],
        "table, ACLSum": totals["aclsum"],
        "table, DS-1000": totals["ds1000"],
    }


def test_the_grid_is_as_large_as_it_is_said_to_be(tmp_path):
    assert len(list(cells(read_sweep("paper"), tmp_path))) == 108
    assert "108 runs of 300 steps" in PAGE


SWEEPS = [
    (name, re.findall(r"'([^']+)'", changes))
    for name, changes in re.findall(r"recipe\.shape_grpo\.sweep (\w+)((?: '[^']+')*)", PAGE)
]


@pytest.mark.parametrize(("name", "changes"), SWEEPS)
def test_its_sweeps_are_sweeps(tmp_path, name, changes):
    assert list(cells(read_sweep(name, changes), tmp_path))


def test_there_are_sweeps():
    assert len(SWEEPS) > 5
