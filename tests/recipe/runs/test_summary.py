"""The table at the end of a run."""

import pytest
from rich.console import Console

from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.common.run_folder import begin_run, write_metrics
from recipe.shape_grpo.runs.summary import print_summary


@pytest.fixture
def run(tmp_path):
    begin_run(tmp_path)
    write_metrics(tmp_path, 0, {"val-core/films/reward/mean@4": 3.5})
    for step in range(1, 13):
        data = {
            "critic/score/mean": float(step),
            "shape_grpo/reward_errors": 2.0,
            "shape_grpo/responses": 60.0,
            "shape_grpo/responses_expected": 64.0,
        }
        if step == 12:
            data["val-core/films/reward/mean@4"] = 4.25
        write_metrics(tmp_path, step, data)
    return tmp_path


def printed(run):
    console = Console(record=True, width=200, quiet=False)
    print_summary(run, console)
    return console.export_text()


def test_it_says_what_the_run_did(run):
    write_stamp(run, {"task": "films", "method": "praise"})
    (run / "train.log").write_text("verl's words")
    (run / "metrics.samples.md").write_text("## Step 1")
    text = printed(run)
    assert f"{run}/metrics.samples.md: some responses with their credit" in text
    assert "films by praise" in text and "12 steps" in text
    held_out, training = (line for line in text.splitlines() if " reward " in line)
    assert [cell.strip() for cell in held_out.split("│")[2:4]] == ["3.500", "4.250"]
    assert [cell.strip() for cell in training.split("│")[2:4]] == [
        "3.000",
        "10.000",
    ]  # 1 to 5, and 8 to 12
    assert "Failed rewards: 24 (reasons: see the log); missing responses: 48 of 768." in text
    assert f"{run}/train.log: verl's output" in text
    assert "checkpoints" not in text


def test_a_figure_that_the_run_has_not_is_no_row(run):
    assert "entropy" not in printed(run)


def test_a_folder_without_a_step_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="holds no step"):
        printed(tmp_path)


@pytest.mark.parametrize("value", [None, "high", float("nan"), True, float("inf"), [1.0]])
@pytest.mark.parametrize(
    "name",
    ["critic/score/mean", "shape_grpo/reward_errors", "shape_grpo/responses",
     "response_length/clip_ratio", "val-core/films/reward/mean@4", "actor/entropy"],
)  # fmt: skip
def test_a_metric_that_is_no_number_costs_its_row_alone(tmp_path, name, value):
    begin_run(tmp_path)
    for step in range(1, 13):
        numbers = {"actor/grad_norm": 0.5, "shape_grpo/responses_expected": 64.0}
        write_metrics(tmp_path, step, numbers | {name: value})
    text = printed(tmp_path)
    (row,) = (line for line in text.splitlines() if "gradient norm" in line)
    assert row.count("0.500") == 2
    assert "nan" not in text


def test_a_metric_that_only_some_steps_have_is_a_dash_where_it_is_missing(tmp_path):
    begin_run(tmp_path)
    for step in range(1, 13):
        write_metrics(tmp_path, step, {"actor/entropy": None if step < 7 else 2.0})
    (row,) = (line for line in printed(tmp_path).splitlines() if "entropy" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["-", "2.000"]
