"""Films for a simulated viewer, from real ratings: what the tasks `movielens` and `netflix` share.

A prompt asks for K films, and names some that one real viewer has rated, or none. The simulated
viewer gives a suggested film the real viewer's rating where there is one, else a predicted rating
(`film_ratings.py`); a film that the prompt names earns nothing (`reward_fns/films.py`). The viewers
of the test prompts are not those of the training prompts. A prompt may be about a group of viewers,
all of the same split; the reward is then a vector.

The modules `movielens` and `netflix` hold what differs: the default settings, the words of the
prompt, and the choice of films and viewers.

Written are `train.parquet` and `test.parquet` (verl's columns), `ratings.npz` (the stars of every
simulated viewer for every film), `held_out.parquet` (the ratings that the predictions were tested
on) and `summary.json` (errors of the predictions; what random, fixed and ideal suggestions earn).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.common.files import begin
from recipe.shape_grpo.tasks.common import (
    Messages,
    is_prepared,
    task_stamp,
    verl_row,
    write_task,
)
from recipe.shape_grpo.tasks.film_data import FilmRatings, download_movielens, load_films
from recipe.shape_grpo.tasks.film_ratings import best_of_set_levels, rate_everything, write_summary
from reward_fns.titles import split_title

FILES = ("train.parquet", "test.parquet", "ratings.npz", "held_out.parquet", "summary.json")
History = Sequence[tuple[str, float]]  # films that a viewer has rated, and the stars
Histories = Sequence[History]  # one per viewer of a prompt


@dataclass(frozen=True)
class FilmSettings:
    """Settings of both tasks; the same settings give the same files.

    Attributes:
        ratings: Folder with ratings, or None for MovieLens-100k.
        candidates: K, the number of films that a prompt asks for.
        history: Number of films of the viewer that a prompt names, or fewer where the viewer has
            fewer; 0 for none.
        films: Number of films that can be suggested.
        test_viewers: Number of viewers kept for the test prompts, one prompt per viewer.
        prompts_per_viewer: Number of training prompts of each other viewer.
        factors: Width of the matrix factorisation.
        epochs: Number of its passes over the ratings.
        seed: Seed of every random choice.
    """

    task: ClassVar[str]
    datasets: ClassVar[tuple[str, str]]
    """Names in the configuration: without a history, and with one."""
    least_stars: ClassVar[float] = 0.0
    """Rating from which a film may be named in the viewer's prompts."""

    ratings: str | None = None
    candidates: int = 3
    history: int = 3
    films: int = 150
    test_viewers: int = 64
    prompts_per_viewer: int = 2
    factors: int = 40
    epochs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "candidates", "films", "test_viewers", "prompts_per_viewer")

    @property
    def dataset(self) -> str:
        """Name in the configuration: the same task with and without a history has two."""
        return self.datasets[self.history > 0]


class Selection(NamedTuple):
    """Ratings, viewers and films that a task is made from.

    Attributes:
        ratings: Columns user_id, item_id and rating, one row per viewer and film: all that the
            factorisation may learn from.
        viewers: Ids of the simulated viewers, in random order.
        films: Ids of the films that can be suggested.
        titles: Title of every film, by id.
    """

    ratings: pd.DataFrame
    viewers: list[Any]
    films: list[Any]
    titles: dict[Any, str]


def draw_group(viewer: Any, viewers: list[Any], size: int, rng: np.random.Generator) -> list[Any]:
    """Return `viewer` and `size` - 1 others of `viewers`, which are drawn at random."""
    if size == 1:
        return [viewer]  # Without a draw: tasks of one viewer are the same as before groups.
    others = [other for other in viewers if other != viewer]
    return [viewer, *(others[place] for place in rng.permutation(len(others))[: size - 1])]


