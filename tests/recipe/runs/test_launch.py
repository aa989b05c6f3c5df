"""What makes a run be made anew; what starting one looks like is in tests/e2e."""

import ast
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from recipe.shape_grpo.common.files import read_stamp, write_stamp
from recipe.shape_grpo.common.locks import locked_run
from recipe.shape_grpo.common.overrides import override
from recipe.shape_grpo.common.run_folder import begin_run, read_metrics, write_metrics
from recipe.shape_grpo.runs import launch
from recipe.shape_grpo.runs.__main__ import folder_state
from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks.common import verl_row

QUIET = Console(quiet=True)


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder = tmp_path / "task"
    (folder / "policy").mkdir(parents=True)
    for split in ("train", "test"):
        row = verl_row(
            "films", "films", [{"role": "user", "content": "Suggest 3 films."}], "", index=0
        )
        pd.DataFrame([row] * 8).to_parquet(folder / f"{split}.parquet")
    write_stamp(folder, {"candidates": 3, "words": "Suggest 3 films."})
    write_stamp(folder / "policy", {"steps": 600})
    return folder


@pytest.fixture
def started(monkeypatch):
    """The names of the runs that were started; each writes one step."""
    names = []

    def start(name, overrides, run, **options):
        names.append(name)
        begin_run(run)
        write_metrics(run, 1, {"critic/score/mean": 4.0})

    monkeypatch.setattr(launch, "launch", start)
    return names


def train(task, *more, method="shape_grpo"):
    overrides = [
        "+backend=cpu",
        "+task=movielens",
        "+scale=quickstart",
        f"dataset.folder={task}",
        *more,
    ]
    launch.train(method, overrides, task.parent / "run", console=QUIET)


def test_the_same_run_is_used_again(task, started):
    for _ in range(2):
        train(task)
    assert started == ["movielens by shape_grpo"]
    assert read_metrics(task.parent / "run") == {1: {"critic/score/mean": 4.0}}


@pytest.mark.parametrize("divided", [True, False])
def test_a_run_keeps_whether_advantages_are_divided_by_the_deviation(task, started, divided):
    train(task, f"algorithm.norm_adv_by_std_in_grpo={divided}")
    assert read_stamp(task.parent / "run")["norm_by_std"] is divided


@pytest.mark.parametrize(
    "change",
    [
        {"more": ["data.seed=1"]},
        {"more": ["actor_rollout_ref.actor.clip_ratio=0.3"]},
        {"more": ["algorithm.shape_grpo.length_correction=true"]},
        {"method": "grpo"},
    ],
)
def test_another_configuration_is_another_run(task, started, change):
    train(task)
    train(task, *change.get("more", []), method=change.get("method", "shape_grpo"))
    assert len(started) == 2


def test_another_content_of_an_extension_is_another_run(task, started):
    file = task.parent / "mine.py"
    for content in ("", "", "changed = True\n"):
        file.write_text(content)
        train(task, f"algorithm.shape_grpo.extensions={file}")
    assert len(started) == 2


@pytest.mark.parametrize("folder", ["task", "task/policy"])
def test_other_words_or_another_policy_make_another_run(task, started, folder):
    train(task)
    write_stamp(task.parent / folder, {"candidates": 3, "words": "Name 3 films."})
    train(task)
    assert len(started) == 2


def test_a_run_that_was_cut_off_is_made_again(task, started, monkeypatch):
    def cut_off(name, overrides, run, **options):
        begin_run(run)
        write_metrics(run, 1, {"critic/score/mean": 9.0})
        raise launch.TrainingFailed("killed")

    start = launch.launch
    monkeypatch.setattr(launch, "launch", cut_off)
    with pytest.raises(launch.TrainingFailed):
        train(task)
    monkeypatch.setattr(launch, "launch", start)
    train(task)
    assert started and read_metrics(task.parent / "run") == {1: {"critic/score/mean": 4.0}}


def checkpoint(task, step):
    latest = task.parent / "run/checkpoints/latest_checkpointed_iteration.txt"
    latest.parent.mkdir(parents=True)
    latest.write_text(str(step))


