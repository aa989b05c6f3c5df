import itertools
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import datasets
import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.tasks import movielens
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.film_data import download_movielens
from recipe.shape_grpo.tasks.movielens import (
    FILES,
    LIKED,
    TaskSettings,
    draw_example,
    prepare,
    read_ratings,
    tidy_title,
)
from shape_grpo.candidates import parse_candidates

VIEWERS, FILMS = 60, 30
TITLES = [
    *("The Usual Suspects", "M*A*S*H", "Shall We Dance?", "12 Angry Men", "Amélie", "七人の侍"),
    *("Apollo 13", "Toy Story", "The Net", "2001: A Space Odyssey", "Fargo", "Heat"),
]


@pytest.mark.parametrize(
    ("published", "tidy"),
    [
        ("Toy Story (1995)", "Toy Story"),
        ("Toy Story", "Toy Story"),
        ("Usual Suspects, The (1995)", "The Usual Suspects"),
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Butcher Boy, The (Le boucher) (1997)", "The Butcher Boy"),
        ("Seven (a.k.a. Se7en) (1995)", "Seven"),
        ("Bug's Life, A (1998)", "A Bug's Life"),
        ("Sex, Lies, and Videotape (1989)", "Sex, Lies, and Videotape"),
        ("(500) Days of Summer (2009)", "(500) Days of Summer"),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey"),
        ("  Ice  Storm, The ", "The Ice Storm"),
    ],
)
def test_tidy_title(published, tidy):
    assert tidy_title(published) == tidy


@pytest.fixture(scope="module")
def ratings():
    """Sparse ratings of two camps, each with its own favourites; 40% known."""
    rng = np.random.default_rng(0)
    taste = np.where(np.add.outer(np.arange(VIEWERS), np.arange(FILMS)) % 2, 4.6, 1.8)
    stars = np.clip(np.rint(taste + rng.normal(0, 0.5, taste.shape)), 1, 5)
    known = np.argwhere(rng.random(taste.shape) < 0.4)
    return pd.DataFrame(
        {"user": known[:, 0] + 1, "film": known[:, 1] + 1, "stars": stars[tuple(known.T)]}
    )


@pytest.fixture(scope="module")
def folder(ratings, tmp_path_factory):
    """The ratings in the layout of ml-latest-small."""
    folder = tmp_path_factory.mktemp("ratings")
    ratings.assign(time=0).to_csv(folder / "ratings.csv", index=False)
    titles = [f"Film {n}, The (19{n + 10})" for n in range(1, FILMS + 1)]
    films = pd.DataFrame({"movieId": range(1, FILMS + 1), "title": titles, "genres": "Drama"})
    films.to_csv(folder / "movies.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return TaskSettings(
        ratings=str(folder), films=20, min_ratings=5, test_viewers=15, factors=4, epochs=8
    )


