"""Films for a viewer of whom the prompt names a few liked ones, in few words, for a tiny policy.

    python -m recipe.shape_grpo.tasks movielens
    python -m recipe.shape_grpo.tasks movielens --history 0
    python -m recipe.shape_grpo.tasks movielens --viewers_per_prompt 2

write into outputs/movielens-k3, outputs/movielens_no_history-k3 and outputs/movielens_group-k3 the
files that `films.py` lists. With several viewers per prompt (a couple, a family, a club) the prompt
names liked films of each, and a film's reward is the vector of their ratings.

Titles have no year, and films of one title count as one. Without `--ratings`, the ratings are
MovieLens-100k (`film_data.py` has the terms of use).
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.tasks.common import Example, Examples, Messages, answer_text, read_task
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


@dataclass(frozen=True)
class TaskSettings(FilmSettings):
    """Settings of the task `movielens`.

    Attributes:
        min_ratings: Number of ratings that a film needs; `films` are drawn from those.
        viewers_per_prompt: Number of viewers whose liked films a prompt names: each viewer once
            (per prompt) with others, drawn from those of the same split.
    """

    task: ClassVar[str] = "movielens"
    datasets: ClassVar[tuple[str, str]] = ("movielens_no_history", "movielens")
    least_stars: ClassVar[float] = 4.0

    min_ratings: int = 20
    viewers_per_prompt: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "viewers_per_prompt")
        size = self.viewers_per_prompt
        if size == 1:
            return
        if self.history < 1:
            raise ValueError(
                f"history is {self.history}: a prompt for {size} viewers needs 1 or more, so that "
                "it tells them apart"
            )
        if self.test_viewers < size:
            raise ValueError(
                f"test_viewers is {self.test_viewers}: use viewers_per_prompt ({size}) or more"
            )
        named = size * self.history
        if self.films < named + self.candidates:
            raise ValueError(
                f"films is {self.films}: a prompt may name {named} and asks for {self.candidates} "
                f"others, so use {named + self.candidates} or more"
            )

    @property
    def dataset(self) -> str:
        """Name in the configuration: groups have one, whatever their size."""
        return "movielens_group" if self.viewers_per_prompt > 1 else super().dataset


def prompt_messages(history: History, candidates: int, latest: int | None = None) -> Messages:
    """Return the prompt as chat messages, which leave out the stars and the `latest` year."""
    request = f"Suggest {candidates} films."
    if history:
        request = f"A viewer liked {listed(history)}. Suggest {candidates} other films."
    return [{"role": "user", "content": f"{request} Write each as <candidate>title</candidate>."}]


def group_messages(histories: Histories, candidates: int, latest: int | None = None) -> Messages:
    """Return the prompt for several viewers; for one, that of `prompt_messages`."""
    if len(histories) == 1:
        return prompt_messages(histories[0], candidates, latest)
    viewers = " ".join(
        f"Viewer {number} liked {listed(history)}." if history else f"Viewer {number} is new."
        for number, history in enumerate(histories, start=1)
    )
    request = f"{viewers} Suggest {candidates} other films for them."
    return [{"role": "user", "content": f"{request} Write each as <candidate>title</candidate>."}]


def listed(history: History) -> str:
    """Return the titles of a history in one line."""
    return "; ".join(film for film, _ in history)


def read_ratings(data: FilmRatings) -> pd.DataFrame:
    """Return the ratings by name of the film, which is all that a policy can write.

    Returns:
        Columns user_id (string), item_id (the name, without year) and rating (stars, the mean over
        films of one name), one row per viewer and name.
    """
    names = {film: split_title(title).name for film, title in data.titles.items()}
    table = pd.DataFrame(
        {
            "user_id": data.viewers.astype(str),
            "item_id": pd.Series(data.films).map(names),
            "rating": data.stars.astype(float),
        }
    )
    return table.groupby(["user_id", "item_id"], as_index=False)["rating"].mean()


def select(data: FilmRatings, settings: TaskSettings, rng: np.random.Generator) -> Selection:
    """Draw films from those with enough ratings, and take all viewers.

    Raises:
        ValueError: There are too few films or viewers.
    """
    ratings = read_ratings(data)
    counts = ratings["item_id"].value_counts()
    eligible = sorted(counts[counts >= settings.min_ratings].index)
    viewers = sorted(set(ratings["user_id"]))
    least = settings.test_viewers + settings.viewers_per_prompt
    if len(eligible) < settings.films or len(viewers) < least:
        raise ValueError(
            f"there are {len(eligible)} films of {settings.min_ratings} ratings or more and "
            f"{len(viewers)} viewers, too few for --films {settings.films} and --test_viewers "
            f"{settings.test_viewers} beside {settings.viewers_per_prompt} for training"
        )
    films = sorted(rng.choice(eligible, settings.films, replace=False).tolist())
    return Selection(
        ratings, rng.permutation(viewers).tolist(), films, {n: n for n in counts.index}
    )


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, as `prepare_films` does."""
    prepare_films(output, settings, group_messages, select, settings.viewers_per_prompt)


def draw_example(
    titles: list[str], history: int, candidates: int, rng: np.random.Generator, viewers: int = 1
) -> Example:
    """Draw a prompt with a made-up history per viewer, and an answer; all their titles differ."""
    lengths = [int(rng.integers(history + 1)) for _ in range(viewers)]
    drawn = rng.choice(titles, sum(lengths) + candidates, replace=False).tolist()
    shown, suggested = drawn[: sum(lengths)], drawn[sum(lengths) :]
    named = iter((title, TaskSettings.least_stars) for title in shown)
    histories = [list(islice(named, length)) for length in lengths]
    return group_messages(histories, candidates), answer_text(suggested)


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return examples from the task in `folder`: histories and suggestions drawn evenly."""
    titles, task = read_titles(folder), read_task(folder)
    viewers = task.get("viewers_per_prompt", 1)

    def draw(count: int) -> list[Example]:
        return [
            draw_example(titles, task["history"], task["candidates"], rng, viewers)
            for _ in range(count)
        ]

    return Examples(titles, draw)