def test_a_run_that_resumes_from_a_checkpoint_keeps_its_metrics(task, started, monkeypatch):
    """verl's file logger begins its file anew, and does the steps after the checkpoint again."""
    begun = []

    def cut_off(name, overrides, run, *, resume, **options):
        begin_run(run, resume=resume)
        begun.append(resume)
        first = len(begun)
        for step in (first, first + 1):
            write_metrics(run, step, {"critic/score/mean": 10.0 * first + step})
        (run / "metrics.jsonl").open("a").write('{"step": 9, "da')
        if first == 1:
            checkpoint(task, 1)
        if first < 3:
            raise launch.TrainingFailed("killed")

    monkeypatch.setattr(launch, "launch", cut_off)
    for _ in range(2):
        with pytest.raises(launch.TrainingFailed):
            train(task, "trainer.resume_mode=auto")
    train(task, "trainer.resume_mode=auto")
    assert begun == [False, True, True]
    found = read_metrics(task.parent / "run")
    assert [(step, data["critic/score/mean"]) for step, data in found.items()] == [
        (1, 11.0),
        (2, 22.0),
        (3, 33.0),
        (4, 34.0),
    ]
    assert not (task.parent / "run/metrics-before.jsonl").exists()


def test_checkpoints_of_another_configuration_are_not_gone_on_from(task, started):
    train(task, "trainer.resume_mode=auto")
    checkpoint(task, 1)
    with pytest.raises(ValueError, match=r"what differs: seed, config.*resume_mode=disable"):
        train(task, "data.seed=1")
    train(task, "data.seed=1", "trainer.resume_mode=disable")
    assert len(started) == 2


def test_nothing_is_started_for_a_configuration_that_is_refused(task, started):
    with pytest.raises(ValueError, match="not a multiple of"):
        train(task, "actor_rollout_ref.actor.ppo_mini_batch_size=3")
    with pytest.raises(ValueError, match="ask for 3"):
        train(task, "dataset.candidates=5")
    (task / "train.parquet").unlink()
    with pytest.raises(ValueError, match="there is no"):
        train(task)
    assert started == []


def test_what_the_user_has_set_stays_but_the_platform_and_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "elsewhere.jsonl")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    found = launch.run_environment("cpu", tmp_path)
    assert (found["OMP_NUM_THREADS"], found["VERL_PLATFORM"]) == ("7", "cpu")
    assert found["VERL_FILE_LOGGER_PATH"] == str(tmp_path / "metrics.jsonl")
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize("scale", ["quickstart", "smoke", "tiny"])
def test_an_interrupted_run_resumes_whatever_its_scale_says(tmp_path, scale):
    overrides = ["+task=movielens", "+backend=cpu", f"+scale={scale}"]
    resumed = launch.compose_run(overrides, tmp_path).trainer.resume_mode
    chosen = launch.compose_run([*overrides, "trainer.resume_mode=disable"], tmp_path)
    assert (resumed, chosen.trainer.resume_mode) == ("auto", "disable")


def test_what_is_beside_the_training_makes_no_other_run(task, started, monkeypatch):
    train(task)
    train(task, "trainer.logger=[console,wandb]")
    train(task, "trainer.resume_mode=disable")
    train(task, "++ray_kwargs.ray_init.address=local")
    monkeypatch.chdir(task.parent)
    overrides = ["+backend=cpu", "+task=movielens", "+scale=quickstart", f"dataset.folder={task}"]
    launch.train("shape_grpo", overrides, Path("run"), console=QUIET)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([], ["file"]),
        (["trainer.logger=[console,wandb,tensorboard]"],
         ["console", "wandb", "tensorboard", "file"]),
        (["trainer.logger=wandb"], ["wandb", "file"]),
        (["trainer.logger=[file,console]"], ["file", "console"]),
        (["trainer.logger=file"], ["file"]),
        (["trainer.logger=[]"], ["file"]),
        (["trainer.logger=null"], ["file"]),
    ],
)  # fmt: skip
def test_the_runs_own_file_does_not_depend_on_the_trackers(tmp_path, chosen, expected):
    overrides = ["+task=movielens", "+backend=cpu", "+scale=quickstart", *chosen]
    last = launch.with_file_logger(launch.compose_run(overrides, tmp_path))
    config = launch.compose_run([*overrides, last], tmp_path)
    assert list(config.trainer.logger) == expected


