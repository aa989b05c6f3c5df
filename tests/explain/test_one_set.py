"""``python -m shape_grpo explain`` and the function behind it."""

import sys
from pathlib import Path

import pytest

from shape_grpo.__main__ import main
from shape_grpo.advantage import ADVANTAGES
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import ALLOCATORS, Allocator, register_allocator
from shape_grpo.explain.one_set import explain_set

README = (Path(__file__).parents[2] / "README.md").read_text()


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
    run(monkeypatch, "shape_grpo explain 5 4 3 utility=top_m utility_options.m=2")
    assert [row[1] for row in rows(capsys.readouterr().out)] == [4, 3, 2]


@pytest.mark.parametrize("method", ["method=praise", "+method=praise"])
def test_a_named_method(method, monkeypatch, capsys):
    """Beta(3, 1) of two: a quarter of what each is worth alone, three of what it adds."""
    run(monkeypatch, f"shape_grpo explain 2 1 {method}")
    assert [row[1] for row in rows(capsys.readouterr().out)] == [1.25, 0.25]


def test_a_method_that_credits_rollouts_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "shape_grpo explain 2 1 method=best_of_k")
    assert "for the shares alone write allocator=best_of_k" in capsys.readouterr().err


def test_vectors_and_texts_that_look_like_markup(capsys):
    config = ShapeGRPOConfig(utility="coverage", utility_options={"weights": [2, 1]})
    explain_set([[1, 1], [0, 1]], ["[bold]", "b"], config)
    output = capsys.readouterr().out
    assert "[bold]" in output
    # After the reward the number of components at which the candidate is best.
    assert rows(output) == [[3, 2, 2.5, 3, 3, 1.667, -1.667], [1, 1, 0.5, 3, 0, 0.3333, -0.3333]]


def test_vectors_of_the_command(monkeypatch, capsys):
    """Of three tests the second passes with both: shares 1.5 and 0.5."""
    run(monkeypatch, "shape_grpo explain 1,1,0 0,1 utility=coverage")
    assert [row[2] for row in rows(capsys.readouterr().out)] == [1.5, 0.5]


OWN = """
import torch
from shape_grpo.credit import Allocator, register_allocator

@register_allocator("squares, for a test of the command")
class Squares(Allocator):
    def allocate(self, rewards, mask, utility):
        return rewards**2

@register_allocator("zero")
class Zero(Allocator):
    def allocate(self, rewards, mask, utility):
        return rewards / 0

@register_allocator("broken")
class Broken(Allocator):
    def allocate(self, rewards, mask, utility):
        return {}["price"]

def second(rewards, coalitions):
    return rewards.sort(1).values[:, -2]

def wrong(rewards):
    return rewards
"""


