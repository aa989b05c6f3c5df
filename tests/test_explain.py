"""``python -m shape_grpo explain`` and the function behind it."""

import sys
from pathlib import Path

import pytest

from shape_grpo.__main__ import main
from shape_grpo.credit import explain, make_utility

README = (Path(__file__).parents[1] / "README.md").read_text()


def run(monkeypatch, command):
    monkeypatch.setattr(sys, "argv", command.split())
    main()


def rows(output):
    """The numbers of each line of a table."""
    lines = [line.split("│")[2:-1] for line in output.splitlines() if "│" in line]
    return [[float(cell) for cell in line] for line in lines]


def test_the_readme_shows_what_the_command_prints(monkeypatch, capsys):
    command = "python -m shape_grpo explain 5 4 3 --texts Alien Brazil Casablanca"
    assert f"$ {command}\n" in README
    run(monkeypatch, command.removeprefix("python -m "))
    assert capsys.readouterr().out in README


def test_options_of_the_utility(monkeypatch, capsys):
    """Of the two best, 5 + 4: shares 4, 3, 2."""
    run(monkeypatch, "shape_grpo explain 5 4 3 --utility top_m --option m=2")
    assert [row[1] for row in rows(capsys.readouterr().out)] == [4, 3, 2]


def test_vectors_and_texts_that_look_like_markup(capsys):
    explain([[1, 1], [0, 1]], ["[bold]", "b"], utility=make_utility("coverage", weights=[2, 1]))
    output = capsys.readouterr().out
    assert "[bold]" in output
    assert rows(output) == [[3, 2.5, 1.667, 3, 3], [1, 0.5, 0.3333, 3, 0]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("5 4 --utility best", "unknown utility 'best'; use one of: coverage, "),
        ("5 4 --utility top_m", "utility 'top_m' needs the option 'm'"),
        ("5 4 --texts Alien", "1 texts for 2 rewards"),
        ("5 nan", "nan"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, arguments, says):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, f"shape_grpo explain {arguments}")
    assert says in capsys.readouterr().err.splitlines()[-1]
