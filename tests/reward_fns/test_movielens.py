import numpy as np
import pytest

from reward_fns.movielens import compute_score, load_ratings


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    path = tmp_path_factory.mktemp("movielens") / "ratings.npz"
    np.savez(
        path,
        ratings=np.array([[5.0, 3.5, 1.0], [2.0, 4.25, 0.5]], dtype=np.float16),
        viewers=np.array(["7", "12"]),
        titles=np.array(["The Usual Suspects", "Amélie", "2001: A Space Odyssey"]),
    )
    return str(path)


@pytest.mark.parametrize(
    ("viewer", "title", "stars", "reason"),
    [
        ("7", "The Usual Suspects", 5.0, "the viewer's rating"),
        ("12", "The Usual Suspects", 2.0, "another viewer's"),
        (12, "Amélie", 4.25, "a viewer id that came back from parquet as a number"),
        ("7", "  the usual\n SUSPECTS ", 5.0, "case and white space do not matter"),
        ("7", "The Usual Suspects (1995)", 5.0, "a year at the end may be given"),
        ("7", "Ame\u0301lie", 3.5, "the accent as a combining mark"),
        ("7", "2001: A Space Odyssey", 1.0, "a year inside the title is part of it"),
        ("7", "A Space Odyssey", 0.0, "half a title is no title"),
        ("7", "Usual Suspects", 0.0, "the article is part of the title"),
        ("7", "The Usual Suspects and Amélie", 0.0, "two titles are no title"),
        ("7", "Plan 9 from Outer Space", 0.0, "not in the catalogue"),
        ("7", "", 0.0, "empty"),
    ],
)
def test_score(ratings, viewer, title, stars, reason):
    score = compute_score("movielens", title, viewer, {"history": []}, ratings=ratings)
    assert type(score) is float
    assert score == stars, reason


def test_films_named_in_the_prompt_are_worth_nothing(ratings):
    extra = {"history": np.array(["Amélie"], dtype=object), "index": 3}
    for title in ("Amélie", "AMÉLIE (2001)"):
        assert compute_score("movielens", title, "12", extra, ratings=ratings) == 0.0
    assert compute_score("movielens", "The Usual Suspects", "12", extra, ratings=ratings) == 2.0


def test_extra_information_is_optional(ratings):
    for extra in (None, {}, {"history": None}):
        assert compute_score("movielens", "Amélie", "12", extra, ratings=ratings) == 4.25


def test_table_is_read_once_a_process(ratings):
    load_ratings.cache_clear()
    for title in ("Amélie", "nothing"):
        compute_score("movielens", title, "7", ratings=ratings)
    assert load_ratings.cache_info().misses == 1


def test_errors_say_what_to_do(ratings, tmp_path):
    with pytest.raises(ValueError, match=r"reward_kwargs\.ratings=PATH"):
        compute_score("movielens", "Amélie", "7")
    with pytest.raises(FileNotFoundError, match=r"shape_grpo\.tasks movielens"):
        compute_score("movielens", "Amélie", "7", ratings=str(tmp_path / "none.npz"))
    with pytest.raises(ValueError, match=r"viewer '99' is not in .*ratings\.npz"):
        compute_score("movielens", "Amélie", "99", ratings=ratings)
