"""Reward of one suggested film: the rating that a simulated viewer would give it, or the ratings of
each viewer of a group.

A reward function of verl, called once per candidate, for the tasks `movielens` and `netflix`. Point
verl at it with

    reward.custom_reward_function.path=reward_fns/films.py
    +reward.custom_reward_function.reward_kwargs.ratings=outputs/netflix-k5/ratings.npz

`python -m recipe.shape_grpo.tasks netflix` or `... movielens` writes the rating table and the
prompts. A title is recognised as people write it (`reward_fns/titles.py`): with or without year,
article, accents or punctuation, with an article in front or behind a comma, with 2 or II, with a
small typo. A sequel, a remake of another year or half a title is not the film. With `exact`, only
the table's own spelling counts.

A film's number in the rating table is its `identity`: a response that names it twice, in whatever
spelling, repeats a candidate (`algorithm.shape_grpo.duplicate`).
"""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from reward_fns.titles import (
    APOSTROPHES,
    article_first,
    spelling,
    split_title,
    title_key,
    without_year,
)

LONGEST = 300  # letters; no title is longer
BARE_YEAR = re.compile(rf"(.*[\w{APOSTROPHES}])\W+((?:18|19|20)\d\d)\W*$")


class Entry(NamedTuple):
    """One film under one of its names; `column` is None for films without ratings in the table."""

    key: str
    year: int | None
    column: int | None


class Catalogue:
    """Every film and every viewer's rating of it.

    Attributes:
        ratings: (viewers, films) float array in stars; known where the viewer rated the film,
            predicted elsewhere.
        rows: viewer id -> row of `ratings`.
        columns: title in the table -> column of `ratings`.
        spelt: `spelling` of such a title, with and without year -> column of `ratings`.
    """

    def __init__(
        self, ratings: np.ndarray, viewers: list[str], titles: list[str], others: list[str]
    ) -> None:
        """Index the columns' `titles`, most popular first, and `others`: films of no column, for
        which a title of the table must not be taken.
        """
        self.ratings = ratings
        self.rows = {viewer: row for row, viewer in enumerate(viewers)}
        self.columns = {title: column for column, title in enumerate(titles)}
        spelt = [(spelling(title), column) for column, title in enumerate(titles)][::-1]
        self.spelt = {without_year(title): column for title, column in spelt} | dict(spelt)
        split = [split_title(title) for title in titles]
        entries = [Entry(title_key(t.name), t.year, column) for column, t in enumerate(split)]
        entries += [
            Entry(title_key(t.name), t.year, None) for t in (split_title(other) for other in others)
        ]
        # Last: a film's second name may be another's first.
        entries += [
            Entry(title_key(other), title.year, column)
            for column, title in enumerate(split)
            for other in title.others
        ]
        self.named: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.key:
                self.named[entry.key.replace(" ", "")].append(entry)
        self.fuzzy = {
            name: same[0].key
            for name, same in self.named.items()
            if any(entry.column is not None for entry in same)
        }

    def find(self, text: str, threshold: float, year_tolerance: int | None) -> int | None:
        """Return the column of the film that `text` names, or None if it names none of the table.

        Args:
            text: A title as a policy wrote it.
            threshold: Similarity from which a misspelt name is taken for the film's, 0 to 100.
            year_tolerance: Years by which a given year may be wrong; None: by any number.
        """
        if len(text) > LONGEST:
            return None
        forms = list(_forms(text))
        for name, year in forms:
            same = self.named.get(title_key(name).replace(" ", ""))
            if same:
                return _of_that_year(same, year, year_tolerance)
        for name, year in forms:
            if meant := self._misspelt(title_key(name), threshold):
                return _of_that_year(self.named[meant], year, year_tolerance)
        return None

    def find_exact(self, text: str) -> int | None:
        """Return the column of the film that `text` names as the table does, or None.

        Of films of one name, that of the year given; else the most popular.
        """
        title = spelling(text)
        return self.spelt.get(title, self.spelt.get(without_year(title)))

    def _misspelt(self, key: str, threshold: float) -> str | None:
        """Return the one name that `key` is most like, if it is alike enough."""
        close = [
            (name, score)
            for name, score, _ in process.extract(
                key.replace(" ", ""),
                self.fuzzy.keys(),
                scorer=OSA.normalized_similarity,
                score_cutoff=threshold / 100,
            )
            if _may_be_typo(key, self.fuzzy[name])
        ]
        if not close or [score for _, score in close].count(close[0][1]) > 1:
            return None
        return close[0][0]


def _forms(text: str) -> Iterator[tuple[str, int | None]]:
    """Yield the names and years that a policy's text may mean, the likeliest first."""
    title = split_title(text)
    yield title.name, title.year
    if title.year is None and (bare := BARE_YEAR.match(title.name)):
        yield article_first(bare[1]), int(bare[2])
    if first := re.match(
        r"(.*\w)\W+(?:part|pt|vol|volume|episode)\W+(?:1|i|one)$", title.name, re.I
    ):
        yield first[1], title.year


