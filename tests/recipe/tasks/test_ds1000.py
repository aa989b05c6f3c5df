"""The DS-1000 task: rows for verl, a split without leaks, and only problems that work."""

import gzip
import itertools
import json

import pandas as pd
import pytest
import torch

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks import ds1000
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.ds1000 import (
    SUMS,
    TaskSettings,
    prepare,
    prompt_messages,
    read_problems,
    split,
)
from reward_fns.ds1000 import run_tests
from shape_grpo.advantage import candidate_advantages
from shape_grpo.candidates import parse_candidates
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.methods import METHODS, method_options
from shape_grpo.sandbox import Sandbox, SandboxError
from tests.reward_fns.ds1000_problems import PROBLEMS

BROKEN = 3  # index of a row below whose reference solution is wrong


@pytest.fixture(scope="module")
def problems():
    rows = [problem.row(number) for number, problem in enumerate(PROBLEMS)]
    rows[BROKEN]["reference_code"] = "1 / 0"
    rows.append({**rows[0], "metadata": {**rows[0]["metadata"], "library": "Matplotlib"}})
    return rows


@pytest.fixture(scope="module")
def file(problems, tmp_path_factory):
    path = tmp_path_factory.mktemp("problems") / "test.jsonl.gz"
    with gzip.open(path, "wt") as lines:
        for problem in problems:
            lines.write(json.dumps(problem) + "\n\n")
    return str(path)


@pytest.fixture(scope="module")
def task(file, tmp_path_factory):
    output = tmp_path_factory.mktemp("task")
    try:
        prepare(output, TaskSettings(file, test_share=0.34))
    except SandboxError as error:
        pytest.skip(str(error))
    return output


def rows_of(task, name):
    rows = pd.read_parquet(task / f"{name}.parquet").to_dict("records")
    return [{**row, "prompt": list(row["prompt"])} for row in rows]


def test_every_working_problem_is_in_one_part(task, problems):
    contexts = [
        row["reward_model"]["ground_truth"]
        for name in ("train", "test")
        for row in rows_of(task, name)
    ]
    expected = [p["code_context"] for i, p in enumerate(problems[:-1]) if i != BROKEN]
    assert sorted(contexts) == sorted(expected)
    summary = json.loads((task / "summary.json").read_text())
    assert summary["read"] == len(problems)
    assert summary["other_libraries"] == 1
    assert summary["reference_fails"] == {"Numpy": 1}
    assert summary["train"] + summary["test"] == len(expected)


def test_rows_have_verls_columns(task, problems):
    for name in ("train", "test"):
        for index, row in enumerate(rows_of(task, name)):
            problem = problems[int(row["extra_info"]["problem"])]
            assert row["data_source"] == "ds1000"
            assert row["prompt"] == prompt_messages(problem["prompt"], 3)
            truth = {"style": "rule", "ground_truth": problem["code_context"]}
            assert row["reward_model"] == truth
            assert row["extra_info"]["index"] == index
            assert row["extra_info"]["library"] == problem["metadata"]["library"]
            assert problem["reference_code"] not in str(row["extra_info"])


def test_same_settings_are_reused(task, file, capsys, monkeypatch):
    monkeypatch.setattr(ds1000, "read_problems", None)
    prepare(task, TaskSettings(file, test_share=0.34))
    assert "reusing" in capsys.readouterr().out
    with pytest.raises(TypeError):
        prepare(task, TaskSettings(file, test_share=0.5))


@pytest.mark.parametrize("k", range(1, len(SUMS) + 1))
def test_prompt_spells_k_and_shows_an_answer_of_k_candidates(k):
    (message,) = prompt_messages("Problem:\nSort x.\nBEGIN SOLUTION\n<code>\n", k)
    word = ds1000.NUMBERS[k - 1]
    assert message["role"] == "user"
    assert f"write exactly {word}" in message["content"]
    assert f"Write {word} solutions" in message["content"]
    assert message["content"].startswith("Problem:\nSort x.\nBEGIN SOLUTION\n\nWrite")
    example = message["content"].split("an answer is:")[1]
    assert [candidate.text for candidate in parse_candidates(example)] == list(SUMS[:k])
    assert all(candidate.closed for candidate in parse_candidates(example))


def test_solutions_shown_are_right_and_distinct():
    import numpy as np

    assert len(set(SUMS)) == len(SUMS)
    for code in SUMS:
        scope = {"np": np, "x": np.array([1.0, 2, -3])}
        exec(code, scope)
        assert scope["result"] == pytest.approx(14), code


