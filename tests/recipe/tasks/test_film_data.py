"""Every published format of ratings, from tiny files; odd lines and broken ones."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from recipe.shape_grpo.tasks import film_data
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.film_data import KINDS, download_movielens, load_films

# The same five ratings of three films in every published format.
PUBLISHED = {
    "Netflix Prize": {
        "combined_data_1.txt": "1:\n7,5,2005-09-06\n12,3,2005-09-07\n2:\n7,1,2004-01-01\n",
        "combined_data_2.txt": "30:\n12,4,2005-12-31\n9,2,2003-05-05\n",
        "movie_titles.csv": "1,1995,Usual Suspects, The\n2,1998,Misérables, Les\n30,NULL,Alien\n",
    },
    "MovieLens-100k": {
        "u.data": "7\t1\t5\t0\n12\t1\t3\t0\n7\t2\t1\t0\n12\t30\t4\t0\n9\t30\t2\t0\n",
        "u.item": "1|Usual Suspects, The (1995)|01-Jan-1995||http://x|0|1\n"
        "2|Misérables, Les (1998)|01-Jan-1998||http://x|0|1\n30|Alien||||0|0\n",
    },
    "MovieLens-1M": {
        "ratings.dat": "7::1::5::978300760\n12::1::3::1\n7::2::1::1\n12::30::4::1\n9::30::2::1\n",
        "movies.dat": "1::Usual Suspects, The (1995)::Crime|Thriller\n"
        "2::Misérables, Les (1998)::Drama\n30::Alien::Horror\n",
    },
    "MovieLens latest or 32M": {
        "ratings.csv": "userId,movieId,rating,timestamp\n7,1,5.0,0\n12,1,3.0,0\n7,2,1.0,0\n"
        "12,30,4.0,0\n9,30,2.0,0\n",
        "movies.csv": 'movieId,title,genres\n1,"Usual Suspects, The (1995)",Crime\n'
        '2,"Misérables, Les (1998)",Drama\n30,Alien,Horror\n',
    },
    "RecBole": {
        "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "7\t1\t5\t0\n12\t1\t3\t0\n7\t2\t1\t0\n12\t30\t4\t0\n9\t30\t2\t0\n",
        "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass\n"
        "1\tUsual Suspects, The\t1995\tx\n2\tMisérables, Les\t1998\tx\n30\tAlien\t\tx\n",
    },
}
TITLES = {1: "Usual Suspects, The (1995)", 2: "Misérables, Les (1998)", 30: "Alien"}
RATINGS = {(7, 1): 5, (12, 1): 3, (7, 2): 1, (12, 30): 4, (9, 30): 2}


def write(folder, files):
    for name, text in files.items():
        latin = name in ("movie_titles.csv", "u.item", "movies.dat")
        (folder / name).write_bytes(text.encode("latin-1" if latin else "utf-8"))


def as_dictionary(data):
    rows = zip(data.viewers.tolist(), data.films.tolist(), data.stars.tolist(), strict=True)
    return {(viewer, film): stars for viewer, film, stars in rows}


@pytest.mark.parametrize("line_ends", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", PUBLISHED)
def test_every_format_holds_the_same_ratings(kind, line_ends, tmp_path, monkeypatch):
    files = {name: text.replace("\n", line_ends) for name, text in PUBLISHED[kind].items()}
    write(tmp_path, files)
    for piece in (2, film_data.PIECE):  # a film's ratings over two pieces
        monkeypatch.setattr(film_data, "PIECE", piece)
        data = load_films(tmp_path)
        assert data.titles == TITLES
        assert as_dictionary(data) == RATINGS
        assert [array.dtype for array in data[:3]] == [np.int32, np.int32, np.float32]


def test_every_kind_is_tested():
    assert [kind.name for kind in KINDS] == list(PUBLISHED)


def netflix(ratings, titles):
    return {"combined_data_1.txt": ratings, "movie_titles.csv": titles}


def movielens(ratings, films):
    return {
        "ratings.csv": "userId,movieId,rating,timestamp\n" + ratings,
        "movies.csv": "movieId,title,genres\n" + films,
    }


@pytest.mark.parametrize(
    ("files", "titles", "ratings", "reason"),
    [
        (
            netflix("1:\n7,5,2005-01-01\n", "1,1974,At Home, Among Strangers, at Home\n"),
            {1: "At Home, Among Strangers, at Home (1974)"},
            {(7, 1): 5},
            "commas in a title",
        ),
        (
            netflix("1:\n7,5,2005-01-01\n", '1,2001,"Weird Al" Live! "\n'),
            {1: '"Weird Al" Live! " (2001)'},
            {(7, 1): 5},
            "quotes that do not pair",
        ),
        (
            netflix("1:\n7,5,2005-01-01\n", "1,2001,Caf\x85 \xe9t\xe9\n\n\n"),
            {1: "Caf \xe9t\xe9 (2001)"},
            {(7, 1): 5},
            "a byte that is a line's end elsewhere, blank lines at the end",
        ),
        (
            netflix("1:\n2:\n7,5,2005-01-01\n\n3:\n", "1,1999,A\n2,1999,B\n3,1999,C\n"),
            {1: "A (1999)", 2: "B (1999)", 3: "C (1999)"},
            {(7, 2): 5},
            "films without ratings, a blank line",
        ),
        (
            netflix("1:\n7,5,2005-01-01\n9:\n7,1,2005-01-01\n", "1,1999,A\n"),
            {1: "A (1999)"},
            {(7, 1): 5},
            "a film that the list of films does not have",
        ),
        (
            netflix("1:\n7,5\n", "1,1999,A\n"),
            {1: "A (1999)"},
            {(7, 1): 5},
            "no date, which nobody reads",
        ),
        (
            movielens("1,5,4.5,0\n2,6,0.5,0\n1,999999,3,0\n", '5,"Emma (1996)",x\n6,Emma (1996),x'),
            {5: "Emma (1996)"},
            {(1, 5): 4.5, (2, 5): 0.5},
            "two films of one title and year, half stars, an unknown film, no last line end",
        ),
        (
            movielens(
                "1,5,4,0\n2,6,1,0\n3,7,2,0\n",
                "5,Am\u00e9lie &amp; Co (2001),x\n6,Ame\u0301lie & Co (2001),x\n"
                "7,Am&eacute;lie &#38;  Co (2001),x\n",
            ),
            {5: "Am\u00e9lie & Co (2001)"},
            {(1, 5): 4, (2, 5): 1, (3, 5): 2},
            "one title in three encodings",
        ),
        (
            movielens("1,0,4,0\n2,8,3,0\n", "0,Zero (1999),x\n7,,x\n8,NULL,x\n"),
            {0: "Zero (1999)", 8: "NULL"},
            {(1, 0): 4, (2, 8): 3},
            "a film 0, a film without a title, a film called NULL",
        ),
        (
            {
                "ratings.dat": "1::2::3::4\n",
                "movies.dat": "2::Star Wars: Episode IV (1977)::A|B\n",
            },
            {2: "Star Wars: Episode IV (1977)"},
            {(1, 2): 3},
            "a colon in a title",
        ),
    ],
)
def test_odd_lines(files, titles, ratings, reason, tmp_path):
    write(tmp_path, files)
    data = load_films(tmp_path)
    assert data.titles == titles, reason
    assert as_dictionary(data) == ratings, reason


@pytest.mark.parametrize(
    ("files", "message", "reason"),
    [
        (netflix("7,5,2005-01-01\n", "1,1,A\n"), "data_1.txt: line '7,5,2005-01-01'", "no film"),
        (netflix("1:\n7,6,2005-01-01\n", "1,1,A\n"), "line '7,6,2005-01-01' is", "six stars"),
        (netflix("1:\n7\n", "1,1,A\n"), "line '7' is", "no stars"),
        (netflix("1:\nx,5,2005-01-01\n", "1,1,A\n"), "line 'x,5,2005-01-01'", "no viewer"),
        (netflix("1:\n7,5,2005,9\n", "1,1,A\n"), "data_1.txt: .*4", "a field too many"),
        (netflix("1:\n7,5,d\n", "1,1999\n"), "movie_titles.csv: line '1,1999'", "no title"),
        (netflix("", "1,1999,A\n"), "no rating in combined_data", "an empty file"),
        (movielens("1,2,good,0\n", "2,A,x\n"), "ratings.csv: .*good", "stars in words"),
        (movielens("1,2,,0\n", "2,A,x\n"), "ratings.csv: line 2 has no stars", "no stars"),
        (movielens("1,2,3,0\n", "4,A,x\n"), "no rating in ratings.csv is of a film", "other films"),
    ],
)
def test_broken_files_are_named(files, message, reason, tmp_path):
    write(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        load_films(tmp_path)


@pytest.mark.parametrize("present", [(), ("u.data",), ("movie_titles.csv", "ratings.csv")])
def test_folder_without_a_known_pair_of_files_names_all(present, tmp_path):
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError) as error:
        load_films(tmp_path)
    for name in ("combined_data_*.txt and movie_titles.csv", "u.data and u.item", "ratings.dat"):
        assert name in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_data_are_taken_out_of_the_wheel_once(tmp_path, monkeypatch):
    commands = []

    def fake_pip(command, **_):
        commands.append(command)
        download = Path(command[command.index("--dest") + 1])
        with ZipFile(download / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
            for name in ("ml-100k.inter", "ml-100k.item", "ml-100k.kg"):
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", name)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake_pip)
    for _ in range(2):
        download_movielens(tmp_path / "raw")
    assert len(commands) == 1
    assert {"download", "--no-deps", "recbole==1.2.1"} <= set(commands[0])
    files = sorted(path.name for path in (tmp_path / "raw").iterdir())
    assert files == ["ml-100k.inter", "ml-100k.item"]


def test_failed_download_says_what_else_to_do(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "python3: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match=r"No module named pip.*--ratings"):
        main(["movielens", "--output", str(tmp_path)])
