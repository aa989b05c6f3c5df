"""What answers are worth: against enumeration, the rating table, and scipy's own intervals."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import bootstrap

from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.evaluate.__main__ import main
from recipe.shape_grpo.evaluate.comparison import compare
from recipe.shape_grpo.evaluate.sampling import Answer, SampleSettings
from recipe.shape_grpo.evaluate.scoring import (
    Scored,
    best_of,
    most_frequent,
    score_answers,
    score_fixed_set,
)
from recipe.shape_grpo.tasks.prepared_task import load_task_folder
from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import CandidateRules, CandidateSet, parse_candidates
from shape_grpo.candidates.formats.format import FORMATS
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction
from tests.recipe.film_task import make_policy


def answer(*texts, **rules):
    """An answer of these candidates, under rules."""
    text = "".join(f"<candidate>{text}</candidate>" for text in texts)
    written, spans = parse_candidates(text), [(0, 1)] * len(texts)
    found = CandidateSet.from_candidates(written, spans, CandidateRules(**rules))
    return Answer(text, found, cut=False)


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("k", range(1, 8))
def test_best_of_k_is_the_mean_over_all_draws(count, k):
    values = np.random.default_rng(count).normal(size=count).round(1).tolist()
    draws = list(combinations(values, min(k, count)))
    assert best_of(values, k) == pytest.approx(fmean(map(max, draws)))


@pytest.mark.parametrize(("right", "count", "k"), [(0, 5, 2), (2, 5, 2), (3, 10, 5), (5, 5, 1)])
def test_of_zeros_and_ones_it_is_pass_at_k_of_chen_et_al(right, count, k):
    values = [1.0] * right + [0.0] * (count - right)
    # Their program, arXiv 2107.03374, Figure 3.
    missed = np.prod(1.0 - k / np.arange(count - right + 1, count + 1))
    assert best_of(values, k) == pytest.approx(1.0 if count - right < k else 1.0 - missed)


@pytest.fixture(scope="module")
def ratings(task):
    """(viewer, title) to stars."""
    with np.load(task / "ratings.npz") as table:
        viewers, titles = table["viewers"].tolist(), table["titles"].tolist()
        stars = table["ratings"]
    return {(v, t): stars[i, j] for i, v in enumerate(viewers) for j, t in enumerate(titles)}


def unseen(rows, ratings):
    """Three titles that none of the prompts names."""
    seen = {title for row in rows for title in row["extra_info"]["history"]}
    return sorted({title for _, title in ratings} - seen)[:3]


def test_a_task_imports_the_files_that_register_custom_names(task, monkeypatch, tmp_path):
    (tmp_path / "registers_shortest.py").write_text(
        "from shape_grpo.candidates import Format, register_format\n\n"
        "@register_format('shortest')\n"
        "class Shortest(Format):\n"
        "    def find(self, answer, *, cut):\n"
        "        yield 0, 1, True\n\n"
        "    def write(self, candidates):\n"
        "        return ''.join(candidates)\n"
    )
    monkeypatch.chdir(tmp_path)
    block = "+algorithm.shape_grpo"
    overrides = [f"{block}.extensions=[registers_shortest.py]", f"{block}.format=shortest"]
    try:
        loaded = load_task_folder(task, overrides)
        assert loaded.config.algorithm.shape_grpo.format == "shortest"
    finally:
        FORMATS.pop("shortest", None)


def test_rewards_are_the_tasks_own_and_measures_are_means_over_answers(task, ratings):
    prepared = load_task_folder(task)
    rows = prepared.prompts("test").to_list()[:2]
    titles = unseen(rows, ratings)
    answers = [[answer(*titles), answer(titles[0], "No Film")], [answer(), answer(titles[1])]]
    scored = score_answers(prepared, rows, answers)
    a, b = (row["reward_model"]["ground_truth"] for row in rows)
    of_a = sorted(float(ratings[a, title]) for title in titles)
    one, other = float(ratings[a, titles[0]]), float(ratings[b, titles[1]])
    expected = {
        "the set's reward": [fmean([of_a[2], one]), fmean([0, other])],
        "best of 1": [fmean([fmean(of_a), one / 2]), fmean([0, other])],
        "best of 2": [fmean([(of_a[1] + 2 * of_a[2]) / 3, one]), fmean([0, other])],
        "best of 3": [fmean([of_a[2], one]), fmean([0, other])],
        "candidates": [2.5, 0.5],
        "distinct candidates": [2.5, 0.5],
        "without candidates": [0, 0.5],
        "reward errors": [0, 0],
    }
    measures = scored.measures()
    assert measures.keys() == expected.keys()
    for name, values in expected.items():
        assert measures[name] == pytest.approx(values), name


def test_a_repeat_under_the_rule_floor_is_not_asked_for_and_is_worth_the_floor(task, ratings):
    prepared = load_task_folder(task)
    rows = prepared.prompts("test").to_list()[:1]
    title = unseen(rows, ratings)[0]
    repeated = answer(title, title.upper(), duplicate="floor")
    assert repeated.found.texts == [title, None]
    measures = score_answers(prepared, rows, [[repeated]]).measures()
    stars = float(ratings[rows[0]["reward_model"]["ground_truth"], title])
    assert measures["best of 1"] == pytest.approx([stars / 2])
    assert measures["distinct candidates"] == [1] and measures["candidates"] == [2]


def test_the_fixed_set_is_what_most_answers_name_and_is_scored_for_every_prompt(task, ratings):
    answers = [
        [answer("b", "a"), answer("b", "c", "c"), answer("B ", "d")],
        [answer("a", "x", max_candidates=1, surplus="floor"), answer("c", "b"), answer("c")],
    ]
    # In 4 answers b, in 3 c, in 2 a; a repeat counts once.
    assert most_frequent(answers, 3) == ["b", "c", "a"]
    assert most_frequent([[answer()]], 3) == []
    # Three spellings of one film are one film, by the rule that training has for duplicates.
    spelled = [[answer(text) for text in ("Heat", "heat", "HEAT ", "X", "X")]]
    assert most_frequent(spelled, 2) == ["Heat", "X"]

    prepared = load_task_folder(task)
    rows = prepared.prompts("test").to_list()
    titles = unseen(rows, ratings)
    measures = score_fixed_set(prepared, rows, titles).measures()
    viewers = [row["reward_model"]["ground_truth"] for row in rows]
    best = [max(float(ratings[viewer, title]) for title in titles) for viewer in viewers]
    assert measures["the set's reward"] == pytest.approx(best)
    assert set(measures["candidates"]) == set(measures["distinct candidates"]) == {3}


def test_the_candidates_of_a_utility_of_vectors_are_ranked_by_it():
    options = ShapeGRPOConfig(utility="coverage")
    record = CandidateRecord(rewards=[[1.0, 0, 0, 0], [1.0, 1, 0, 0], [0, 0, 1.0, 0]], distinct=3)
    measures = Scored([[record]], options, 3).measures()
    one, two, three = (measures[f"best of {k}"].item() for k in (1, 2, 3))
    # The set passes three of four; its best candidate two.
    assert measures["the set's reward"].item() / three == pytest.approx(3 / 2)
    assert one / three == pytest.approx((1 + 2 + 1) / 3 / 2)
    assert two / three == pytest.approx((2 + 2 + 1) / 3 / 2)


def failing(solution_str, **arguments):
    if "fails" in solution_str:
        raise ConnectionError("the judge is down")
    return 2.0


def test_a_failure_costs_its_candidate_and_too_many_end_it_with_the_traceback(task):
    prepared = load_task_folder(task)
    config = ShapeGRPOConfig.from_algorithm(prepared.config.algorithm)
    prepared = replace(prepared, reward_function=RewardFunction(failing, config))
    rows = prepared.prompts("test").to_list()[:1]
    measures = score_answers(prepared, rows, [[answer("fails", "a", "b")]]).measures()
    assert measures["reward errors"] == [1] and measures["the set's reward"] == [2]
    with pytest.raises(RuntimeError, match="ConnectionError: the judge is down"):
        score_answers(prepared, rows, [[answer("fails", "it fails", "b")]])


@pytest.fixture(scope="module")
def evaluated(task, policy, tmp_path_factory):
    """The command's files."""
    folder = tmp_path_factory.mktemp("evaluation")
    start = make_policy(folder / "start", seed=5)
    options = ["--samples=6", "--max_tokens=4", f"--output={folder}"]
    main(["score", str(policy), f"--task={task}", f"--against={start}", *options])
    lines = (folder / "answers.jsonl").read_text().splitlines()
    return json.loads((folder / "evaluation.json").read_text()), [*map(json.loads, lines)]


