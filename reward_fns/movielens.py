"""Reward of one suggested film: the rating a simulated MovieLens viewer would give it.

Written as every verl reward function is, and called once per candidate. Point verl at it with

    reward.custom_reward_function.path=reward_fns/movielens.py
    +reward.custom_reward_function.reward_kwargs.ratings=outputs/movielens-k3/ratings.npz

`python -m recipe.shape_grpo.tasks movielens` writes the rating table and the prompts.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class RatingTable(NamedTuple):
    """What every viewer thinks of every film.

    Attributes:
        ratings: (viewers, films) float array in stars, 0.5 to 5; known where the viewer rated
            the film, predicted elsewhere.
        viewers: viewer id -> row of `ratings`.
        films: normalised title -> column of `ratings`.
    """

    ratings: np.ndarray
    viewers: dict[str, int]
    films: dict[str, int]


def normalise_title(title: str) -> str:
    """Title as compared: case, white space and a trailing "(1995)" do not matter."""
    title = unicodedata.normalize("NFKC", title).casefold()
    title = re.sub(r"\(\d{4}\)\s*$", "", title)
    return " ".join(title.split())


@lru_cache(maxsize=4)
def load_ratings(path: str) -> RatingTable:
    """Read a rating table, once per process.

    Raises:
        FileNotFoundError: there is no such file; says which command writes it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no rating table at {path!r}: write it with "
            "`python -m recipe.shape_grpo.tasks movielens`"
        )
    with np.load(path) as table:
        return RatingTable(
            ratings=table["ratings"],
            viewers={viewer: row for row, viewer in enumerate(table["viewers"].tolist())},
            films={normalise_title(t): column for column, t in enumerate(table["titles"].tolist())},
        )


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    ratings: str | None = None,
    **kwargs: Any,
) -> float:
    """Stars the viewer gives one title: 0.5 to 5, or 0 for a title that helps nobody.

    Args:
        data_source: not used; verl passes it.
        solution_str: one candidate, a film title.
        ground_truth: the viewer's id.
        extra_info: the row's extra information; its "history" lists the titles the prompt named.
        ratings: path of the rating table.
        **kwargs: not used; verl may pass more.

    Returns:
        The viewer's rating of the title, known or predicted; 0.0 if the catalogue has no such
        title or the prompt itself named it.

    Raises:
        ValueError: no `ratings` was given, or the table does not know the viewer.
        FileNotFoundError: `ratings` does not exist.
    """
    if ratings is None:
        raise ValueError(
            "no rating table given: add "
            "+reward.custom_reward_function.reward_kwargs.ratings=PATH/ratings.npz"
        )
    table = load_ratings(str(ratings))
    row = table.viewers.get(str(ground_truth))
    if row is None:
        raise ValueError(
            f"viewer {ground_truth!r} is not in {ratings}: prompts and rating table come from "
            "different runs of `tasks movielens`; give both from one folder"
        )
    title = normalise_title(solution_str)
    column = table.films.get(title)
    history = (extra_info or {}).get("history")
    if column is None or (
        history is not None and title in {normalise_title(seen) for seen in history}
    ):
        return 0.0
    return float(table.ratings[row, column])
