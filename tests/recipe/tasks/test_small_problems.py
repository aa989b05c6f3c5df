"""The small problems: every program solves its own problem and no other."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks.ds1000 import SUMS, TaskSettings, example_answers, prepare
from recipe.shape_grpo.tasks.small_problems import PROBLEMS, small_problems
from reward_fns.ds1000 import compute_score
from shape_grpo.candidates import parse_candidates
from shape_grpo.sandbox import SandboxError

ROWS = small_problems()


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    output = tmp_path_factory.mktemp("task")
    prepare(output, TaskSettings("small", check=False))
    return output


def rows_of(task, split):
    return pd.read_parquet(task / f"{split}.parquet").to_dict("records")


def test_every_program_solves_its_own_problem_and_no_other():
    """Tested in the sandbox by the reward function."""
    programs = [(number, code) for number, p in enumerate(PROBLEMS) for code in p["programs"]]
    programs += [(None, SUMS[0])]
    asked = list(itertools.product(range(len(PROBLEMS)), programs))

    def score(pair):
        problem, (_, program) = pair
        return compute_score("ds1000", program, ROWS[problem]["code_context"])["score"]

    try:
        score(asked[0])
    except SandboxError as error:
        pytest.skip(str(error))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(score, asked))
    unlike = [
        (PROBLEMS[problem]["phrases"][0], program, reward)
        for (problem, (solves, program)), reward in zip(asked, found, strict=True)
        if reward != (problem == solves)
    ]
    assert unlike == []


def test_the_first_array_alone_tells_all_problems_apart():
    """So a wrong program fails in the first test, and no program is right for two problems."""
    x = np.array([4, -1, 3, 3, -2, 0, 6])
    answers = []
    for problem in PROBLEMS:
        scope = {"np": np, "x": x.copy()}
        exec(problem["programs"][0], scope)
        answers.append(np.asarray(scope["result"]))
    for one, other in itertools.combinations(answers, 2):
        assert one.shape != other.shape or not np.allclose(one, other)


def test_no_program_or_wording_is_repeated():
    programs = [program for problem in PROBLEMS for program in problem["programs"]]
    assert len({*programs, *SUMS}) == len(programs) + len(SUMS)
    prompts = [row["prompt"] for row in ROWS]
    assert len(set(prompts)) == len(prompts)


def test_held_out_prompts_are_other_wordings_of_the_same_problems(task):
    asked = {
        split: [(row["reward_model"]["ground_truth"], row["prompt"][0]["content"]) for row in rows]
        for split, rows in ((split, rows_of(task, split)) for split in ("train", "test"))
    }
    problems = {split: {truth for truth, _ in rows} for split, rows in asked.items()}
    assert len(problems["train"]) == len(PROBLEMS) and problems["train"] == problems["test"]
    wordings = {split: {words for _, words in rows} for split, rows in asked.items()}
    assert wordings["train"].isdisjoint(wordings["test"])


@pytest.mark.parametrize(("neighbours", "around"), [(None, 8), (3, 4), (0, 1)])
def test_the_warm_start_shows_right_programs_of_several_problems(neighbours, around, tmp_path):
    """Those of all prompts, or those of the prompt and of the problems after it."""
    prepare(tmp_path, TaskSettings("small", neighbours=neighbours, check=False))
    # Successive rows have successive problems.
    numbers = itertools.cycle(range(len(PROBLEMS)))
    problem_of = {row["prompt"][0]["content"]: next(numbers) for row in rows_of(tmp_path, "train")}
    drawn = example_answers(tmp_path, np.random.default_rng(0)).draw(3000)
    shown = {}
    for messages, answer in drawn:
        texts = {candidate.text for candidate in parse_candidates(answer)}
        shown.setdefault(problem_of[messages[0]["content"]], set()).update(texts)
    assert shown == {
        number: {
            *(SUMS if neighbours is None else ()),
            *(p for k in range(around) for p in PROBLEMS[(number + k) % len(PROBLEMS)]["programs"]),
        }
        for number in range(len(PROBLEMS))
    }


def test_too_few_neighbours_for_an_answer_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neighbours is 0.* fewer than 6 right programs"):
        prepare(tmp_path, TaskSettings("small", neighbours=0, candidates=6, check=False))
    assert not list(tmp_path.iterdir())


def test_the_task_is_a_separate_dataset_with_remember():
    assert TaskSettings("small").dataset == "ds1000_small" != TaskSettings("a.jsonl").dataset
    config = compose_config(["+task=ds1000_small", "dataset.candidates=4"])
    assert config.data.train_files == "outputs/ds1000_small-k4/train.parquet"
    keywords = config.reward.custom_reward_function.reward_kwargs
    assert keywords.remember and keywords.seconds == 20.0


def test_a_files_further_solutions_are_shown_too_and_those_of_test_problems_are_not(tmp_path):
    rows = [
        {**ROWS[number], "metadata": {"library": "Numpy", "problem_id": number}}
        for number in range(4)
    ]
    rows[1].pop("other_solutions")
    file = tmp_path / "problems.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    prepare(tmp_path / "task", TaskSettings(str(file), test_share=0.5, check=False))
    training = [int(row["extra_info"]["problem"]) for row in rows_of(tmp_path / "task", "train")]
    programs = json.loads((tmp_path / "task/programs.json").read_text())
    expected = [
        [rows[number]["reference_code"], *rows[number].get("other_solutions", ())]
        for number in training
    ]
    assert len(training) == 2 and programs == expected
    drawn = example_answers(tmp_path / "task", np.random.default_rng(0)).draw(500)
    shown = {c.text for _, answer in drawn for c in parse_candidates(answer)}
    assert shown == {*SUMS, *itertools.chain(*expected)}
