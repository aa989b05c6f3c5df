"""The tasks `movielens` and `netflix`: their films, viewers, prompts and predictions."""

import json
import re
from collections import Counter
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks import films, load_task, movielens, netflix
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.film_data import load_films
from reward_fns.films import compute_score, load_catalogue
from shape_grpo.candidates import parse_candidates

VIEWERS, FILMS = 60, 30
TASKS = {
    "movielens": ("movielens", 3),
    "movielens_no_history": ("movielens", 0),
    "netflix": ("netflix", 0),
    "netflix_history": ("netflix", 3),
}


@pytest.fixture(scope="module")
def known():
    """Sparse ratings of two camps, each with its own favourites; 40% known."""
    rng = np.random.default_rng(0)
    taste = np.where(np.add.outer(np.arange(VIEWERS), np.arange(FILMS)) % 2, 4.6, 1.8)
    stars = np.clip(np.rint(taste + rng.normal(0, 0.5, taste.shape)), 1, 5)
    rated = np.argwhere(rng.random(taste.shape) < 0.4) + 1
    return {(user, film): stars[user - 1, film - 1] for user, film in rated.tolist()}


@pytest.fixture(scope="module")
def raw(known, tmp_path_factory):
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


@pytest.fixture(scope="module", params=TASKS)
def dataset(request):
    return request.param


@pytest.fixture(scope="module")
def settings(dataset, raw):
    name, history = TASKS[dataset]
    sizes = {"films": 20, "min_ratings": 5, "test_viewers": 15, "factors": 4, "epochs": 8}
    sizes |= {"candidates": 4, "prompts_per_viewer": 2, "history": history, "ratings": str(raw)}
    sizes |= {"viewers": 50} if name == "netflix" else {}
    return load_task(name).TaskSettings(**sizes)


