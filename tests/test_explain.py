"""``python -m shape_grpo explain`` and the function behind it."""

import sys
from pathlib import Path

import pytest

from shape_grpo.__main__ import main
from shape_grpo.advantage import READINGS, explain
from shape_grpo.credit import ALLOCATORS, make_utility, register_allocator

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
    assert rows(output) == [[3, 2.5, 3, 3, 1.667, -1.667], [1, 0.5, 3, 0, 0.3333, -0.3333]]


ARGUMENTS = {
    # arguments, shares, advantages where A = 1 and A = -1, what is climbed
    "beta_shapley": (
        "--allocator beta_shapley --allocator-option alpha=3 --allocator-option beta=1 "
        "--advantage praise",
        [1.55, 0.55, 0.3],
        # Less the lowest reward, 3, the shares are 1.25, 0.25, 0.
        ([2.5, 0.5, 0], [-1, -1, -1]),
        "best of 1: 0.22, best of 2: 0.33, best of 3: 0.44.",
    ),
    "attention": (
        "--allocator attention --allocator-option looks=[0.5,0.3,0.2] --advantage reweight",
        # P = 5/17, 6/17, 6/17; with nobody, one of two, both of them present.
        [2.353, 1.353, 0.8824],
        ([1.412, 0.8118, 0.5294], [-1.412, -0.8118, -0.5294]),
        "best of 1: 0.50, best of 2: 0.30, best of 3: 0.20.",
    ),
    "leave_one_out": (
        "--allocator leave_one_out --advantage contrast",
        [1, 0, 0],
        ([2.155, 0.4226, 0.4226], [0.1547, -1.577, -1.577]),
        "shares climb best of 3: 1.00.",
    ),
    "winner_takes_all": (
        "--allocator winner_takes_all",
        [5, 0, 0],
        ([3, 0, 0], [-3, 0, 0]),
        "Each candidate climbs its own winnings, which is no utility of the set.",
    ),
    "uniform": ("--allocator uniform", [1.667] * 3, ([1] * 3, [-1] * 3), "climb best of 3: 1.00."),
    "another utility": (
        "--utility sum",
        [5, 4, 3],
        ([1.25, 1, 0.75], [-1.25, -1, -0.75]),
        "utility of 1: 0.55, utility of 2: 0.27, utility of 3: 0.18.",
    ),
}


@pytest.mark.parametrize(
    ("arguments", "shares", "advantages", "climbed"), ARGUMENTS.values(), ids=ARGUMENTS.keys()
)
def test_law_and_reading(monkeypatch, capsys, arguments, shares, advantages, climbed):
    run(monkeypatch, f"shape_grpo explain 5 4 3 {arguments}")
    output = capsys.readouterr().out
    table = rows(output)
    assert [row[1] for row in table] == pytest.approx(shares, abs=1e-3)
    assert [row[4] for row in table] == pytest.approx(advantages[0], abs=1e-3)
    assert [row[5] for row in table] == pytest.approx(advantages[1], abs=1e-3)
    assert climbed in " ".join(output.split())
    assert all(line == line.rstrip() for line in output.splitlines())


@pytest.mark.parametrize("advantage", READINGS)
def test_every_reading_says_what_it_is(monkeypatch, capsys, advantage):
    run(monkeypatch, f"shape_grpo explain 5 4 --advantage {advantage}")
    assert len(capsys.readouterr().out.split(f"{advantage}: ")[1]) > 20


def test_an_allocator_of_ones_own_is_not_said_to_climb_anything(capsys):
    name = "squares, for a test"
    try:

        @register_allocator(name)
        def squares(rewards, mask, utility):
            return rewards**2

        explain([2, 1], allocator=name)
        output = " ".join(capsys.readouterr().out.split())
        assert "nothing is known of what its shares climb" in output
    finally:
        ALLOCATORS.pop(name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("5 4 --utility best", "unknown utility 'best'; use one of: coverage, "),
        ("5 4 --utility top_m", "utility 'top_m' needs the option 'm'"),
        ("5 4 --texts Alien", "1 texts for 2 rewards"),
        ("5 nan", "nan"),
        ("5 4 --advantage shapley", "unknown advantage 'shapley'"),
        ("5 4 --allocator beta_shapley", "allocator 'beta_shapley' needs the option 'alpha'"),
        ("5 4 --allocator-option m=2", "allocator 'shapley' has no option 'm'; it takes none"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, arguments, says):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, f"shape_grpo explain {arguments}")
    assert says in capsys.readouterr().err.splitlines()[-1]