def test_custom_credit_is_found_and_its_faults_are_reported(monkeypatch, capsys, tmp_path):
    (tmp_path / "own_credit.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "own_credit")
    try:
        main(["explain", "3", "2", "allocator=squares, for a test of the command"])
        assert [row[1] for row in rows(capsys.readouterr().out)] == [9, 4]
        main(["explain", "3", "2", "utility=custom", "utility_options.function=own_credit:second"])
        assert [row[1] for row in rows(capsys.readouterr().out)] == [1, 1]
        for settings, says in (
            (["allocator=zero"], "the allocator gave the share inf for the rewards [3.0, 2.0]"),
            (["allocator=broken"], "allocator broken: KeyError: "),
            (["allocator=broken"], "(own_credit.py:18)"),
            (["utility=custom", "utility_options.function=own_credit:wrong"], "failed: TypeError"),
        ):
            with pytest.raises(SystemExit, match="2"):
                main(["explain", "3", "2", *settings])
            assert says in capsys.readouterr().err
    finally:
        ALLOCATORS.pop("squares, for a test of the command", None)
        ALLOCATORS.pop("zero", None)
        ALLOCATORS.pop("broken", None)


ARGUMENTS = {
    # arguments, shares, advantages where A = 1 and A = -1, the objective
    "beta_shapley": (
        "allocator=beta_shapley allocator_options.alpha=3 allocator_options.beta=1 "
        "advantage=praise",
        [1.55, 0.55, 0.3],
        # Less the lowest reward, 3, the shares are 1.25, 0.25, 0.
        ([2.5, 0.5, 0], [-1, -1, -1]),
        "best of 1: 0.22, best of 2: 0.33, best of 3: 0.44.",
    ),
    "attention": (
        "allocator=attention allocator_options.looks=[0.5,0.3,0.2] advantage=reweight",
        # P = 5/17, 6/17, 6/17; with nobody, one of two, both of them present.
        [2.353, 1.353, 0.8824],
        ([1.412, 0.8118, 0.5294], [-1.412, -0.8118, -0.5294]),
        "best of 1: 0.50, best of 2: 0.30, best of 3: 0.20.",
    ),
    "leave_one_out": (
        "+algorithm.shape_grpo.allocator=leave_one_out advantage=contrast",
        [1, 0, 0],
        ([2.155, 0.4226, 0.4226], [0.1547, -1.577, -1.577]),
        "shares maximise best of 3: 1.00.",
    ),
    "winner_takes_all": (
        "allocator=winner_takes_all",
        [5, 0, 0],
        ([3, 0, 0], [-3, 0, 0]),
        "No utility of the set is known that these shares maximise.",
    ),
    "uniform": (
        "allocator=uniform",
        [1.667] * 3,
        ([1] * 3, [-1] * 3),
        "shares maximise best of 3: 1.00.",
    ),
    "another utility": (
        "utility=sum",
        [5, 4, 3],
        ([1.25, 1, 0.75], [-1.25, -1, -0.75]),
        "utility of 1: 0.55, utility of 2: 0.27, utility of 3: 0.18.",
    ),
}


@pytest.mark.parametrize(
    ("arguments", "shares", "advantages", "objective"), ARGUMENTS.values(), ids=ARGUMENTS.keys()
)
def test_allocator_and_advantage(monkeypatch, capsys, arguments, shares, advantages, objective):
    run(monkeypatch, f"shape_grpo explain 5 4 3 {arguments}")
    output = capsys.readouterr().out
    table = rows(output)
    assert [row[1] for row in table] == pytest.approx(shares, abs=1e-3)
    assert [row[4] for row in table] == pytest.approx(advantages[0], abs=1e-3)
    assert [row[5] for row in table] == pytest.approx(advantages[1], abs=1e-3)
    assert objective in " ".join(output.split())
    assert all(line == line.rstrip() for line in output.splitlines())


@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_every_advantage_is_described(monkeypatch, capsys, advantage):
    run(monkeypatch, f"shape_grpo explain 5 4 advantage={advantage}")
    assert len(capsys.readouterr().out.split(f"{advantage}: ")[1]) > 20


def test_no_objective_is_claimed_for_a_custom_allocator(capsys):
    name = "squares, for a test"
    try:

        @register_allocator(name)
        class Squares(Allocator):
            def allocate(self, rewards, mask, utility):
                return rewards**2

        explain_set([2, 1], config=ShapeGRPOConfig(allocator=name))
        output = " ".join(capsys.readouterr().out.split())
        assert "No utility of the set is known that these shares maximise." in output
    finally:
        ALLOCATORS.pop(name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("5 4 utility=best", "algorithm.shape_grpo.utility=best: unknown value. Allowed: "),
        ("5 4 utility=top_m", "utility 'top_m' needs the option 'm'"),
        ("5 4 --texts Alien", "1 texts for 2 rewards"),
        ("5 nan", "nan"),
        ("5 4 advantage=shapley", "advantage=shapley: unknown value"),
        ("5 4 allocator=beta_shapley", "allocator 'beta_shapley' needs the option 'alpha'"),
        ("5 4 allocator_options.m=2", "allocator 'shapley' has no option 'm'; it takes none"),
        ("5 4 allocator=mine", "registered by a file or module that extensions names"),
        ("5 4 allocator=sharpley", "allocator=sharpley: unknown value. Did you mean shapley?"),
        (
            "5 4 utility=best_less_redundancy utility_options.similarity=sim.py:jaccard",
            "Write it as module:function, for a file module.py",
        ),
        ("5 4 data.seed=1", "explain reads the keys of algorithm.shape_grpo"),
        ("5 1,0", "1,0 is a list, and utility=max takes one number per candidate"),
        ("5 four", "'four' is no reward, and no key=value"),
        ("", "give rewards, as in `explain 5 4 3`, or --response FILE"),
        ("5 --config none.yaml", "none.yaml"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, arguments, says):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, f"shape_grpo explain {arguments}")
    assert says in capsys.readouterr().err.splitlines()[-1]
