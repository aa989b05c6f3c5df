"""Films for groups of viewers: two steps by TRL, and scores of answers; rewards are vectors."""

import json
from statistics import fmean

import numpy as np
import pytest

from recipe.shape_grpo.evaluate.__main__ import main as evaluate
from recipe.shape_grpo.in_process.__main__ import main
from recipe.shape_grpo.tasks.prepared_task import load_task_folder
from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import parse_candidates
from tests.recipe.film_task import make_policy, prepare, write_ratings

OPTIONS = ["--steps=2", "--validate_every=2", "--prompts_per_step=2", "--group_size=4"]
OPTIONS += ["--validation_samples=2", "--max_tokens=4"]
VIEWERS = 3


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    ratings = write_ratings(tmp_path_factory.mktemp("ratings"))
    folder = tmp_path_factory.mktemp("task")
    prepare("movielens", folder, ratings, viewers_per_prompt=VIEWERS, history=1)
    make_policy(folder / "policy")
    return folder


@pytest.fixture(scope="module")
def stars(task):
    """stars(viewers, prompt, title) -> what each viewer gives a film; of a named one, nothing."""
    with np.load(task / "ratings.npz") as table:
        rows = {viewer: row for row, viewer in enumerate(table["viewers"].tolist())}
        columns = {title: column for column, title in enumerate(table["titles"].tolist())}
        ratings = table["ratings"].astype(float)

    def of(viewers, prompt, title):
        named = prompt.replace(".", ";").replace("liked ", ";").split(";")
        if title not in columns or title in map(str.strip, named):
            return [0.0] * VIEWERS
        return [ratings[rows[viewer], columns[title]] for viewer in viewers.split(",")]

    return of


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def titles_of(text):
    """The candidates that count: three at most, a repeat as None."""
    found = [each.text for each in parse_candidates(text)][:3]
    return [None if title in found[:place] else title for place, title in enumerate(found)]


@pytest.mark.parametrize(
    ("method", "allocator", "advantage"),
    [("vpo", "uniform", "reweight"), ("vpo_praise", "beta_shapley", "praise")],
)
def test_a_set_is_worth_its_best_film_under_each_weighting(
    task, stars, tmp_path, method, allocator, advantage
):
    main([str(task), f"--output={tmp_path}", f"--method={method}", *OPTIONS])
    run = tmp_path / "seed-0"
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["task"], settings["method"]) == ("movielens_group", method)
    credit = settings["shape_grpo"]
    assert credit["utility_options"] == {"components": VIEWERS}
    assert (credit["allocator"], credit["advantage"]) == (allocator, advantage)
    inside = 0
    for rollout in lines(run / "rollouts/2.jsonl"):
        rewards = CandidateRecord.from_json(rollout["shape_grpo"]).rewards
        for title, weighted in zip(titles_of(rollout["output"]), rewards, strict=True):
            each = [0.0] * VIEWERS
            if title is not None:
                each = stars(rollout["gts"], rollout["input"], title)
                assert len(weighted) == 16
            # 16 weighted means over the viewers, each over 16.
            assert all(min(each) <= w * 16 + 1e-6 and w * 16 <= max(each) + 1e-6 for w in weighted)
            inside += len({round(w, 6) for w in weighted}) > 1
        best = [max(column) for column in zip(*(r for r in rewards if r), strict=True)]
        assert rollout["score"] == pytest.approx(sum(best), abs=1e-5)
    assert inside > 0
    measured = lines(run / "metrics.jsonl")
    assert measured[-1]["data"]["val-core/movielens_group/reward/mean@2"] > 0
    assert all(line["data"]["actor/grad_norm"] > 0 for line in measured[1:])


def test_the_baseline_on_the_mean_has_the_same_prompts(task, stars, tmp_path):
    options = ["--method=grpo", "--dataset=movielens_group_mean"]
    main([str(task), f"--output={tmp_path}", *options, *OPTIONS])
    run = tmp_path / "seed-0"
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["task"], settings["method"]) == ("movielens_group_mean", "grpo")
    assert settings["shape_grpo"]["utility"] == "max"
    for rollout in lines(run / "rollouts/2.jsonl"):
        titles = [title for title in titles_of(rollout["output"]) if title]
        each = [fmean(stars(rollout["gts"], rollout["input"], title)) for title in titles]
        assert rollout["score"] == pytest.approx(max(each, default=0.0))


def test_a_dataset_that_config_does_not_have_is_refused(task, tmp_path):
    with pytest.raises(SystemExit, match=r"in_process: .*Could not find 'task/movielens_groups'"):
        main([str(task), f"--output={tmp_path}", "--dataset=movielens_groups", *OPTIONS])


def test_the_size_of_groups_is_that_of_the_prompts(task):
    for dataset in (None, "movielens_group_mean"):
        config = load_task_folder(task, dataset=dataset).config
        assert (config.dataset.viewers_per_prompt, config.dataset.candidates) == (VIEWERS, 3)


def test_answers_are_scored_for_each_viewer(task, stars, tmp_path):
    corners = "+algorithm.shape_grpo.utility_options.corners=true"
    options = ["--samples=4", "--max_tokens=4", f"--output={tmp_path}"]
    evaluate(["score", str(task / "policy"), corners, f"--task={task}", *options])
    rows = load_task_folder(task).prompts("test").to_list()
    values = []
    for line in lines(tmp_path / "answers.jsonl"):
        row = rows[line["index"]]
        viewers, prompt = row["reward_model"]["ground_truth"], row["prompt"][0]["content"]
        titles = [title for title in titles_of(line["text"]) if title]
        each = [stars(viewers, prompt, title) for title in titles]
        values.append(fmean(map(max, zip(*each, strict=True))) if each else 0.0)
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["means"]["model"]["the set's reward"]["value"] == pytest.approx(fmean(values))
    assert fmean(values) > 1
