import json
import math

import pytest

from recipe.shape_grpo.report.results import WINDOW, read_results
from recipe.shape_grpo.report.tables import all_tables
from tests.recipe.report.run_folders import HELD_OUT, write_run, write_runs


def test_a_run_has_one_row_per_step(tmp_path):
    write_run(tmp_path / "a", [0.1, 0.2, 0.3], training=[1.0, 2.0])
    results = read_results([tmp_path])
    steps = results.steps
    assert steps["step"].tolist() == [0, 1, 2]
    assert steps["held_out"].tolist() == [0.1, 0.2, 0.3]
    assert steps["training"].tolist()[1:] == [1.0, 2.0] and steps["training"].isna()[0]
    assert results.runs["final"].tolist() == [0.3]
    assert results.setups == ["films"]


def test_the_training_curve_is_a_running_mean(tmp_path):
    write_run(tmp_path / "a", [0.1], training=[float(n) for n in range(1, 17)])
    curve = read_results([tmp_path]).steps.set_index("step")["training_mean"].dropna()
    assert curve.index.tolist() == list(range(WINDOW, 17))
    assert (curve[8], curve[16]) == (4.5, 12.5)


def test_a_half_written_last_line_is_ignored(tmp_path):
    run = write_run(tmp_path / "a", [0.1, 0.2])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "data": {"val-co')
    assert read_results([tmp_path]).steps["step"].tolist() == [0, 1]


def test_a_broken_line_is_named(tmp_path):
    run = write_run(tmp_path / "a", [0.1, 0.2])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "da\n{"step": 3, "data": {}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line \d+, is not .* in JSON"):
        read_results([tmp_path])


def test_the_last_held_out_reward_counts_also_where_later_steps_have_none(tmp_path):
    write_run(tmp_path / "a", [0.1, 0.2], training=[1.0, 1.0, 1.0])
    assert read_results([tmp_path]).runs["final"].tolist() == [0.2]


def test_several_held_out_sets_are_averaged(tmp_path):
    run = write_run(tmp_path / "a", [0.1])
    data = {"val-core/a/reward/mean@4": 1.0, "val-core/b/reward/mean@4": 3.0,
            "val-core/b/reward/best@4/mean": 9.0, "val-aux/b/score/mean@4": 9.0}  # fmt: skip
    (run / "metrics.jsonl").write_text(json.dumps({"step": 0, "data": data}) + "\n")
    assert read_results([tmp_path]).runs["final"].tolist() == [2.0]


def test_a_run_without_settings_is_unfinished_and_left_out(tmp_path):
    write_run(tmp_path / "whole", [0.1])
    for name in ("killed", "running"):
        (write_run(tmp_path / name, [0.1]) / "settings.json").unlink()
    results = read_results([tmp_path])
    assert len(results.runs) == 1
    assert results.left_out == {
        "unfinished (no settings.json)": [tmp_path / "killed", tmp_path / "running"]
    }


def test_settings_of_something_else_are_left_out_with_the_reason(tmp_path):
    write_run(tmp_path / "whole", [0.1])
    other = write_run(tmp_path / "other", [0.1])
    (other / "settings.json").write_text('{"trainer": "verl", "task": "films", "candidates": 3}')
    reason = "settings.json does not name method, seed, learning_rate, steps"
    assert read_results([tmp_path]).left_out == {reason: [other]}


def test_a_run_that_was_never_validated_is_left_out(tmp_path):
    write_run(tmp_path / "whole", [0.1])
    run = write_run(tmp_path / "blind", [], training=[1.0])
    (reason,) = read_results([tmp_path]).left_out.items()
    assert "trainer.test_freq" in reason[0] and reason[1] == [run]


def test_no_whole_run_is_an_error_that_counts_what_was_left_out(tmp_path):
    (write_run(tmp_path / "killed", [0.1]) / "settings.json").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"no whole run below .* Left out: 1, unfinished \(no settings.json\)\.",
    ):
        read_results([tmp_path])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_results([tmp_path / "nowhere"])


@pytest.mark.parametrize("kind", ["foreign", "empty", "unfinished", "misnamed"])
def test_a_folder_without_a_run_is_told_how_to_make_one(tmp_path, kind):
    folder = tmp_path / "shape-grpo"
    if kind == "unfinished":
        (write_run(folder, [0.1]) / "settings.json").unlink()
    else:
        folder.mkdir()
    if kind == "foreign":
        (folder / "answers.jsonl").write_text("{}\n")
    if kind == "misnamed":
        (folder / "mine.jsonl").write_text('{"step": 0, "data": {}}\n')
    for roots in ([folder], [tmp_path / "nowhere"]):
        with pytest.raises(FileNotFoundError) as told:
            read_results(roots)
        for words in (
            "`python -m recipe.shape_grpo.runs METHOD FOLDER`",
            "started again, it finishes an unfinished run",
            "trainer.experiment_name=TASK-kK-METHOD",
        ):
            assert words in str(told.value)