def _of_that_year(same: list[Entry], year: int | None, tolerance: int | None) -> int | None:
    """Choose among films of one name: the one of that year, or without a year the first."""
    if year is None:
        return same[0].column
    years_off = [0 if entry.year is None else abs(entry.year - year) for entry in same]
    nearest = min(years_off)
    if tolerance is not None and nearest > tolerance:
        return None
    return same[years_off.index(nearest)].column


def _may_be_typo(key: str, film: str) -> bool:
    """Tell whether the difference may be a typo: another number (Rocky II, Rocky III) or a plural
    (Alien, Aliens) is another film.
    """
    words, film_words = key.split(), film.split()
    if [w for w in words if w.isdigit()] != [w for w in film_words if w.isdigit()]:
        return False
    return not words or words[-1] == film_words[-1] or key.rstrip("s") != film.rstrip("s")


_loading = threading.Lock()


@lru_cache(maxsize=4)
def _read_catalogue(path: str) -> Catalogue:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no rating table at {path!r}: write it with `python -m recipe.shape_grpo.tasks "
            "netflix` or `... tasks movielens`"
        )
    with np.load(path) as table:
        return Catalogue(
            table["ratings"],
            table["viewers"].tolist(),
            table["titles"].tolist(),
            str(table.get("other_titles", "")).split("\n"),  # tables of earlier versions have none
        )


def load_catalogue(path: str) -> Catalogue:
    """Read a rating table, once per process though candidates are scored in many threads.

    Raises:
        FileNotFoundError: There is no such file; the message says which command writes it.
    """
    with _loading:
        return _read_catalogue(path)


@lru_cache(maxsize=100_000)
def _find(path: str, text: str, threshold: float, year_tolerance: int | None) -> int | None:
    return load_catalogue(path).find(text, threshold, year_tolerance)


def viewers_of(ground_truth: str) -> list[str]:
    """Return the ids of the viewers that a prompt is about."""
    return str(ground_truth).split(",")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    ratings: str | None = None,
    threshold: float = 85.0,
    year_tolerance: int | None = 2,
    unknown_reward: float = 0.0,
    seen_reward: float = 0.0,
    exact: bool = False,
    combine: str | None = None,
    **kwargs: Any,
) -> dict[str, float | list[float] | None]:
    """Return the stars that the viewer gives one film, known or predicted, and which film it is.

    A group's reward is a vector with the stars of each viewer, for utilities that take vectors.

    Args:
        data_source: Not used; verl passes it.
        solution_str: One candidate, a film title.
        ground_truth: The viewer's id, or those of a group, with commas between them.
        extra_info: The row's extra information; its "history" lists the films the prompt named.
        ratings: Path of the rating table.
        threshold: How alike a misspelt title must be, up to 100: 100 (1 - edits / letters of the
            longer one), an edit being a letter added, lost, changed or swapped with the next.
        year_tolerance: Years by which a given year may be wrong; None: any number, and years
            only tell films of one title apart.
        unknown_reward: Reward of a title that is none of the table's films.
        seen_reward: Reward of a film of the history.
        exact: Accept a title only as the table spells it, whatever the case, white space and year
            at its end; `threshold` and `year_tolerance` are then not used.
        combine: "mean": the reward of a group is the mean over its viewers, a number.
        **kwargs: Not used; verl may pass more.

    Returns:
        "score", the stars; and "identity", the film's column in the rating table, None if the title
        is none of its films. For a group also "viewer_1", "viewer_2", ..., the stars of each.

    Raises:
        ValueError: No `ratings` was given, `threshold` is not from 0 to 100, `combine` is unknown,
            or the table does not know a viewer.
        FileNotFoundError: `ratings` does not exist.
    """
    if ratings is None:
        raise ValueError(
            "no rating table given: add "
            "+reward.custom_reward_function.reward_kwargs.ratings=PATH/ratings.npz"
        )
    if not 0 < threshold <= 100:
        raise ValueError(f"reward_kwargs.threshold={threshold}: must be above 0 and at most 100")
    if combine not in (None, "mean"):
        raise ValueError(f"reward_kwargs.combine={combine}: must be mean, or null for a vector")
    catalogue = load_catalogue(str(ratings))
    viewers = viewers_of(ground_truth)
    for viewer in viewers:
        if viewer not in catalogue.rows:
            raise ValueError(
                f"viewer {viewer!r} is not in {ratings}: prompts and rating table come from "
                f"different runs of `tasks {data_source}`; give both from one folder"
            )
    if exact:
        column = catalogue.find_exact(solution_str)
    else:
        column = _find(str(ratings), solution_str, threshold, year_tolerance)
    history = (extra_info or {}).get("history")
    if column is None:
        stars = [float(unknown_reward)] * len(viewers)
    elif history is not None and column in {catalogue.columns.get(title) for title in history}:
        stars = [float(seen_reward)] * len(viewers)
    else:
        stars = [float(catalogue.ratings[catalogue.rows[viewer], column]) for viewer in viewers]
    if len(viewers) == 1:
        return {"score": stars[0], "identity": column}
    each = {f"viewer_{number}": value for number, value in enumerate(stars, start=1)}
    return {"score": fmean(stars) if combine == "mean" else stars, "identity": column, **each}
