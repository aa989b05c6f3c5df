"""The command, what it refuses, and the folders it leaves."""

import json
from dataclasses import replace

import pytest

from recipe.shape_grpo.catalogue.__main__ import main
from recipe.shape_grpo.catalogue.training import CatalogueSettings, train
from tests.recipe.catalogue.small_catalogue import SMALL, learnt


def arguments(output, **options):
    """A command line of the settings that differ from the defaults."""
    options = {**vars(SMALL), **options}
    changed = {k: v for k, v in options.items() if v != getattr(CatalogueSettings(), k)}
    words = [f"--{k}={list(v) if k == 'seeds' else v}" for k, v in changed.items()]
    return ["--output", str(output), *words]


def test_each_seed_leaves_the_folder_of_a_run(tmp_path, capsys):
    main(arguments(tmp_path, seeds=(7, 8), task="shop"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-7", "seed-8"]
    assert "shop, reweight-shapley" in capsys.readouterr().out
    runs = train(replace(SMALL, seeds=(7, 8), task="shop"))
    for seed, run in runs.items():
        folder = tmp_path / f"seed-{seed}"
        assert sorted(path.name for path in folder.iterdir()) == [
            "lock",
            "metrics.jsonl",
            "settings.json",
        ]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [list(line) for line in lines] == [["step", "data"]] * 6
        assert learnt({line["step"]: line["data"] for line in lines}) == learnt(run)
        assert lines[0]["data"].keys() == {"val-core/shop/reward/mean@8"}
        measured = [line["step"] for line in lines if "val-core/shop/reward/mean@8" in line["data"]]
        assert measured == [0, 2, 4, 5]
        assert all(line["data"]["timing_s/step"] > 0 for line in lines[1:])
        settings = json.loads((folder / "settings.json").read_text())
        assert settings.pop("settings")["hidden_size"] == 8
        assert settings == {
            "trainer": "catalogue",
            "task": "shop",
            "method": "reweight-shapley",
            "candidates": 3,
            "seed": seed,
            "learning_rate": 3e-3,
            "steps": 5,
        }


def test_a_method_of_the_recipe_brings_its_credit(tmp_path):
    main(arguments(tmp_path, method="banzhaf", updates=1))
    main(arguments(tmp_path / "other", method="banzhaf", allocator="leave_one_out", updates=1))
    for folder, allocator in ((tmp_path, "banzhaf"), (tmp_path / "other", "leave_one_out")):
        stamp = json.loads((folder / "seed-1/settings.json").read_text())
        assert stamp["method"] == stamp["settings"]["method"] == "banzhaf"
        assert stamp["settings"]["allocator"] == allocator


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "reweight-shapley"),
        ({"allocator": "uniform"}, "grpo"),
        (
            {"allocator": "beta_shapley", "allocator_options": {"alpha": 3, "beta": 1}},
            "reweight-beta_shapley-3-1",
        ),
        ({"length_correction": True}, "reweight-shapley-length_correction"),
        ({"method": "mine"}, "mine"),
    ],
)
def test_the_name_says_what_the_method_is(changes, name):
    assert CatalogueSettings(**changes).name == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": 0}, "modes is 0"),
        ({"prompts": 3}, "prompts_per_step is 4, but there are 3"),
        ({"allocator": "shaply"}, "shaply"),
        ({"advantage": "prase"}, "prase"),
        ({"utility": "weightings"}, "needs the option 'components'"),
        ({"utility": "coverage"}, "vectors of zeros and ones"),
        ({"method": "grpo", "allocator": "leave_one_out"}, "is not GRPO"),
        ({"method": "gprpo"}, "method=gprpo: unknown value. Did you mean grpo?"),
        ({"method": "best_of_k"}, "method 'best_of_k' credits whole rollouts"),
        ({"seeds": (1, 1)}, "all different"),
        ({"learning_rate": -1.0}, "-1.0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments(tmp_path / "runs", **changes))
    assert message in stop.value.code and "\n" not in stop.value.code
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [[], ["--output", "x", "--rewards", "y"]])
def test_a_command_line_that_cannot_be_read_is_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "Number of tastes that a prompt may have." in text
    assert "Number of responses per prompt." in text
