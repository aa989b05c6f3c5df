"""The paper's Netflix task: films for a viewer, with or without the viewer's ratings in the prompt.

    python -m recipe.shape_grpo.tasks netflix --ratings DIR
    python -m recipe.shape_grpo.tasks netflix --ratings DIR --history 10

write into outputs/netflix-k5 and outputs/netflix_history-k5, the folders that the configs
task/netflix and task/netflix_history read, the files that `films.py` lists.

DIR holds the files of the Netflix Prize (combined_data_*.txt, movie_titles.csv) or of MovieLens
(latest-small, 100k, 1M, 32M), unpacked. Neither are this project's: their terms of use apply.
Without `--ratings`, MovieLens-100k is taken from a wheel on PyPI (`film_data.py`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.tasks.common import Examples, Messages, answers_to_prompts
from recipe.shape_grpo.tasks.film_data import FilmRatings
from recipe.shape_grpo.tasks.film_ratings import read_titles
from recipe.shape_grpo.tasks.films import (
    FilmSettings,
    Histories,
    History,
    Selection,
    prepare_films,
)
from reward_fns.titles import split_title

EXAMPLE = "The Arrival of a Train (1896)"  # no film that people rate: copying it earns nothing


@dataclass(frozen=True)
class TaskSettings(FilmSettings):
    """Settings of the task `netflix`, in which the most rated films can be suggested.

    Attributes:
        viewers: Number of simulated viewers, drawn from those with enough ratings.
        fit_viewers: Number of viewers whose ratings the factorisation learns from, the simulated
            ones first.
        min_ratings: Number of these films that a viewer must have rated.
    """

    task: ClassVar[str] = "netflix"
    datasets: ClassVar[tuple[str, str]] = ("netflix", "netflix_history")

    candidates: int = 5
    history: int = 0
    films: int = 1000
    test_viewers: int = 128
    prompts_per_viewer: int = 1
    viewers: int = 5000
    fit_viewers: int = 50_000
    min_ratings: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "viewers")
        if not 0 <= self.history < self.min_ratings:
            raise ValueError(
                f"history is {self.history}: use 0 or more, and less than min_ratings "
                f"({self.min_ratings}), so that every viewer has films left to be suggested"
            )


def prompt_messages(history: History, candidates: int, latest: int | None = None) -> Messages:
    """Return the prompt as chat messages, which show the history's stars and the `latest` year."""
    if history:
        seen = "\n".join(f"- {split_title(film)}: {stars:g} of 5 stars" for film, stars in history)
        viewer = f"A viewer has rated these films:\n{seen}\n\n"
        which = "that this viewer has not rated yet and would rate highest"
    else:
        viewer = ""
        which = "that a viewer you know nothing about would rate highest"
    films = "1 film" if candidates == 1 else f"{candidates} different films"
    released = f", released in {latest} or earlier" if latest else ""
    return [
        {
            "role": "user",
            "content": f"{viewer}Suggest {films}{released}, {which}. The viewer will watch the "
            "best of your suggestions. Write the title and year of each film between candidate "
            f"tags, one film per pair of tags, for example:\n<candidate>{EXAMPLE}</candidate>\n"
            f"Your answer must contain exactly {candidates} such candidate"
            f"{'' if candidates == 1 else 's'}.",
        }
    ]


def select(data: FilmRatings, settings: TaskSettings, rng: np.random.Generator) -> Selection:
    """Take the most rated films, and draw viewers from those who rated enough of them.

    Raises:
        ValueError: There are too few viewers.
    """
    counts = np.bincount(data.films)
    films = np.argsort(-counts, kind="stable")[: min(settings.films, np.count_nonzero(counts))]
    kept = np.isin(data.films, films)
    counts = np.bincount(data.viewers[kept])
    eligible = rng.permutation(np.flatnonzero(counts >= settings.min_ratings))
    viewers = eligible[: settings.viewers]
    if len(viewers) <= settings.test_viewers:
        raise ValueError(
            f"only {len(viewers)} viewers rated {settings.min_ratings} or more of the "
            f"{len(films)} most rated films, too few for --test_viewers {settings.test_viewers}: "
            "give a lower --min_ratings or --test_viewers"
        )
    kept &= np.isin(data.viewers, eligible[: max(settings.fit_viewers, len(viewers))])
    table = pd.DataFrame(
        {"user_id": data.viewers[kept], "item_id": data.films[kept], "rating": data.stars[kept]}
    )
    # Who rates a film twice has changed their mind.
    table = table.drop_duplicates(["user_id", "item_id"], keep="last")
    return Selection(table, viewers.tolist(), films.tolist(), data.titles)


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, as `prepare_films` does."""

    def messages(histories: Histories, candidates: int, latest: int | None) -> Messages:
        (history,) = histories
        return prompt_messages(history, candidates, latest)

    prepare_films(output, settings, messages, select)


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return examples from the task in `folder`: any films."""
    return answers_to_prompts(folder, read_titles(folder), rng)
