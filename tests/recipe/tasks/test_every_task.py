"""What holds for every task: its files, its rows, when it is prepared again, its examples."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks import TASKS, load_task
from recipe.shape_grpo.tasks.__main__ import main
from shape_grpo.candidates import parse_candidates
from tests.recipe.film_task import write_ratings
from tests.reward_fns.ds1000_problems import PROBLEMS

OTHER_SETTINGS = {
    "movielens": {"history": 2},
    "netflix": {"history": 2},
    "aclsum": {"aspects": ["outcome"]},
    "ds1000": {"seed": 1},
}
FILM_SETTINGS = {"films": 12, "min_ratings": 5, "test_viewers": 8, "factors": 2, "epochs": 2}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """For every task, the settings that name where its data come from."""
    folder = tmp_path_factory.mktemp("sources")
    write_ratings(folder)
    rows = [json.dumps(problem.row(number)) for number, problem in enumerate(PROBLEMS)]
    (folder / "problems.jsonl").write_text("\n".join(rows))
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")),
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    ).save_pretrained(folder / "tokenizer")
    return {
        "movielens": {"ratings": str(folder), **FILM_SETTINGS},
        "netflix": {"ratings": str(folder), **FILM_SETTINGS, "viewers": 20},
        "aclsum": {"tokenizer": str(folder / "tokenizer"), "max_prompt_tokens": 5000},
        "ds1000": {"problems": str(folder / "problems.jsonl"), "check": False, "test_share": 0.4},
    }


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


@pytest.fixture
def task(name):
    return load_task(name)


@pytest.fixture
def settings(name, task, sources):
    return task.TaskSettings(**sources[name])


@pytest.fixture
def folder(task, settings, tmp_path):
    task.prepare(tmp_path, settings)
    return tmp_path


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.*")}


def test_rows_have_verls_columns_and_the_tasks_name(folder, name):
    for split in ("train", "test"):
        rows = pd.read_parquet(folder / f"{split}.parquet").to_dict("records")
        assert rows
        for index, row in enumerate(rows):
            assert row["data_source"] == name
            assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
            assert row["extra_info"]["split"] == split and row["extra_info"]["index"] == index


def test_stamp_names_the_task_and_k(folder, name, settings):
    stamp = read_stamp(folder)
    assert stamp["task"] == name
    assert stamp["candidates"] == settings.candidates


def test_the_very_task_is_used_again(folder, task, settings, capsys):
    before = times_of(folder)
    task.prepare(folder, settings)
    assert times_of(folder) == before
    assert "reusing" in capsys.readouterr().out


def test_other_settings_are_prepared_anew(folder, task, name, settings):
    for change in ({"candidates": 2}, OTHER_SETTINGS[name]):
        before = times_of(folder)
        task.prepare(folder, replace(settings, **change))
        prompts = folder / "train.parquet"
        assert times_of(folder)[prompts] != before[prompts], change


def test_other_words_are_prepared_anew(folder, task, settings, monkeypatch):
    words = task.prompt_messages

    def other_words(*arguments):
        *earlier, last = words(*arguments)
        return [*earlier, {**last, "content": last["content"] + " Please."}]

    monkeypatch.setattr(task, "prompt_messages", other_words)
    task.prepare(folder, settings)
    prompts = pd.read_parquet(folder / "train.parquet")["prompt"]
    assert all(prompt[-1]["content"].endswith(" Please.") for prompt in prompts)


def test_examples_are_answers_of_k_different_candidates(folder, task, settings):
    examples = task.example_answers(folder, np.random.default_rng(0))
    drawn = examples.draw(50)
    assert len({answer for _, answer in drawn}) > 5
    for messages, answer in drawn:
        assert messages[-1]["role"] == "user" and "<candidate>" in messages[-1]["content"]
        candidates = parse_candidates(answer)
        assert len({c.text for c in candidates}) == len(candidates) == settings.candidates
        assert all(candidate.closed for candidate in candidates)
        assert {c.text for c in candidates} <= {text.strip() for text in examples.texts}


@pytest.mark.parametrize(
    ("name", "more", "dataset"),
    [*((name, [], name) for name in TASKS), ("netflix", ["--history=3"], "netflix_history")],
)
def test_without_output_the_folder_is_the_one_that_the_config_reads(
    name, more, dataset, sources, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = [f"--{key}={value}" for key, value in sources[name].items()]
    main([name, *options, "--candidates=4", *more])
    config = compose_config(["+task=netflix", f"dataset.name={dataset}", "dataset.candidates=4"])
    assert Path(config.data.train_files).is_file()
    assert Path(config.data.val_files).is_file()


@pytest.mark.parametrize("arguments", [[], ["chess"], ["NAME", "--k", "3"], ["NAME", "--seed=x"]])
def test_wrong_usage_ends_with_code_2_and_one_line(arguments, name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name if argument == "NAME" else argument for argument in arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["NAME", "--help"]])
def test_help_explains_every_option(arguments, name, settings, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name if argument == "NAME" else argument for argument in arguments])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    if arguments == ["--help"]:
        assert all(task in text for task in TASKS)
    else:
        for field in vars(settings):
            assert f"--{field} " in text