@pytest.fixture(scope="module")
def task(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    load_task(settings.task).prepare(folder, settings)
    return folder


@pytest.fixture(scope="module")
def table(task):
    return np.load(task / "ratings.npz")


def rows_of(task, split):
    """As verl reads them."""
    return datasets.load_dataset(
        "parquet", data_files=str(task / f"{split}.parquet"), cache_dir=str(task / "cache")
    )["train"].to_list()


def viewers_of(task, split):
    return [row["reward_model"]["ground_truth"] for row in rows_of(task, split)]


def film_number(title):
    return int(re.fullmatch(r"Film Number (\d+)( \(\d{4}\))?", title)[1])


def test_rows_ask_for_k_films_and_name_the_history(task, settings):
    for split in ("train", "test"):
        for row in rows_of(task, split):
            assert row["reward_model"]["style"] == "rule"
            (message,) = row["prompt"]
            assert message["role"] == "user"
            assert "Suggest 4 " in message["content"]
            named = re.findall(r"Film Number \d+", message["content"])
            assert named == [title.split(" (")[0] for title in row["extra_info"]["history"]]
            assert len(set(named)) == len(named) <= settings.history


def test_no_test_viewer_is_in_training(task, settings):
    train, test = viewers_of(task, "train"), viewers_of(task, "test")
    viewers = 50 if settings.task == "netflix" else VIEWERS
    assert not set(train) & set(test)
    assert len(test) == len(set(test)) == settings.test_viewers
    assert len(train) == 2 * len(set(train)) == 2 * (viewers - settings.test_viewers)


def test_history_is_the_viewers_own_ratings_of_catalogue_films(task, known, settings, table):
    histories, lengths = set(), set()
    for row in rows_of(task, "train"):
        viewer, shown = int(row["reward_model"]["ground_truth"]), row["extra_info"]["history"]
        assert set(shown) <= set(table["titles"])
        stars = [known[viewer, film_number(title)] for title in shown]
        assert all(rating >= settings.least_stars for rating in stars)
        if settings.task == "netflix":
            lines = re.findall(r"^- (.*): (.*) of 5 stars$", row["prompt"][0]["content"], re.M)
            assert lines == [(t, f"{s:g}") for t, s in zip(shown, stars, strict=True)]
        histories.add(tuple(shown))
        lengths.add(len(shown))
    if settings.history:
        assert max(lengths) == 3 and (settings.task == "movielens" or lengths == {3})
        assert len(histories) > 50, "each prompt draws its own"
    else:
        assert histories == {()}
        assert len({row["prompt"][0]["content"] for row in rows_of(task, "train")}) == 1


def test_catalogue_is_of_films_with_enough_ratings(known, settings, table):
    counts = Counter(film for _, film in known)
    titles, others = table["titles"].tolist(), str(table["other_titles"]).split("\n")
    of_titles = [counts[film_number(title)] for title in titles]
    assert len(titles) == settings.films
    assert len(set(titles) | set(others)) == len(titles) + len(others) == FILMS
    if settings.task == "netflix":
        assert of_titles == sorted(counts.values(), reverse=True)[: settings.films]
        assert titles == [f"Film Number {n} ({1900 + n})" for n in map(film_number, titles)]
    else:
        assert min(of_titles) >= settings.min_ratings
        assert titles == [f"Film Number {n}" for n in map(film_number, titles)]


def test_known_ratings_stand_and_predictions_find_the_camps(table, known):
    fans, others = [], []
    for row, viewer in enumerate(table["viewers"].astype(int)):
        for column, title in enumerate(table["titles"]):
            film, stars = film_number(title), table["ratings"][row, column]
            assert 1 <= stars <= 5
            if (viewer, film) in known:
                assert stars == known[viewer, film]
            else:
                (fans if (viewer + film) % 2 else others).append(stars)
    assert np.mean(fans) > np.mean(others) + 1.5


def test_error_is_that_of_the_ratings_held_out(task, known, table):
    held_out = pd.read_parquet(task / "held_out.parquet")
    summary = json.loads((task / "summary.json").read_text())
    viewers, numbers = set(table["viewers"].astype(int)), set(map(film_number, table["titles"]))
    own = [pair for pair in known if pair[0] in viewers and pair[1] in numbers]
    assert len(held_out) == summary["held_out_ratings"] == round(len(own) / 10)
    for row in held_out.itertuples():
        film = row.item_id if isinstance(row.item_id, int) else film_number(row.item_id)
        assert row.rating == known[int(row.user_id), film]
    plain = np.sqrt(((held_out["predicted"] - held_out["rating"]) ** 2).mean())
    assert summary["prediction_rmse"]["factorisation"] == pytest.approx(plain, rel=1e-5)
    assert plain < summary["prediction_rmse"]["means"]


def test_rewards_come_from_the_files_written(task, known, table):
    path = str(task / "ratings.npz")
    assert {*viewers_of(task, "train"), *viewers_of(task, "test")} == set(load_catalogue(path).rows)
    numbers = list(map(film_number, table["titles"]))
    for row in rows_of(task, "test"):
        viewer, extra = row["reward_model"]["ground_truth"], row["extra_info"]

        def score(title, viewer=viewer, extra=extra, **keywords):
            return compute_score("films", title, viewer, extra, path, **keywords)["score"]

        seen = [film_number(title) for title in extra["history"]]
        assert all(score(title, seen_reward=-1) == -1 for title in extra["history"])
        film = next(f for (u, f), stars in known.items() if str(u) == viewer and stars > 3)
        earns_nothing = film in seen or film not in numbers
        assert score(f"film number {film}") == (0 if earns_nothing else known[int(viewer), film])
        assert score(netflix.EXAMPLE, unknown_reward=-1) == -1


def test_an_interrupted_task_is_not_used_again(settings, tmp_path, monkeypatch, capsys):
    module, other = load_task(settings.task), replace(settings, candidates=5)
    module.prepare(tmp_path, settings)
    rmse = json.loads((tmp_path / "summary.json").read_text())["prediction_rmse"]["factorisation"]
    assert f"held out: {rmse:.3f} stars" in capsys.readouterr().out
    monkeypatch.setattr(films, "rate_everything", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.prepare(tmp_path, other)
    monkeypatch.undo()
    module.prepare(tmp_path, other)
    assert "Suggest 5 " in rows_of(tmp_path, "test")[0]["prompt"][0]["content"]


def test_config_fits_the_files(dataset, settings):
    config = compose_config([f"+task={dataset}"])
    candidates = type(settings)().candidates
    folder = f"outputs/{dataset}-k{candidates}"
    assert config.data.train_files == f"{folder}/train.parquet"
    assert config.data.val_files == f"{folder}/test.parquet"
    assert config.reward.custom_reward_function.reward_kwargs.ratings == f"{folder}/ratings.npz"
    assert config.algorithm.shape_grpo.max_candidates == candidates


def test_films_of_one_title_count_as_one_in_movielens(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,2,0\n1,2,4,0\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1986),x\n2,Heat (1995),x\n")
    ratings = movielens.read_ratings(load_films(tmp_path))
    assert ratings.to_numpy().tolist() == [["1", "Heat", 3.0]]


def test_netflix_learns_from_so_many_viewers_the_simulated_ones_first(raw):
    settings = netflix.TaskSettings(min_ratings=5, viewers=30, fit_viewers=40, test_viewers=5)
    chosen = netflix.select(load_films(raw), settings, np.random.default_rng(0))
    assert len(chosen.viewers) == 30
    learnt = set(chosen.ratings["user_id"])
    assert len(learnt) == 40 and set(chosen.viewers) < learnt


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("movielens", ["--ratings", "EMPTY"], "no ratings in .*: expected .*u.data and u.item"),
        (
            "movielens",
            ["--ratings", "RAW", "--films", "31"],
            "films of 20 ratings or more and 60 viewers, too few for",
        ),
        (
            "movielens",
            ["--ratings", "RAW", "--films", "20", "--test_viewers", "60"],
            "too few for",
        ),
        ("movielens", ["--candidates", "0"], "candidates is 0: use 1 or more"),
        ("netflix", ["--ratings", "EMPTY"], r"no ratings in .*_data_\*.txt and movie_titles.csv"),
        ("netflix", ["--history", "20"], "history is 20: .* less than min_ratings"),
        ("netflix", ["--history", "-1"], "history is -1: use 0 or more"),
        ("netflix", ["--viewers", "0"], "viewers is 0: use 1 or more"),
        (
            "netflix",
            ["--ratings", "RAW", "--min_ratings", "5", "--test_viewers", "60"],
            "too few for",
        ),
        (
            "netflix",
            ["--ratings", "RAW", "--min_ratings", "40"],
            "only 0 viewers rated 40 or more",
        ),
    ],
)
def test_errors_are_one_line(name, arguments, message, raw, tmp_path):
    places = {"EMPTY": str(tmp_path), "RAW": str(raw)}
    arguments = [places.get(argument, argument) for argument in arguments]
    with pytest.raises(SystemExit, match=f"tasks {name}: .*{message}"):
        main([name, *arguments, "--output", str(tmp_path / "out")])


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("history", [[], [("Alien (1979)", 4.5), ("Brazil (1985)", 1.0)]])
def test_netflix_prompt_spells_out_k_and_shows_the_format(k, history):
    (message,) = netflix.prompt_messages(history, k, 2005)
    text = message["content"]
    assert (f"Suggest {k} different films" if k > 1 else "Suggest 1 film,") in text
    assert f"exactly {k} such candidate{'s' if k > 1 else ''}." in text
    assert "2005 or earlier" in text
    (example,) = parse_candidates(text)
    assert example.closed and example.text == netflix.EXAMPLE
    for film, stars in history:
        assert f"- {film}: {stars:g} of 5 stars\n" in text
    assert ("has not rated yet" in text) == bool(history)
    assert "earlier" not in netflix.prompt_messages(history, k)[0]["content"]


def test_movielens_examples_suggest_other_films_than_they_name_and_carry_no_taste():
    titles, rng = [f"Film {letter}" for letter in "abcdefghijkl"], np.random.default_rng(0)
    lengths, counts = set(), Counter()
    for _ in range(2000):
        messages, answer = movielens.draw_example(titles, 3, 3, rng)
        suggested = [candidate.text for candidate in parse_candidates(answer)]
        shown = [title for title in titles if title in messages[0]["content"]]
        assert len(set(suggested)) == len(suggested) == 3
        assert set(suggested) <= set(titles) - set(shown)
        lengths.add(len(shown))
        counts.update(suggested)
    assert lengths == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) < 6 * np.sqrt(500)