def test_variants_of_a_problem_stay_together():
    variants = [
        {"metadata": {"library": library, "problem_id": 10 * i + j, "perturbation_origin_id": i}}
        for library in ("Numpy", "Pandas")
        for i in range(10)
        for j in range(3)
    ]
    parts = split(variants, TaskSettings(test_share=0.3))
    sides = [
        {(p["metadata"]["library"], p["metadata"]["perturbation_origin_id"]) for p in part}
        for part in parts.values()
    ]
    assert sides[0].isdisjoint(sides[1])
    for library in ("Numpy", "Pandas"):
        assert sum(name == library for name, _ in sides[1]) == 3
    assert parts == split(variants, TaskSettings(test_share=0.3))
    assert parts != split(variants, TaskSettings(test_share=0.3, seed=1))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2 is not a JSON object"),
        ("3", "line 2 is not a JSON object"),
        ('{"prompt": ""}', "line 2 has no 'code_context'"),
        (
            '{"prompt": "", "code_context": "", "reference_code": "", "metadata": {}}',
            "line 2 has no 'metadata.library'",
        ),
        (
            '{"prompt": "", "code_context": "", "reference_code": "", "metadata": {"library": ""}, '
            '"other_solutions": "result = 1"}',
            "line 2: other_solutions is not a list of texts",
        ),
    ],
)
def test_a_line_of_another_schema_is_named(tmp_path, problems, line, what):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(problems[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=what):
        read_problems(str(path))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--problems", "nowhere.jsonl"], "there is no file 'nowhere.jsonl'"),
        (["--candidates", "0"], "candidates is 0: use 1 to 10"),
        (["--candidates", "11"], "candidates is 11: use 1 to 10"),
        (["--problems", "FILE", "--check=false", "--libraries=[R]"], "check --libraries"),
        (["--problems", "FILE", "--check=false", "--test_share", "0"], "check --libraries"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, what, file, tmp_path):
    arguments = [file if argument == "FILE" else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["ds1000", "--output", str(tmp_path / "task"), *arguments])
    assert what in str(ended.value)
    assert not (tmp_path / "task").exists()


def test_without_the_hub_the_error_says_what_to_do(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def unreachable(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(SystemExit, match="--problems FILE"):
        main(["ds1000", "--output", str(tmp_path)])


def test_rows_can_be_scored(task):
    row = rows_of(task, "train")[0]
    reference = next(
        problem.reference
        for number, problem in enumerate(PROBLEMS)
        if str(number) == row["extra_info"]["problem"]
    )
    assert run_tests(Sandbox(), row["reward_model"]["ground_truth"], reference) == 1.0


@pytest.mark.parametrize("method", [name for name in METHODS if "vpo" not in name])
def test_noisy_or_equals_max_if_solutions_pass_or_fail(method):
    """1 - (1 - r_1) ... (1 - r_K) is the largest r_k if each is 0 or 1, in every subset too.

    So both utilities give the same credit, and the task needs only one of them.
    """
    rewards = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    lengths = torch.tensor([[3, 1, 4, 2]] * len(rewards))
    by_max, by_noisy_or = (
        candidate_advantages(
            rewards,
            None,
            lengths,
            ["prompt"] * len(rewards),
            ShapeGRPOConfig(utility=utility, **method_options(method)).method,
        )
        for utility in ("max", "noisy_or")
    )
    for actual, expected in zip(by_noisy_or, by_max, strict=True):
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_config_allows_for_the_prompts_and_their_answers():
    config = compose_config(["+task=ds1000"])
    assert config.algorithm.shape_grpo.max_candidates == TaskSettings().candidates
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert config.actor_rollout_ref.rollout.max_model_len == longest
    assert config.data.train_batch_size % config.actor_rollout_ref.actor.ppo_mini_batch_size == 0


def test_the_reward_function_is_given_verls_settings_of_the_server():
    settings = {"url": "http://host:8080/run_code", "max_concurrent": 7, "memory_limit_mb": 512}
    config = compose_config(
        ["+task=ds1000", *(f"reward.sandbox_fusion.{name}={x}" for name, x in settings.items())]
    )
    # As verl reads them (verl/trainer/ppo/reward.py).
    given = dict(config.reward.custom_reward_function.reward_kwargs)
    assert given["sandbox_fusion_url"] == settings["url"]
    assert given["max_concurrent"] == 7
    assert given["memory_limit_mb"] == 512
    assert (
        dict(compose_config(["+task=ds1000"]).reward.custom_reward_function.reward_kwargs)[
            "sandbox_fusion_url"
        ]
        is None
    )