def test_the_files_of_the_command_agree_and_its_intervals_are_scipys(evaluated, task, policy):
    result, lines = evaluated
    assert result["model"] == str(policy) and result["prompts"] == 4
    assert len(lines) == 2 * 4 * 6
    prompts = {"model": [], "against": []}
    for by, values in prompts.items():
        for index in range(4):
            of_prompt = [line for line in lines if (line["by"], line["index"]) == (by, index)]
            values.append(fmean(max(line["rewards"], default=0) for line in of_prompt))
        assert result["means"][by]["the set's reward"]["value"] == pytest.approx(fmean(values))
    difference = np.subtract(prompts["model"], prompts["against"])
    stated = result["model minus"]["against"]["the set's reward"]
    assert stated["value"] == pytest.approx(difference.mean())
    again = bootstrap(
        (difference,),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert [stated["low"], stated["high"]] == pytest.approx(list(again), abs=0.06)
    assert len(result["fixed set"]) == 3 and "fixed set" in result["model minus"]


def test_answers_may_be_as_long_as_the_task_says(task, policy):
    # config/task/movielens.yaml has 256 tokens, which this policy cannot hold beside a prompt.
    with pytest.raises(ValueError, match=r"an answer of 256 tokens has .*, but .* holds 256"):
        compare(load_task_folder(task), str(policy), SampleSettings(samples=2))


@pytest.mark.parametrize("exported", ["model", "against"])
def test_an_exported_policy_answers_as_long_as_it_trained(task, policy, tmp_path, exported):
    """And so does the model that it is compared with."""
    shutil.copytree(policy, tmp_path / "model")
    write_stamp(tmp_path / "model", {"max_response_length": 4})
    models = {"model": str(tmp_path / "model"), "against": str(policy)}
    if exported == "against":
        models = {"model": models["against"], "against": models["model"]}
    settings = SampleSettings(samples=2)
    compared = compare(load_task_folder(task), settings=settings, fixed_set=False, **models)
    assert compared.about["settings"]["max_tokens"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts=1"], "prompts is 1: use 2 or more"),
        (["--against=./nowhere"], "there is no folder ./nowhere"),
        (["reward.custom_reward_function.reward_kwarg.x=1"], "Could not override"),
        (["reward.custom_reward_function.reward_kwargs.ratings=no.npz"], "no rating table at"),
    ],
)
def test_what_is_wrong_ends_the_command_in_words(task, policy, tmp_path, options, message):
    arguments = [str(policy), *options, f"--task={task}", f"--output={tmp_path / 'evaluation'}"]
    with pytest.raises(SystemExit, match=f"(?s)evaluate score: .*{message}"):
        main(["score", *arguments, "--samples=2", "--max_tokens=4"])
    assert not list(tmp_path.iterdir())