@pytest.fixture(scope="module")
def task(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("task")
    prepare(output, settings)
    return output


def test_three_layouts_of_the_same_ratings(ratings, folder, tmp_path):
    published, recbole = tmp_path / "ml-100k", tmp_path / "recbole"
    published.mkdir()
    recbole.mkdir()
    shuffled = ratings.sample(frac=1, random_state=1).assign(time=1)
    shuffled.to_csv(published / "u.data", sep="\t", header=False, index=False)
    lines = [f"{n}|Film {n}, The (19{n + 10})|01-Jan-1995||http://x\n" for n in range(1, FILMS + 1)]
    (published / "u.item").write_text("".join(lines), encoding="latin-1")
    shuffled.to_csv(recbole / "ml-100k.inter", sep="\t", index=False)
    rows = "".join(f"{n}\tFilm {n}, The\t1995\tDrama\n" for n in range(1, FILMS + 1))
    (recbole / "ml-100k.item").write_text("item_id:token\tmovie_title\tyear\tclass\n" + rows)

    expected = read_ratings(folder)
    assert len(expected) == len(ratings)
    assert set(expected["item_id"]) <= {f"The Film {n}" for n in range(1, FILMS + 1)}
    for other in (published, recbole):
        pd.testing.assert_frame_equal(read_ratings(other), expected)


def test_films_of_one_title_count_as_one(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,2,0\n1,2,4,0\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1986),x\n2,Heat (1995),x\n")
    assert read_ratings(tmp_path).to_numpy().tolist() == [["1", "Heat", 3.0]]


def test_rows_are_verls(task, settings):
    for split in ("train", "test"):
        rows = datasets.load_dataset(
            "parquet", data_files=str(task / f"{split}.parquet"), cache_dir=str(task / "cache")
        )["train"]
        for index, row in enumerate(rows):
            assert set(row) == {
                "data_source",
                "prompt",
                "ability",
                "reward_model",
                "extra_info",
            }
            assert row["reward_model"]["style"] == "rule"
            assert row["extra_info"]["index"] == index
            (message,) = row["prompt"]
            assert message["role"] == "user"
            assert f"Suggest {settings.candidates} " in message["content"]
            assert all(title in message["content"] for title in row["extra_info"]["history"])


def test_viewers_of_train_and_test_are_disjoint(task, settings):
    viewers = {
        split: [
            row["ground_truth"]
            for row in pd.read_parquet(task / f"{split}.parquet")["reward_model"]
        ]
        for split in ("train", "test")
    }
    assert not set(viewers["train"]) & set(viewers["test"])
    assert len(viewers["test"]) == len(set(viewers["test"])) == settings.test_viewers
    assert len(viewers["train"]) == (VIEWERS - settings.test_viewers) * settings.prompts_per_viewer


def test_histories_are_liked_films_of_the_catalogue(task, folder, settings):
    known = read_ratings(folder).set_index(["user_id", "item_id"])["rating"]
    titles = set(np.load(task / "ratings.npz")["titles"])
    lengths = set()
    for row in pd.read_parquet(task / "train.parquet").itertuples():
        history = list(row.extra_info["history"])
        lengths.add(len(history))
        assert len(set(history)) == len(history) <= settings.history
        assert set(history) <= titles
        assert all(known[row.reward_model["ground_truth"], title] >= LIKED for title in history)
    assert max(lengths) == settings.history


def test_catalogue_holds_films_with_enough_ratings(task, folder, settings):
    counts = read_ratings(folder)["item_id"].value_counts()
    titles = np.load(task / "ratings.npz")["titles"]
    assert len(set(titles)) == settings.films
    assert counts[titles].min() >= settings.min_ratings


def test_known_ratings_stand_and_predictions_find_the_camps(task, folder):
    table = np.load(task / "ratings.npz")
    stars = pd.DataFrame(table["ratings"], index=table["viewers"], columns=table["titles"])
    known = read_ratings(folder).set_index(["user_id", "item_id"])["rating"]
    assert stars.to_numpy().min() >= 1
    assert stars.to_numpy().max() <= 5
    fans, others = [], []
    for viewer, title in itertools.product(stars.index, stars.columns):
        if (viewer, title) in known.index:
            assert stars.loc[viewer, title] == known[viewer, title]
        else:
            film = int(title.removeprefix("The Film "))
            (fans if (int(viewer) + film) % 2 else others).append(stars.loc[viewer, title])
    assert np.mean(fans) > np.mean(others) + 1.5
    errors = json.loads((task / "summary.json").read_text())["prediction_rmse"]
    assert errors["factorisation"] < errors["means"]


def test_reuse(task, settings, capsys):
    before = {name: (task / name).stat().st_mtime_ns for name in FILES}
    prepare(task, settings)
    assert "reusing" in capsys.readouterr().out
    assert before == {name: (task / name).stat().st_mtime_ns for name in FILES}


def test_other_settings_or_an_interrupted_run_are_not_reused(settings, tmp_path, monkeypatch):
    prepare(tmp_path, settings)
    other = replace(settings, candidates=5)
    monkeypatch.setattr(movielens, "rate_everything", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(tmp_path, other)
    monkeypatch.undo()
    prepare(tmp_path, other)
    (message,) = pd.read_parquet(tmp_path / "test.parquet")["prompt"][0]
    assert "Suggest 5 " in message["content"]


def test_data_are_taken_out_of_the_wheel_once(tmp_path, monkeypatch):
    commands = []

    def fake_pip(command, **_):
        commands.append(command)
        download = Path(command[command.index("--dest") + 1])
        with ZipFile(download / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
            for name in ("ml-100k.inter", "ml-100k.item", "ml-100k.kg"):
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", name)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake_pip)
    for _ in range(2):
        download_movielens(tmp_path / "raw")
    assert len(commands) == 1
    assert {"download", "--no-deps", "recbole==1.2.1"} <= set(commands[0])
    files = sorted(path.name for path in (tmp_path / "raw").iterdir())
    assert files == ["ml-100k.inter", "ml-100k.item"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratings", "EMPTY"], "no ratings in .*: expected .*u.data and u.item"),
        (
            ["--ratings", "FOLDER", "--films", "31"],
            "films of 20 ratings or more and 60 viewers, too few for",
        ),
        (["--ratings", "FOLDER", "--films", "20", "--test_viewers", "60"], "too few for"),
        (["--candidates", "0"], "candidates is 0: use 1 or more"),
    ],
)
def test_errors_are_one_line(arguments, message, folder, tmp_path):
    places = {"EMPTY": str(tmp_path), "FOLDER": str(folder)}
    arguments = [places.get(argument, argument) for argument in arguments]
    with pytest.raises(SystemExit, match=f"tasks movielens: .*{message}"):
        main(["movielens", *arguments, "--output", str(tmp_path / "out")])


def test_failed_download_says_what_else_to_do(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "python3: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match=r"No module named pip.*--ratings"):
        main(["movielens", "--output", str(tmp_path)])


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_example(TITLES, 3, 3, rng) for _ in range(count)]


def test_examples_name_different_films_in_the_format_of_the_parser():
    lengths = set()
    for messages, answer in draw(200):
        suggested = [candidate.text for candidate in parse_candidates(answer)]
        shown = [title for title in TITLES if title in messages[0]["content"]]
        lengths.add(len(shown))
        assert len(set(suggested)) == len(suggested) == 3
        assert set(suggested) <= set(TITLES)
        assert not set(suggested) & set(shown)
    assert lengths == {0, 1, 2, 3}


def test_examples_carry_no_taste():
    answers = [answer for _, answer in draw(2000)]
    counts = [sum(title in answer for answer in answers) for title in TITLES]
    assert max(counts) - min(counts) < 6 * np.sqrt(500)