PROGRAM = """
import json, os, sys
from pathlib import Path
print("arguments", sys.argv[1:])
Path(os.environ["VERL_FILE_LOGGER_PATH"]).write_text(json.dumps({"step": 1, "data": {}}) + "\\n")
if os.environ.get("FAILS"):
    sys.exit(os.environ["FAILS"])
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in the place of verl's trainer, which prints its arguments and writes one step."""
    (tmp_path / "stand_in.py").write_text(PROGRAM)
    start = subprocess.Popen

    def begin(command, **options):
        return start([command[0], tmp_path / "stand_in.py", *command[3:]], **options)

    monkeypatch.setattr(launch.subprocess, "Popen", begin)


def test_the_log_of_each_start_is_kept(task, stand_in, monkeypatch):
    monkeypatch.setenv("FAILS", "the first reason")
    with pytest.raises(launch.TrainingFailed, match="the first reason"):
        train(task)
    monkeypatch.setenv("FAILS", "the second reason")
    with pytest.raises(launch.TrainingFailed, match="the second reason") as failed:
        train(task)
    assert "the first reason" not in str(failed.value)
    log = (task.parent / "run/train.log").read_text()
    assert log.count("=== started ") == 2
    assert log.index("the first reason") < log.index("the second reason")


def test_verl_is_told_of_a_folder_of_any_name(task, stand_in):
    folder = task.parent / "mein Ordner ü, [a]='b'" / "task"
    folder.parent.mkdir()
    task.rename(folder)
    overrides = ["+backend=cpu", "+task=movielens", "+scale=quickstart"]
    overrides.append(override("dataset.folder", folder))
    run = folder.parent / "run"
    launch.train("grpo", overrides, run, console=QUIET)
    assert read_metrics(run) == {1: {}}
    said = (run / "train.log").read_text().splitlines()[1]
    given = ast.literal_eval(said.removeprefix("arguments "))
    shown = {text for text in given if not text.startswith("hydra.")}
    config = compose_config([*shown])
    assert config.trainer.default_local_dir == str(run / "checkpoints")
    assert config.data.train_files == str(folder / "train.parquet")


def test_a_full_disk_is_one_line(task, stand_in, monkeypatch):
    monkeypatch.setenv("FAILS", "OSError: [Errno 28] No space left on device")
    with pytest.raises(launch.TrainingFailed) as failed:
        train(task)
    (line,) = str(failed.value).splitlines()
    assert f"failed: the disk of {task.parent}/run is full (" in line and " MB free)" in line
    assert line.endswith(f"The whole log: {task.parent}/run/train.log")


def test_a_folder_in_use_is_left_as_it_is(task, started):
    train(task)
    before = {path: path.read_bytes() for path in (task.parent / "run").iterdir()}
    with locked_run(task.parent / "run", QUIET):
        del before[task.parent / "run/lock"]
        with pytest.raises(ValueError, match="in use by another run"):
            train(task, "data.seed=1")
    assert len(started) == 1
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_another_command_finishes_meanwhile_is_reused(task, started, monkeypatch):
    check, calls = launch.check_run, []

    def slow_check(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            train(task)
        check(*arguments)

    monkeypatch.setattr(launch, "check_run", slow_check)
    train(task)
    assert (len(calls), len(started)) == (2, 1)


def test_the_dry_run_says_what_it_would_do_with_the_folder(task, started):
    overrides = ["+backend=cpu", "+task=movielens", "+scale=quickstart", f"dataset.folder={task}"]

    def state(*more):
        return folder_state("shape_grpo", [*overrides, *more], task.parent / "run")

    assert "at step 0" in state() and not (task.parent / "run").exists()
    train(task)
    assert "finished" in state() and "at step 0" in state("data.seed=1")
    checkpoint(task, 1)
    with pytest.raises(ValueError, match="what differs: seed"):
        state("data.seed=1")
    (task.parent / "run/settings.json").unlink()
    assert "would resume" in state()
