"""What makes a run be made anew; what starting one looks like is in tests/e2e."""

import pandas as pd
import pytest
from rich.console import Console

from recipe.shape_grpo.common.files import read_stamp, write_stamp
from recipe.shape_grpo.common.run_folder import begin_run, read_metrics, write_metrics
from recipe.shape_grpo.runs import launch
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
    overrides = ["+task=movielens", "+scale=quickstart", f"dataset.folder={task}", *more]
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
    with pytest.raises(ValueError, match=r"another seed, config.*resume_mode=disable"):
        train(task, "data.seed=1", "trainer.resume_mode=auto")
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
