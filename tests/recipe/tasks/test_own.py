"""A task of one's own: the README's commands as they stand, and what is said of wrong files."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.common import verl_row
from recipe.shape_grpo.tasks.new import CONFIGS, new_task
from recipe.shape_grpo.tasks.own import example_answers, read_any_task
from recipe.shape_grpo.tasks.reward_kinds import REWARD_KINDS
from shape_grpo.candidates import find_in_text, parse_candidates
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction, candidate_arguments, load_reward_function
from shape_grpo.verl.cpu import ENVIRONMENT

ROOT = Path(__file__).parents[3]
ONE, TWO = "<candidate>a</candidate>", "<candidate>a</candidate>\n<candidate>b</candidate>"
TRAINING = "python -m recipe.shape_grpo.runs $run "
SIMULATION = [
    *("--steps=2", "--prompts_per_step=2", "--group_size=4", "--max_tokens=24"),
    *("--validation_prompts=4", "--validation_samples=1"),
]


def sha_of(folder):
    return read_any_task(folder)["files"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder like a clone, after the README's commands up to the training."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "recipe", clone / "recipe", ignore=shutil.ignore_patterns("results"))
    # Its settings of pytest hold for a task's own test too.
    for name in ("shape_grpo", "reward_fns", "pyproject.toml"):
        (clone / name).symlink_to(ROOT / name)
    section = (ROOT / "README.md").read_text().split("## Your own task")[1]
    commands = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)[0]
    before, training = commands.split(TRAINING)
    assert training.split() == ["#", "trains"] and "runs --dry-run $run" in before
    (clone / "said").write_text(run_bash(before, clone))
    return clone


def run_bash(commands, folder):
    clean = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env={**clean, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_the_readmes_commands_run_up_to_the_training(clone):
    said = (clone / "said").read_text()
    assert "The configuration is valid." in said
    assert "The reward function gave [0.0, 0.0, 0.0, 0.0]" in said
    for group in ("task", "scale"):
        assert (clone / f"recipe/shape_grpo/config/{group}/my_task.yaml").is_file()
    assert (clone / "my_task/policy/model.safetensors").is_file()


def test_the_new_task_trains_in_one_process(clone):
    command = "python -m recipe.shape_grpo.in_process my_task --output run "
    run_bash(command + " ".join(SIMULATION), clone)
    lines = (clone / "run/seed-0/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert 0 < json.loads(lines[-1])["data"]["critic/score/mean"] <= 4


def test_the_configuration_is_that_of_the_prompts(tmp_path, monkeypatch):
    files = new_task("lunch", tmp_path / "here", tmp_path)
    names = {path.name for path in files}
    assert names == {"prompts.py", "reward.py", "test_lunch.py", "lunch.yaml"} and len(files) == 5
    assert not any("my_task" in path.read_text() for path in files)
    config = OmegaConf.load(tmp_path / "task/lunch.yaml")
    base = compose_config(["+task=own"])
    assert config.dataset.name == "lunch" and config.dataset.folder == str(tmp_path / "here")
    assert OmegaConf.merge(base, {k: v for k, v in config.items() if k != "defaults"})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("xml", {"tag": "dish"}),
        ("numbered", {}),
        ("json", {"key": "dish"}),
        ("fenced", {}),
        ("lines", {"marker": "- "}),
        ("regex", {"pattern": r"(?m)^\* (.+)$", "example": "* {candidate}\n"}),
    ],
)
def test_the_template_takes_any_format_that_can_write(name, options, tmp_path):
    new_task("lunch", tmp_path, tmp_path)
    prompts = (tmp_path / "prompts.py").read_text()
    changed = prompts.replace('make_format("xml")', f"make_format({name!r}, {options!r})")
    assert changed != prompts
    (tmp_path / "prompts.py").write_text(changed)
    for command in (["prompts.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "."]):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
        subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, check=True)
    examples = example_answers(tmp_path, np.random.default_rng(0))
    (_, answer), *_ = examples.draw(1)
    assert len(examples.texts) == 13 and len(examples.find(answer)) == 3
    found = parse_candidates(answer, format=name, format_options=options)
    assert sorted(candidate.text for candidate in found) == examples.find(answer)
    assert read_any_task(tmp_path)["candidates"] == 3


@pytest.mark.parametrize(("asked", "vectors"), REWARD_KINDS)
def test_each_kind_of_reward_runs_as_it_is_written(asked, vectors, tmp_path):
    """A fixed answer has the score that plain counting gives."""
    new_task("lunch", tmp_path, tmp_path, form="lines", kind=REWARD_KINDS[asked, vectors])
    own = OmegaConf.load(tmp_path / "task/lunch.yaml")
    del own["defaults"]
    settings = OmegaConf.merge(compose_config(["+task=own"]), own)
    options = ShapeGRPOConfig.from_algorithm(settings.algorithm)
    function = RewardFunction(load_reward_function(settings), options)
    dishes = ["melon", "rice crackers", "omelette"]
    row = {"data_source": "", "reward_model": {"ground_truth": "cold light crisp filling"}}
    found = find_in_text("\n".join(dishes), options, cut=False)
    record = asyncio.run(function.score_set(found, partial(candidate_arguments, row))).record
    guests = {"melon": {0, 1}, "rice crackers": {1, 2}, "omelette": {1, 3}}
    if asked == "set" and not vectors:
        # One guest is served by all three, the others by one.
        expected = 1 + 1 / 3
    elif vectors or asked == "subset":
        expected = len(set.union(*guests.values()))
    else:
        expected = 2
    assert options.score(record) == pytest.approx(expected)


def test_the_choices_are_flags(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recipe.shape_grpo.tasks.new.CONFIGS", tmp_path)
    flags = ["--format=json", "--reward=set", "--vectors", f"--output={tmp_path / 'new'}"]
    main(["new", "lunch", *flags])
    assert "solution_strs: list[str]" in (tmp_path / "new/reward.py").read_text()
    assert 'make_format("json")' in (tmp_path / "new/prompts.py").read_text()
    with pytest.raises(SystemExit, match="a subset has one number"):
        main(["new", "dinner", "--reward=subset", "--vectors", f"--output={tmp_path / 'two'}"])
    with pytest.raises(SystemExit, match=r"candidate format"):
        main(["new", "dinner", "--format=jsn", f"--output={tmp_path / 'two'}"])


@pytest.mark.parametrize("name", ["My_task", "2_tasks", "my-task", "", "../my_task"])
def test_a_name_that_python_would_not_take_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="cannot name a task"):
        new_task(name, tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "reward.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"reward\.py already exists"):
        new_task("lunch", tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["reward.py"]


def test_the_name_of_a_task_that_there_is_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"movielens\.yaml already exists"):
        main(["new", "movielens", f"--output={tmp_path / 'new'}"])
    assert (CONFIGS / "task/movielens.yaml").is_file() and not (tmp_path / "new").exists()


@pytest.fixture
def folder(tmp_path):
    """own([lines]) -> a folder with these lines of examples."""

    def own(*lines):
        row = verl_row("lunch", "planning", [{"role": "user", "content": "Hi"}], "")
        pd.DataFrame([{**row, "extra_info": {"index": 0}}]).to_parquet(tmp_path / "train.parquet")
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "examples.jsonl").write_text("\n".join(texts))
        return tmp_path

    return own


def test_k_is_what_most_examples_have_and_the_name_is_that_of_the_rows(folder):
    task = read_any_task(
        folder(*[{"prompt": "Hi", "answer": answer} for answer in (TWO, ONE, TWO)])
    )
    assert task["candidates"] == 2 and task["dataset"] == "lunch" and task["task"] == "own"


def test_other_examples_are_another_task(folder):
    first = sha_of(folder({"prompt": "Hi", "answer": ONE}))
    second = sha_of(folder({"prompt": "Hi!", "answer": ONE}))
    assert first["examples.jsonl"] != second["examples.jsonl"]
    assert first["train.parquet"] == second["train.parquet"]


def test_a_prompt_is_text_or_chat_messages(folder):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = folder({"prompt": "Hi", "answer": ONE}, {"prompt": chat, "answer": TWO})
    examples = example_answers(path, np.random.default_rng(0))
    drawn = {len(messages): (messages, answer) for messages, answer in examples.draw(20)}
    assert drawn[1] == ([{"role": "user", "content": "Hi"}], ONE)
    assert drawn[2] == (chat, TWO)
    assert examples.texts == [c.text for c in parse_candidates(TWO)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Hi", "examples.jsonl:2 is not an example"),
        ({"prompt": "Hi"}, "examples.jsonl:2 is not an example"),
        ({"prompt": "Hi", "answer": "a, b"}, "examples.jsonl:2: the answer has no <candidate>"),
        ({"prompt": "Hi", "answer": TWO[:-2]}, "or one that is not closed"),
        ({"prompt": "Hi", "answer": "a, b", "candidates": "a"}, "Beside an answer in another"),
        ({"prompt": "Hi", "answer": "a, b", "candidates": []}, '"candidates": '),
    ],
)
def test_a_line_that_is_no_example_is_named(folder, line, says):
    with pytest.raises(ValueError, match=says):
        read_any_task(folder({"prompt": "Hi", "answer": ONE}, line))


def test_no_examples_are_said_to_be_missing(folder):
    with pytest.raises(ValueError, match=r"examples.jsonl is empty"):
        read_any_task(folder())
