"""Prediction of missing ratings from known ones (lenskit), and what sets of films would earn."""

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.console import Console
from rich.progress import track

from reward_fns.films import viewers_of

HELD_OUT = 0.1  # share of the ratings that predictions are tested on


def models(factors: int, epochs: int) -> dict[str, Any]:
    """Return the predictors: "factorisation", a biased matrix factorisation by alternating least
    squares, and "means", those of viewers and films alone, to compare it with.
    """
    from lenskit.als import BiasedMFScorer
    from lenskit.basic import BiasScorer

    return {
        "factorisation": BiasedMFScorer(embedding_size=factors, epochs=epochs),
        "means": BiasScorer(damping=5),
    }


def fit_and_predict(
    model: Any, known: pd.DataFrame, viewers: list[Any], films: list[Any], seed: int
) -> np.ndarray:
    """Fit `model` to `known` (columns user_id, item_id, rating) and predict a table with it.

    Returns:
        (viewers, films) stars, within the range of the known ones; their mean for viewers and films
        that `known` does not have.
    """
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.training import TrainingOptions

    # lenskit 2025.2 does not know the strings of pandas 3.
    text = {name: object for name in ("user_id", "item_id") if not is_numeric_dtype(known[name])}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # torch's, about itself
        model.train(from_interactions_df(known.astype(text)), TrainingOptions(rng=seed))
    items = ItemList(item_ids=films)
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    rows = track(viewers, "predicting ratings", transient=True, console=console)
    scores = np.stack([model(query=RecQuery(user_id=row), items=items).scores() for row in rows])
    stars = known["rating"]
    return np.nan_to_num(scores, nan=stars.mean()).clip(stars.min(), stars.max())


def rate_everything(
    ratings: pd.DataFrame,
    viewers: list[Any],
    films: list[Any],
    factors: int,
    epochs: int,
    seed: int,
) -> tuple[np.ndarray, pd.DataFrame, dict[str, float]]:
    """Return the stars of every viewer for every film: the known ones, else predictions.

    The predictions come from a factorisation of all ratings but a tenth of those in the table, on
    which they are tested.

    Args:
        ratings: Columns user_id, item_id and rating, one row per viewer and film.
        viewers: Viewers of the table; others' ratings are learnt from.
        films: Films of the table; ratings of others are learnt from.
        factors: Width of the factorisation.
        epochs: Number of its passes over the ratings.
        seed: Seed of the choice of ratings held out, and of the factorisation.

    Returns:
        (viewers, films) float32; the ratings held out, with a column `predicted`; root mean square
        errors on them, of the factorisation and of viewer and film means alone.
    """
    rows, columns = pd.Index(viewers), pd.Index(films)

    def cells(some: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return rows.get_indexer(some["user_id"]), columns.get_indexer(some["item_id"])

    own = ratings[ratings["user_id"].isin(viewers) & ratings["item_id"].isin(films)]
    held_out = own.sample(frac=HELD_OUT, random_state=seed)
    rest = ratings.drop(held_out.index)
    predicted, errors = {}, {}
    for name, model in models(factors, epochs).items():
        predicted[name] = fit_and_predict(model, rest, viewers, films, seed)
        differences = predicted[name][cells(held_out)] - held_out["rating"].to_numpy()
        errors[name] = float(np.sqrt((differences**2).mean()))

    table = predicted["factorisation"].astype(np.float32)
    held_out = held_out.assign(predicted=table[cells(held_out)])
    table[cells(own)] = own["rating"]
    return table, held_out, errors


def best_of_set_levels(
    ratings: np.ndarray,
    titles: list[str],
    rows: list[dict[str, Any]],
    viewers: list[str],
    candidates: int,
) -> dict[str, float]:
    """Compute what the best film of a set earns over prompts: of a set drawn at random, of one set
    fixed for all prompts, and of the ideal set.

    Where prompts are about groups, it is the mean over their viewers of what each one's best film
    earns; the ideal set of fewer films than viewers may earn less than is returned.

    Args:
        ratings: (viewers, films) stars.
        titles: Titles of the films.
        rows: Prompts in verl's columns; a film of a prompt's history earns nothing.
        viewers: Ids of the viewers.
        candidates: Number of films in a set.
    """
    row_of = {viewer: row for row, viewer in enumerate(viewers)}
    viewer_rows = [
        (viewer, row) for row in rows for viewer in viewers_of(row["reward_model"]["ground_truth"])
    ]
    scores = ratings[[row_of[viewer] for viewer, _ in viewer_rows]].copy()
    for score, (_, row) in zip(scores, viewer_rows, strict=True):
        score[np.isin(titles, row["extra_info"]["history"])] = 0.0
    # The mean maximum over all sets: of the ascending scores, the j-th (from 0) is the best of
    # C(j, candidates - 1) sets.
    sets = np.array([math.comb(j, candidates - 1) for j in range(len(titles))], dtype=float)
    fixed = np.zeros(len(scores), dtype=scores.dtype)
    for _ in range(candidates):  # greedy
        gains = np.maximum(fixed[:, None], scores)
        fixed = gains[:, gains.mean(0).argmax()]
    return {
        "random": float((np.sort(scores) @ sets).mean() / sets.sum()),
        "fixed": float(fixed.mean()),
        "ideal": float(scores.max(1).mean()),
    }


def read_titles(folder: Path) -> list[str]:
    """Return the films that can be suggested, from the `ratings.npz` of a prepared task."""
    with np.load(folder / "ratings.npz") as table:
        return table["titles"].tolist()


def write_summary(
    output: Path,
    errors: dict[str, float],
    held_out: pd.DataFrame,
    levels: dict[str, float],
    candidates: int,
) -> None:
    """Write `summary.json` and print it: the predictions' errors, and what sets would earn."""
    summary = {
        "prediction_rmse": errors,
        "held_out_ratings": len(held_out),
        "test_levels": levels,
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(
        f"  predicted ratings, RMSE on {len(held_out)} ratings held out: "
        f"{errors['factorisation']:.3f} stars (means alone: {errors['means']:.3f})\n"
        f"  best of {candidates} suggestions, test viewers: "
        + ", ".join(f"{name} {stars:.2f}" for name, stars in levels.items())
    )