def test_files_of_verls_file_logger_are_runs(tmp_path):
    """Those of main_shape_grpo: PROJECT/TASK-kK-METHOD.jsonl, several in one folder."""
    run = write_run(tmp_path / "made", [0.1, 0.4], training=[2.0])
    project = tmp_path / "shape-grpo"
    project.mkdir()
    for name in ("films-k3-grpo", "films-k3-shape_grpo"):
        (project / f"{name}.jsonl").write_text((run / "metrics.jsonl").read_text())
    results = read_results([project])
    assert results.runs["method"].tolist() == ["grpo", "shape_grpo"]
    assert results.runs["task"].unique().tolist() == ["films"]
    assert results.runs["final"].tolist() == [0.4, 0.4]
    assert results.runs["candidates"].tolist() == [3, 3]
    assert all_tables(results)


@pytest.mark.parametrize("value", [None, "high", True, [1]])
def test_a_metric_that_is_no_number_is_none(tmp_path, value):
    run = write_run(tmp_path / "run", [0.1, 0.2], training=[1.0])
    with (run / "metrics.jsonl").open("a") as file:
        data = {"critic/score/mean": value, HELD_OUT: value, "actor/entropy": 1.5}
        file.write(json.dumps({"step": 2, "data": data}) + "\n")
    results = read_results([tmp_path])
    assert results.runs["final"].tolist() == [0.2]
    last = results.steps[results.steps["step"] == 2].iloc[0]
    assert math.isnan(last["training"]) and last["entropy"] == 1.5


def test_a_folder_given_twice_is_read_once(tmp_path):
    write_run(tmp_path / "runs/a", [0.1])
    assert len(read_results([tmp_path, tmp_path / "runs"]).runs) == 1


def test_the_same_method_and_seed_twice_is_refused(tmp_path):
    write_run(tmp_path / "a", [0.1])
    write_run(tmp_path / "b", [0.2])
    with pytest.raises(ValueError, match=r"a and .*b are both films, grpo, seed 1; leave one"):
        read_results([tmp_path])


def test_runs_that_differ_in_a_further_setting_are_split_by_it(tmp_path):
    write_run(tmp_path / "a", [0.1], modes=1)
    write_run(tmp_path / "b", [0.2], modes=4)
    with pytest.raises(ValueError, match="they differ in modes: write --split-by modes"):
        read_results([tmp_path])
    assert read_results([tmp_path], ["modes"]).setups == ["films, modes 1", "films, modes 4"]
    with pytest.raises(ValueError, match="--split-by tastes: no run has this setting"):
        read_results([tmp_path], ["tastes"])


def test_a_setup_names_what_is_not_the_same_in_all_runs(tmp_path):
    write_run(tmp_path / "a", [0.1], candidates=3)
    write_run(tmp_path / "b", [0.1], candidates=5)
    write_run(tmp_path / "c", [0.1] * 3, candidates=5)
    assert read_results([tmp_path]).setups == [
        "films, K=3, 0 steps",
        "films, K=5, 0 steps",
        "films, K=5, 2 steps",
    ]


def test_the_baseline_comes_first(tmp_path):
    write_runs(tmp_path, {"contrast": {1: 0.1}, "praise": {1: 0.1}, "grpo": {1: 0.1}})
    assert read_results([tmp_path]).methods == ["grpo", "contrast", "praise"]


def test_verls_tensorboard_files_are_read(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for name in ("netflix-k5-shape_grpo", "my_first_try"):
        # As verl's own adapter does.
        writer = SummaryWriter(str(tmp_path / "project" / name))
        for step in range(3):
            writer.add_scalar("val-core/netflix/reward/mean@1", 0.5 * step, step)
            writer.add_scalar("actor/entropy", 2.0 - step, step)
        writer.close()
    runs = read_results([tmp_path]).runs.set_index("method")
    assert runs["final"].tolist() == [1.0, 1.0]
    assert runs.loc["shape_grpo", ["task", "candidates"]].tolist() == ["netflix", 5]
    assert runs.loc["my_first_try", "task"] == "project"
    assert runs["steps"].tolist() == [2, 2]
