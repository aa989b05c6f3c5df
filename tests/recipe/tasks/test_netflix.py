"""The Netflix task: predictions against plain sums, prompts with and without history, configs."""

import json
import math
import re
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks import film_ratings
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.netflix import (
    EXAMPLE,
    FILES,
    TaskSettings,
    prepare,
    prompt_messages,
)
from reward_fns.netflix import compute_score, load_catalogue
from shape_grpo.candidates import parse_candidates

VIEWERS, FILMS = 60, 30


@pytest.fixture(scope="module")
def known():
    """Sparse ratings of two camps, each with its own favourites; 40% known."""
    rng = np.random.default_rng(0)
    taste = np.where(np.add.outer(np.arange(VIEWERS), np.arange(FILMS)) % 2, 4.6, 1.8)
    stars = np.clip(np.rint(taste + rng.normal(0, 0.5, taste.shape)), 1, 5)
    rated = np.argwhere(rng.random(taste.shape) < 0.4) + 1
    return {(user, film): stars[user - 1, film - 1] for user, film in rated.tolist()}


@pytest.fixture(scope="module")
def folder(known, tmp_path_factory):
    """The ratings in Netflix's format."""
    folder = tmp_path_factory.mktemp("ratings")
    lines = []
    for film in range(1, FILMS + 1):
        own = {user: stars for (user, rated), stars in known.items() if rated == film}
        lines += [f"{film}:", *(f"{user},{stars:g},2005-01-01" for user, stars in own.items())]
    (folder / "combined_data_1.txt").write_text("\n".join(lines) + "\n")
    titles = [f"{film},{1900 + film},Film Number {film}\n" for film in range(1, FILMS + 1)]
    (folder / "movie_titles.csv").write_text("".join(titles), "latin-1")
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return TaskSettings(
        ratings=str(folder),
        candidates=4,
        history=3,
        films=20,
        min_ratings=5,
        viewers=50,
        test_viewers=15,
        prompts_per_viewer=2,
        factors=4,
        epochs=8,
    )


