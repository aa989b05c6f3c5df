"""Predicted ratings, and what sets of films earn, against plain loops."""

import itertools

import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.tasks import film_ratings
from recipe.shape_grpo.tasks.film_ratings import best_of_set_levels, rate_everything

VIEWERS, FILMS = 40, 20


@pytest.fixture(scope="module")
def ratings():
    """40% of the ratings of two camps."""
    rng = np.random.default_rng(0)
    rows = [
        (f"v{v}", f"f{f}", 4.5 if (v + f) % 2 else 2.0)
        for v, f in itertools.product(range(VIEWERS), range(FILMS))
        if rng.random() < 0.4
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])


def test_films_and_viewers_outside_the_table_are_learnt_from_and_not_tested(ratings, monkeypatch):
    learnt = []
    fit = film_ratings.fit_and_predict

    def spy(model, known, *arguments):
        learnt.append(set(zip(known["user_id"], known["item_id"], strict=True)))
        return fit(model, known, *arguments)

    monkeypatch.setattr(film_ratings, "fit_and_predict", spy)
    viewers, films = [f"v{v}" for v in range(30)], [f"f{f}" for f in range(15)]
    table, held_out, errors = rate_everything(ratings, viewers, films, 4, 8, 0)
    stars = {(user, film): rating for user, film, rating in ratings.to_numpy()}
    inside = {pair for pair in stars if pair[0] in viewers and pair[1] in films}
    tested = set(zip(held_out["user_id"], held_out["item_id"], strict=True))
    assert tested < inside and len(tested) == round(len(inside) / 10)
    assert learnt == [stars.keys() - tested] * 2

    assert table.shape == (30, 15)
    for row, column in itertools.product(range(30), range(15)):
        if (pair := (viewers[row], films[column])) in stars:
            assert table[row, column] == stars[pair]
    squares = [(row.predicted - row.rating) ** 2 for row in held_out.itertuples()]
    assert errors["factorisation"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)


def test_levels_against_every_set():
    rng = np.random.default_rng(0)
    titles = [f"film {n}" for n in range(7)]
    ratings = rng.integers(1, 11, (4, 7)) / 2
    rows = [
        {"reward_model": {"ground_truth": str(n)}, "extra_info": {"history": titles[n : n + 2]}}
        for n in (2, 0, 3)
    ]
    levels = best_of_set_levels(ratings, titles, rows, ["0", "1", "2", "3"], 3)
    per_set = [
        [max(0 if n <= film <= n + 1 else ratings[n, film] for film in chosen) for n in (2, 0, 3)]
        for chosen in itertools.combinations(range(7), 3)
    ]
    assert levels["random"] == pytest.approx(np.mean(per_set))
    assert levels["ideal"] == pytest.approx(np.max(per_set, axis=0).mean())
    best_fixed = np.mean(per_set, axis=1).max()
    assert best_fixed * (1 - 1 / np.e) <= levels["fixed"] <= best_fixed  # greedy's guarantee