def draw_rows(
    viewers: list[Any],
    known: dict[Any, list[tuple[str, float]]],
    split: str,
    settings: FilmSettings,
    prompt: Callable[[Histories], Messages],
    viewers_per_prompt: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return rows in verl's columns; each prompt names a new draw of the viewer's `known` films,
    and of the other viewers of a group.
    """
    rows: list[dict[str, Any]] = []
    for viewer in viewers:
        for _ in range(1 if split == "test" else settings.prompts_per_viewer):
            group = draw_group(viewer, viewers, viewers_per_prompt, rng)
            shown = []
            for rated in (known.get(member, []) for member in group):
                drawn = rng.permutation(len(rated))[: settings.history]
                shown.append([rated[place] for place in drawn])
            rows.append(
                verl_row(
                    settings.task,
                    "recommendation",
                    prompt(shown),
                    ",".join(map(str, group)),
                    split=split,
                    index=len(rows),
                    history=[title for history in shown for title, _ in history],
                )
            )
    return rows


def prepare_films(
    output: Path,
    settings: FilmSettings,
    prompt_messages: Callable[[Histories, int, int | None], Messages],
    select: Callable[[FilmRatings, Any, np.random.Generator], Selection],
    viewers_per_prompt: int = 1,
) -> None:
    """Write a film task into `output`, unless the same task is there already.

    Args:
        output: Folder of the task.
        settings: Settings of the task.
        prompt_messages: Writes a prompt from a history per viewer, K, and the year of the newest
            film that can be suggested (None where the titles have no year).
        select: Chooses what the task is made from.
        viewers_per_prompt: Number of viewers that a prompt is about.

    Raises:
        FileNotFoundError: No ratings are in the folder.
        RuntimeError: MovieLens-100k could not be downloaded.
        ValueError: A file is broken, or there are too few films or viewers.
    """
    samples: list[History] = [[], [("Heat", 4.0), ("Alien", 4.5)]]
    words = [
        prompt_messages([history] * viewers_per_prompt, settings.candidates, 2005)
        for history in samples
    ]
    stamp = task_stamp(settings.task, settings, *words)
    if viewers_per_prompt == 1:
        stamp.pop("viewers_per_prompt", None)  # Stamps from before groups have none.
    if is_prepared(output, stamp, FILES):
        return
    begin(output)
    data = load_films(
        Path(settings.ratings) if settings.ratings else download_movielens(output / "raw")
    )
    rng = np.random.default_rng(settings.seed)
    ratings, viewers, films, titles = select(data, settings, rng)
    print(f"task: {len(data.stars)} ratings of {len(data.titles)} films; {len(ratings)} are used")
    in_order = sorted(viewers)
    table, held_out, errors = rate_everything(
        ratings, in_order, films, settings.factors, settings.epochs, settings.seed
    )

    own = ratings[ratings["user_id"].isin(viewers) & ratings["item_id"].isin(films)]
    own = own[own["rating"] >= settings.least_stars]
    known = {
        viewer: list(zip(rated["item_id"].map(titles), rated["rating"], strict=True))
        for viewer, rated in own.groupby("user_id")
    }
    suggested = [titles[film] for film in films]
    latest = max((year for year in (split_title(t).year for t in suggested) if year), default=None)

    def prompt(histories: Histories) -> Messages:
        return prompt_messages(histories, settings.candidates, latest)

    test, train = viewers[: settings.test_viewers], viewers[settings.test_viewers :]
    test_rows = draw_rows(test, known, "test", settings, prompt, viewers_per_prompt, rng)
    train_rows = draw_rows(train, known, "train", settings, prompt, viewers_per_prompt, rng)
    names = [str(viewer) for viewer in in_order]
    levels = best_of_set_levels(table, suggested, test_rows, names, settings.candidates)

    print(
        f"task: {len(train_rows)} training and {len(test_rows)} test prompts, {len(films)} films "
        f"-> {output}"
    )
    held_out.to_parquet(output / "held_out.parquet", index=False)
    np.savez_compressed(
        output / "ratings.npz",
        ratings=table.astype(np.float16),
        viewers=np.array(names),
        titles=np.array(suggested),
        other_titles=np.array("\n".join(sorted({*titles.values()} - {*suggested}))),
    )
    write_summary(output, errors, held_out, levels, settings.candidates)
    write_task(output, stamp, train_rows, test_rows)