@pytest.fixture(scope="module")
def task(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("task")
    prepare(output, settings)
    return output


@pytest.fixture(scope="module")
def task_without_history(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("plain")
    prepare(output, replace(settings, history=0))
    return output


def rows_of(task, split):
    """As verl reads them."""
    return datasets.load_dataset(
        "parquet", data_files=str(task / f"{split}.parquet"), cache_dir=str(task / "cache")
    )["train"].to_list()


def viewers_of(task, split):
    return [row["reward_model"]["ground_truth"] for row in rows_of(task, split)]


@pytest.mark.parametrize("history", [0, 3])
def test_rows_are_verls(task, task_without_history, history):
    for split in ("train", "test"):
        for index, row in enumerate(rows_of(task if history else task_without_history, split)):
            assert row["data_source"] == "netflix"
            assert row["reward_model"]["style"] == "rule"
            assert row["extra_info"]["split"] == split
            assert row["extra_info"]["index"] == index
            assert len(row["extra_info"]["history"]) == history
            (message,) = row["prompt"]
            assert message["role"] == "user"
            assert "Suggest 4 different films" in message["content"]


def test_no_test_viewer_is_in_training(task, settings):
    train, test = viewers_of(task, "train"), viewers_of(task, "test")
    assert not set(train) & set(test)
    assert len(test) == len(set(test)) == settings.test_viewers
    assert len(train) == 2 * len(set(train)) == 2 * (settings.viewers - settings.test_viewers)


def test_history_is_the_viewers_own_ratings_of_catalogue_films(task, known):
    titles = set(np.load(task / "ratings.npz")["titles"])
    histories = set()
    for row in rows_of(task, "train"):
        shown = row["extra_info"]["history"]
        assert len(set(shown)) == 3 and set(shown) <= titles
        histories.add(tuple(shown))
        lines = re.findall(r"^- (.*): (.*) of 5 stars$", row["prompt"][0]["content"], re.MULTILINE)
        assert [title for title, _ in lines] == shown
        for title, stars in lines:
            film = int(re.fullmatch(r"Film Number (\d+) \(\d{4}\)", title)[1])
            assert known[int(row["reward_model"]["ground_truth"]), film] == float(stars)
    assert len(histories) > 50, "each prompt draws its own"


def test_without_history_the_prompt_tells_nothing_of_the_viewer(task_without_history):
    prompts = {row["prompt"][0]["content"] for row in rows_of(task_without_history, "train")}
    assert len(prompts) == 1
    assert "Film Number" not in prompts.pop()


def test_catalogue_is_the_most_rated_films(task, known, settings):
    table = np.load(task / "ratings.npz")
    counts = [sum(rated == film for _, rated in known) for film in range(1, FILMS + 1)]
    in_catalogue = [counts[film - 1] for film in table["films"]]
    assert in_catalogue == sorted(counts, reverse=True)[: settings.films]
    titles, others = table["titles"].tolist(), str(table["other_titles"]).split("\n")
    assert titles == [f"Film Number {film} ({1900 + film})" for film in table["films"]]
    assert len(set(titles) | set(others)) == len(titles) + len(others) == FILMS


def test_known_ratings_stand_and_predictions_find_the_camps(task, known):
    table = np.load(task / "ratings.npz")
    fans, others = [], []
    for row, viewer in enumerate(table["viewers"].astype(int)):
        for column, film in enumerate(table["films"]):
            stars = table["ratings"][row, column]
            assert 1 <= stars <= 5
            if (viewer, film) in known:
                assert stars == known[viewer, film]
            else:
                (fans if (viewer + film) % 2 else others).append(stars)
    assert np.mean(fans) > np.mean(others) + 1.5


def test_error_is_that_of_the_ratings_held_out(task, known):
    held_out = pd.read_parquet(task / "held_out.parquet")
    summary = json.loads((task / "summary.json").read_text())
    table = np.load(task / "ratings.npz")
    simulated, films = set(table["viewers"].astype(int)), set(table["films"])
    own = [pair for pair in known if pair[0] in simulated and pair[1] in films]
    assert len(held_out) == summary["held_out_ratings"] == round(len(own) / 10)
    squares = []
    for row in held_out.itertuples():
        assert row.rating == known[row.user_id, row.item_id]
        squares.append((row.predicted - row.rating) ** 2)
    plain = math.sqrt(sum(squares) / len(squares))
    assert summary["prediction_rmse"]["factorisation"] == pytest.approx(plain, rel=1e-5)
    assert plain < summary["prediction_rmse"]["means"]


def test_held_out_ratings_are_not_learnt_from(settings, tmp_path, monkeypatch):
    learnt = []
    fit = film_ratings.fit_and_predict

    def spy(model, ratings, *arguments):
        learnt.append(set(zip(ratings["user_id"], ratings["item_id"], strict=True)))
        return fit(model, ratings, *arguments)

    monkeypatch.setattr(film_ratings, "fit_and_predict", spy)
    prepare(tmp_path, replace(settings, fit_viewers=50))
    held_out = pd.read_parquet(tmp_path / "held_out.parquet")
    pairs = set(zip(held_out["user_id"], held_out["item_id"], strict=True))
    assert len(learnt) == 2
    assert all(not pairs & seen for seen in learnt)
    assert all(len({user for user, _ in seen}) <= 50 for seen in learnt)


def test_rewards_come_from_the_files_written(task, known):
    path = str(task / "ratings.npz")
    assert set(load_catalogue(path).rows) == {*viewers_of(task, "train"), *viewers_of(task, "test")}
    for row in rows_of(task, "test"):
        viewer, extra = row["reward_model"]["ground_truth"], row["extra_info"]
        seen = extra["history"][0]
        assert compute_score("netflix", seen, viewer, extra, path, seen_reward=-1) == -1
        film = next(f for (u, f), stars in known.items() if str(u) == viewer and stars > 3)
        title = f"film number {film}"
        seen = [shown.split(" (")[0].casefold() for shown in extra["history"]]
        earns_nothing = title in seen or film not in np.load(path)["films"]
        expected = 0.0 if earns_nothing else known[int(viewer), film]
        assert compute_score("netflix", title, viewer, extra, path) == expected
        assert compute_score("netflix", EXAMPLE, viewer, extra, path, unknown_reward=-1) == -1


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("history", [[], [("Alien (1979)", 4.5), ("Brazil (1985)", 1.0)]])
def test_prompt_spells_out_k_and_shows_the_format(k, history):
    (message,) = prompt_messages(history, k, 2005)
    text = message["content"]
    assert (f"Suggest {k} different films" if k > 1 else "Suggest 1 film,") in text
    assert f"exactly {k} such candidate{'s' if k > 1 else ''}." in text
    assert "2005 or earlier" in text
    (example,) = parse_candidates(text)
    assert example.closed and example.text == EXAMPLE
    for film, stars in history:
        assert f"- {film}: {stars:g} of 5 stars\n" in text
    assert ("has not rated yet" in text) == bool(history)


def test_prompt_without_known_years_names_none():
    assert "earlier" not in prompt_messages([], 3)[0]["content"]


def test_reuse(task, settings, capsys):
    before = {name: (task / name).stat().st_mtime_ns for name in FILES}
    prepare(task, settings)
    assert "reusing" in capsys.readouterr().out
    assert before == {name: (task / name).stat().st_mtime_ns for name in FILES}


def test_error_is_printed(settings, tmp_path, capsys):
    prepare(tmp_path, settings)
    rmse = json.loads((tmp_path / "summary.json").read_text())["prediction_rmse"]["factorisation"]
    assert f"held out: {rmse:.3f} stars" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratings", "EMPTY"], r"no ratings in .*combined_data_\*.txt and movie_titles.csv"),
        (["--ratings", "FOLDER", "--history", "20"], "history is 20: .* less than min_ratings"),
        (["--ratings", "FOLDER", "--history", "-1"], "history is -1: use 0 or more"),
        (["--ratings", "FOLDER", "--candidates", "0"], "candidates is 0: use 1 or more"),
        (["--ratings", "FOLDER", "--min_ratings", "5", "--test_viewers", "60"], "too few for"),
        (["--ratings", "FOLDER", "--min_ratings", "40"], "only 0 viewers rated 40 or more"),
    ],
)
def test_errors_are_one_line(arguments, message, folder, tmp_path):
    places = {"EMPTY": str(tmp_path), "FOLDER": str(folder)}
    arguments = [places.get(argument, argument) for argument in arguments]
    with pytest.raises(SystemExit, match=f"tasks netflix: .*{message}"):
        main(["netflix", *arguments, "--output", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["netflix", "netflix_history"])
def test_configs_fit_the_files(name):
    config = compose_config([f"+task={name}"])
    kwargs = config.reward.custom_reward_function.reward_kwargs
    assert config.data.train_files == f"outputs/{name}-k5/train.parquet"
    assert config.data.val_files == f"outputs/{name}-k5/test.parquet"
    assert kwargs.ratings == f"outputs/{name}-k5/ratings.npz"
    accepted = compute_score.__code__.co_varnames[: compute_score.__code__.co_argcount]
    assert set(kwargs) <= set(accepted), "a misspelt one would be swallowed by **kwargs"
    assert config.algorithm.shape_grpo.max_candidates == TaskSettings().candidates
