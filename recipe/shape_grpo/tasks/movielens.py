"""Films for a viewer of whom the prompt names a few liked ones, in few words, for a tiny policy.

    python -m recipe.shape_grpo.tasks movielens
    python -m recipe.shape_grpo.tasks movielens --history 0

write into outputs/movielens-k3 and outputs/movielens_no_history-k3 the files that `films.py` lists.
Titles have no year, and films of one title count as one. Without `--ratings`, the ratings are
MovieLens-100k (`film_data.py` has the terms of use).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from recipe.shape_grpo.tasks.common import Example, Examples, Messages, answer_text, read_task
from recipe.shape_grpo.tasks.film_data import FilmRatings
from recipe.shape_grpo.tasks.film_ratings import read_titles
from recipe.shape_grpo.tasks.films import FilmSettings, History, Selection, prepare_films
from reward_fns.titles import split_title


@dataclass(frozen=True)
class TaskSettings(FilmSettings):
    """Settings of the task `movielens`.

    Attributes:
        min_ratings: Number of ratings that a film needs; `films` are drawn from those.
    """

    task: ClassVar[str] = "movielens"
    datasets: ClassVar[tuple[str, str]] = ("movielens_no_history", "movielens")
    least_stars: ClassVar[float] = 4.0

    min_ratings: int = 20


def prompt_messages(history: History, candidates: int, latest: int | None = None) -> Messages:
    """Return the prompt as chat messages, which leave out the stars and the `latest` year."""
    request = f"Suggest {candidates} films."
    if history:
        liked = "; ".join(film for film, _ in history)
        request = f"A viewer liked {liked}. Suggest {candidates} other films."
    return [{"role": "user", "content": f"{request} Write each as <candidate>title</candidate>."}]


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
    if len(eligible) < settings.films or len(viewers) <= settings.test_viewers:
        raise ValueError(
            f"there are {len(eligible)} films of {settings.min_ratings} ratings or more and "
            f"{len(viewers)} viewers, too few for --films {settings.films} and --test_viewers "
            f"{settings.test_viewers}"
        )
    films = sorted(rng.choice(eligible, settings.films, replace=False).tolist())
    return Selection(
        ratings, rng.permutation(viewers).tolist(), films, {n: n for n in counts.index}
    )


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, as `prepare_films` does."""
    prepare_films(output, settings, prompt_messages, select)


def draw_example(
    titles: list[str], history: int, candidates: int, rng: np.random.Generator
) -> Example:
    """Draw a prompt with a made-up history, and an answer; all their titles differ."""
    shown = int(rng.integers(history + 1))
    drawn = rng.choice(titles, shown + candidates, replace=False).tolist()
    liked = [(title, TaskSettings.least_stars) for title in drawn[:shown]]
    return prompt_messages(liked, candidates), answer_text(drawn[shown:])


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return examples from the task in `folder`: histories and suggestions drawn evenly."""
    titles, task = read_titles(folder), read_task(folder)

    def draw(count: int) -> list[Example]:
        return [
            draw_example(titles, task["history"], task["candidates"], rng) for _ in range(count)
        ]

    return Examples(titles, draw)
