"""Titles as people write them, near misses that are other films, and what each earns."""

import inspect

import numpy as np
import pytest

from reward_fns import films
from reward_fns.films import compute_score, load_catalogue, split_title, title_key

# Most popular first, as the rating table has them.
TITLES = [
    "Usual Suspects, The (1995)",
    "Alien (1979)",
    "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
    "Godfather: Part II, The (1974)",
    "Rocky III (1982)",
    "Seven (a.k.a. Se7en) (1995)",
    "Twelve Monkeys (a.k.a. 12 Monkeys) (1995)",
    "Misérables, Les (1998)",
    "Schindler's List (1993)",
    "Spider-Man (2002)",
    "E.T. the Extra-Terrestrial (1982)",
    "Star Wars: Episode V - The Empire Strikes Back (1980)",
    "Good, the Bad and the Ugly, The (Buono, il brutto, il cattivo, Il) (1966)",
    "King Kong (2005)",
    "King Kong (1933)",
    "2001: A Space Odyssey (1968)",
    "Blade Runner 2049 (2017)",
    "(500) Days of Summer (2009)",
    "Kill Bill: Vol. 1 (2003)",
    "Back to the Future (1985)",
    "Casablanca (1942)",
    "M*A*S*H (1970)",
    "Bad Education (La mala educación) (2004)",
    "Pride & Prejudice (2005)",
    "Predator (1987)",
    "Die Hard (1988)",
    "Man on the Moon (1999)",
    "L.A. Confidential (1997)",
    "Analyze This (1999)",
    "Some Film Without a Year",
    "X-Men (2000)",
    "[REC] (2007)",
    "Before Sunrise (1995)",
    "10,000 BC (2008)",
]
OTHERS = ["Man in the Moon, The (1991)", "King Kong (1976)", "Kong (2001)", "Rocky (1976)"]
VIEWERS = ["7", "12"]
SUSPECTS, ALIEN, AMELIE, GODFATHER, ROCKY, SEVEN, MONKEYS, MISERABLES, SCHINDLER = range(9)
SPIDER, ET, EMPIRE, UGLY, KONG, OLD_KONG, SPACE, RUNNER, DAYS, KILL, FUTURE = range(9, 20)
CASABLANCA, MASH, EDUCATION, PRIDE, PREDATOR, DIE, MOON, LA, ANALYZE = range(20, 29)
NO_YEAR, XMEN, REC, SUNRISE, BC = range(29, 34)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Viewer 7 gives every film another number of stars, viewer 12 ten more."""
    path = tmp_path_factory.mktemp("films") / "ratings.npz"
    stars = np.arange(1, len(TITLES) + 1) / 8
    np.savez(
        path,
        ratings=np.stack([stars, stars + 10]).astype(np.float16),
        viewers=np.array(VIEWERS),
        titles=np.array(TITLES),
        other_titles=np.array("\n".join(OTHERS)),
    )
    return str(path)


def result(ratings, title, viewer="7", history=(), **kwargs):
    kwargs = {"unknown_reward": -1.0, "seen_reward": -2.0, **kwargs}
    return compute_score(
        "netflix", title, viewer, {"history": list(history)}, ratings=ratings, **kwargs
    )


def score(*arguments, **kwargs):
    return result(*arguments, **kwargs)["score"]


def stars(*arguments, **kwargs):
    return compute_score(*arguments, **kwargs)["score"]


@pytest.mark.parametrize(
    ("written", "film", "reason"),
    [
        ("The Usual Suspects (1995)", SUSPECTS, "title and year"),
        ("The Usual Suspects", SUSPECTS, "no year"),
        ("Usual Suspects, The (1995)", SUSPECTS, "the catalogue's own spelling"),
        ("Usual Suspects", SUSPECTS, "no article"),
        ("  the USUAL\nsuspects ", SUSPECTS, "case and white space"),
        ("**The Usual Suspects** (1995)", SUSPECTS, "markdown"),
        ('"The Usual Suspects" (1995).', SUSPECTS, "quotes and a full stop"),
        ("The Usual Suspects, 1995", SUSPECTS, "year after a comma"),
        ("The Usual Suspects - 1995", SUSPECTS, "year after a dash"),
        ("The Usual Suspects [1995]", SUSPECTS, "year in brackets"),
        ("The Usual Suspects (1995, Bryan Singer)", SUSPECTS, "director after the year"),
        ("The Usual Suspects (1996)", SUSPECTS, "a year that is one off"),
        ("The Usaul Suspects", SUSPECTS, "two letters swapped"),
        ("The Usual Suspect", None, "singular of the last word: may be another film"),
        ("The Usuall Suspects 1995", SUSPECTS, "a typo and a bare year"),
        ("Casablnca", CASABLANCA, "a letter lost"),
        ("Cassablanca (1942)", CASABLANCA, "a letter doubled"),
        ("Before Sunrize", SUNRISE, "a letter changed"),
        ("Amélie", AMELIE, "an accent the catalogue leaves out"),
        ("Ame\u0301lie (2001)", AMELIE, "the accent as a combining mark"),
        ("Le Fabuleux Destin d'Amelie Poulain", AMELIE, "the original title"),
        ("Les Miserables", MISERABLES, "foreign article in front, no accent"),
        ("Misérables, Les", MISERABLES, "foreign article behind"),
        ("La Mala Educacion (2004)", EDUCATION, "the original title, no accent"),
        ("Godfather Part 2", GODFATHER, "2 for II"),
        ("The Godfather II (1974)", GODFATHER, "no 'part'"),
        ("The Godfather, Part Two", GODFATHER, "number in words"),
        ("Rocky 3", ROCKY, "3 for III"),
        ("Se7en", SEVEN, "another name"),
        ("12 Monkeys", MONKEYS, "number in digits"),
        ("Schindlers List", SCHINDLER, "no apostrophe"),
        ("Schindler\u2019s List", SCHINDLER, "curly apostrophe"),
        ("Spiderman", SPIDER, "one word"),
        ("Spider Man", SPIDER, "two words"),
        ("ET the Extraterrestrial", ET, "no full stops, no hyphen"),
        ("MASH", MASH, "no asterisks"),
        ("LA Confidential", LA, "no full stops"),
        ("Star Wars V: The Empire Strikes Back", EMPIRE, "no 'episode'"),
        ("Star Wars Episode 5 - Empire Strikes Back", EMPIRE, "digit, article lost inside"),
        ("The Good, the Bad, and the Ugly", UGLY, "one comma more"),
        ("Pride and Prejudice", PRIDE, "and for &"),
        ("King Kong", KONG, "of two films of one name the more popular"),
        ("King Kong (2005)", KONG, "the one of that year"),
        ("King Kong (1933)", OLD_KONG, "the other, by its year"),
        ("2001: A Space Odyssey", SPACE, "a year at the start is the title's"),
        ("Blade Runner 2049", RUNNER, "a year at the end is the title's"),
        ("Blade Runner 2049 (2017)", RUNNER, "two years"),
        ("(500) Days of Summer", DAYS, "parentheses that are the title's"),
        ("500 Days of Summer", DAYS, "or not"),
        ("Kill Bill Volume 1", KILL, "volume for vol."),
        ("Back to the Future Part I", FUTURE, "the first part of the film that has others"),
        ("Some Film Without a Year (1987)", NO_YEAR, "any year, where the catalogue has none"),
        ("X-Men", XMEN, "a letter that could be a numeral"),
        ("REC", REC, "no brackets"),
        ("10000 B.C.", BC, "no comma, full stops"),
    ],
)
def test_titles_as_people_write_them(ratings, written, film, reason):
    reward = -1.0 if film is None else (film + 1) / 8
    assert result(ratings, written) == {"score": reward, "identity": film}, reason


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("Aliens", "sequel by a plural"),
        ("Aliens (1986)", "and with its year"),
        ("Predators", "sequel by a plural, in a longer title"),
        ("Alien 3", "sequel by a number"),
        ("Alien³", "sequel by a raised number"),
        ("Rocky II", "a sequel not in the catalogue"),
        ("Rocky IV", "another"),
        ("Rocky", "the first film, which is only in the list of others"),
        ("The Godfather", "the first part, where only the second is in the catalogue"),
        ("The Godfather Part III", "the third"),
        ("Kill Bill: Vol. 2", "the second volume"),
        ("Back to the Future Part II", "the second part"),
        ("Blade Runner", "the film before the sequel"),
        ("Spider-Man 2", "sequel by a digit"),
        ("Star Wars: Episode VI - The Empire Strikes Back", "another episode's number"),
        ("King Kong (1976)", "a remake that is only in the list of others"),
        ("Casablanca (1990)", "a year far off: another film"),
        ("The Man in the Moon", "a known other film, one letter away"),
        ("Analyze That", "one word changed"),
        ("Before Sunset", "the sequel, a few letters away"),
        ("Die Hard with a Vengeance", "a title that begins like another"),
        ("Hard", "half a title; 'die' is no article here"),
        ("The Usual Suspects and Alien", "two titles"),
        ("Alien, Amelie, Casablanca", "a list of titles"),
        ("Plan 9 from Outer Space", "not in the catalogue"),
        ("Title of a film (1999)", "the example's words"),
        ("The", "an article"),
        ("(1995)", "a year alone"),
        ("...", "punctuation"),
        ("电影", "another script"),
        ("Alien " * 1000, "a flood"),
        ("(" * 5000, "a flood that regular expressions dislike"),
    ],
)
def test_near_misses_are_other_films(ratings, written, reason):
    assert result(ratings, written) == {"score": -1.0, "identity": None}, reason


SPELLINGS = [
    "The Good, the Bad and the Ugly",
    "The Good, the Bad and the Ugly (1966)",
    "Good, the Bad and the Ugly, The",
    "Good, the Bad and the Ugly, The (1966)",
    "Good, the Bad and the Ugly",
    "Good, Bad and Ugly",
    "The Good the Bad and the Ugly",
    "The Good, the Bad, and the Ugly",
    "The Good, the Bad & the Ugly",
    "The Good - the Bad - and the Ugly",
    "The Good/the Bad/and the Ugly!",
    "THE GOOD, THE BAD AND THE UGLY (1968)",
    " the good,\n the bad and  the ugly [1966]",
    "The Good, the Bad and the Ugly, 1966",
    "The Good, the Bad and the Ugly - 1966",
    "The Good, the Bad and the Ugly 1966",
    "The Good, the Bad and the Ugly (1967)",
    "The Good, the Bad and the Ugly (1966, Sergio Leone)",
    "**The Good, the Bad and the Ugly** (1966)",
    '"The Good, the Bad and the Ugly" (1966).',
    "\u201cThe Good, the Bad and the Ugly\u201d",
    "The Góod, the Bäd and the Ugly",
    "The Go\u0301od, the Bad and the Ugly",
    "The \uff27\uff4f\uff4f\uff44, the Bad and the Ugly",
    "The Goood, the Bad and the Ugly",
    "The Good, the Bda and the Ugly",
    "The Good, the Bad and the Ugli (1966)",
    "Il buono, il brutto, il cattivo",
    "Buono, il brutto, il cattivo, Il (1966)",
]


def test_all_spellings_of_a_film_are_that_film(ratings):
    by_text = {" ".join(spelling.casefold().split()) for spelling in SPELLINGS}
    assert len(by_text) == len(SPELLINGS) >= 20, "each is another text"
    for history in ([], [TITLES[UGLY]]):
        found = [result(ratings, spelling, history=history) for spelling in SPELLINGS]
        reward = -2.0 if history else (UGLY + 1) / 8
        assert found == [{"score": reward, "identity": UGLY}] * len(SPELLINGS)


@pytest.mark.parametrize("keywords", [{}, {"exact": True}, {"year_tolerance": None}])
def test_films_of_one_name_are_different_films(ratings, keywords):
    """The year tells; without it the more popular film is meant."""
    for written, film in [
        ("King Kong (2005)", KONG),
        ("King Kong (1933)", OLD_KONG),
        ("king  kong", KONG),
    ]:
        reward = (film + 1) / 8
        assert result(ratings, written, **keywords) == {"score": reward, "identity": film}


def test_every_title_is_itself_as_published_and_as_shown(ratings):
    for column, title in enumerate(TITLES):
        for written in (title, str(split_title(title))):
            assert score(ratings, written) == (column + 1) / 8, written


def test_the_viewer_decides(ratings):
    assert score(ratings, "Alien", viewer="12") == score(ratings, "Alien") + 10
    assert score(ratings, "Alien", viewer=12) == 10.25, "an id that parquet made a number"


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("history", [["Alien (1979)"], np.array(["Alien (1979)"], dtype=object)])
def test_films_of_the_history_score_what_the_config_says(ratings, history, exact):
    extra = {"history": history, "index": 3}
    keywords = {"extra_info": extra, "ratings": ratings, "exact": exact}
    for written in ("Alien", "ALIEN (1980)"):
        assert stars("n", written, "7", **keywords) == 0.0
        assert stars("n", written, "7", **keywords, seen_reward=-0.5) == -0.5
    assert stars("n", "Rocky III", "7", **keywords) == 5 / 8
    assert stars("n", "King Kong", "7", {"history": ["King Kong (1933)"]}, ratings) > 0


def test_extra_information_is_optional(ratings):
    for extra in (None, {}, {"history": None}):
        assert stars("n", "Alien", "7", extra, ratings=ratings) == 0.25


@pytest.mark.parametrize(
    ("written", "film", "reason"),
    [
        ("Usual Suspects, The (1995)", SUSPECTS, "as the table has it"),
        ("Usual Suspects, The", SUSPECTS, "the year may be left out"),
        ("Usual Suspects, The (1931)", SUSPECTS, "or be another"),
        ("  usual\n SUSPECTS, the ", SUSPECTS, "case and white space do not matter"),
        ("Mise\u0301rables, Les", MISERABLES, "the accent as a combining mark"),
        ("2001: A Space Odyssey", SPACE, "a year at the start is the title's"),
        ("The Usual Suspects", None, "the article elsewhere"),
        ("Usual Suspects", None, "no article"),
        ("A Space Odyssey", None, "half a title"),
        ("Miserables, Les", None, "no accent"),
        ("Casablnca", None, "a letter lost"),
        ("Alien and Casablanca", None, "two titles"),
        ("Plan 9 from Outer Space", None, "not in the catalogue"),
        ("", None, "empty"),
    ],
)
def test_exact_titles(ratings, written, film, reason):
    reward = -1.0 if film is None else (film + 1) / 8
    found = result(ratings, written, exact=True)
    assert type(found["score"]) is float
    assert found == {"score": reward, "identity": film}, reason


def test_inventions_score_what_the_config_says(ratings):
    assert stars("n", "No Such Film", "7", ratings=ratings) == 0.0
    assert stars("n", "No Such Film", "7", ratings=ratings, unknown_reward=1.5) == 1.5


@pytest.mark.parametrize(
    ("threshold", "film"), [(100, None), (90, CASABLANCA), (85, CASABLANCA), (91, None)]
)
def test_threshold(ratings, threshold, film):
    # One letter of ten changed: 90% alike.
    expected = -1.0 if film is None else (film + 1) / 8
    assert score(ratings, "Casablamca", threshold=threshold) == expected


@pytest.mark.parametrize(
    ("year", "tolerance", "known"),
    [(1942, 0, True), (1943, 0, False), (1944, 2, True), (1945, 2, False), (1990, None, True)],
)
def test_year_tolerance(ratings, year, tolerance, known):
    reward = score(ratings, f"Casablanca ({year})", year_tolerance=tolerance)
    assert reward == ((CASABLANCA + 1) / 8 if known else -1.0)


def test_a_name_halfway_between_two_films_is_neither(tmp_path):
    np.savez(
        tmp_path / "r.npz",
        ratings=np.array([[1.0, 2.0]]),
        viewers=np.array(["7"]),
        titles=np.array(["Summer Light (1990)", "Summer Night (1991)"]),
        other_titles=np.array(""),
    )
    path = str(tmp_path / "r.npz")
    assert score(path, "Summer Right") == -1.0
    assert score(path, "Sumer Light") == 1.0


@pytest.mark.parametrize(
    ("text", "name", "others", "year"),
    [
        ("Toy Story (1995)", "Toy Story", [], 1995),
        ("Usual Suspects, The (1995)", "The Usual Suspects", [], 1995),
        ("Usual Suspects, The", "The Usual Suspects", [], None),
        ("Bug's Life, A (1998)", "A Bug's Life", [], 1998),
        ("  Ice  Storm, The ", "The Ice Storm", [], None),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", [], 1968),
        ("Seven (a.k.a. Se7en) (1995)", "Seven", ["Se7en"], 1995),
        ("Butcher Boy, The (Boucher, Le) (1997)", "The Butcher Boy", ["Le Boucher"], 1997),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", [], 1975),
        ("Sex, Lies, and Videotape", "Sex, Lies, and Videotape", [], None),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", [], 2009),
        ("Summer of '42 (1971)", "Summer of '42", [], 1971),
        ("", "", [], None),
    ],
)
def test_split_title(text, name, others, year):
    assert split_title(text) == (name, others, year)


def test_keys_of_different_films_differ():
    keys = [title_key(split_title(title).name) for title in TITLES + OTHERS]
    twice = {key for key in keys if keys.count(key) > 1}
    assert twice == {"king kong"}


def test_called_as_verl_calls_it(ratings):
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    config = OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {
                    "path": inspect.getfile(films),
                    "name": "compute_score",
                    "reward_kwargs": {"ratings": ratings, "unknown_reward": 0.25},
                }
            }
        }
    )
    function = get_custom_reward_fn(config)
    arguments = {"data_source": "netflix", "ground_truth": "7", "reward_router_address": None}
    extra = {"history": [], "candidate_index": 0, "num_candidates": 5}
    for title, given, stars, film in [
        ("Alien", extra, 0.25, ALIEN),
        ("Amelie", extra, 0.375, AMELIE),
        ("Nothing", None, 0.25, None),
    ]:
        found = function(solution_str=title, extra_info=given, **arguments)
        assert found == {"score": stars, "identity": film}


def test_table_is_read_once_a_process(ratings):
    load_catalogue(ratings)
    before = films._read_catalogue.cache_info().misses
    for title in ("Alien", "nothing"):
        score(ratings, title)
    assert films._read_catalogue.cache_info().misses == before


def test_errors_say_what_to_do(ratings, tmp_path):
    with pytest.raises(ValueError, match=r"reward_kwargs\.ratings=PATH"):
        compute_score("netflix", "Alien", "7")
    with pytest.raises(FileNotFoundError, match=r"shape_grpo\.tasks netflix"):
        compute_score("netflix", "Alien", "7", ratings=str(tmp_path / "none.npz"))
    for task in ("movielens", "netflix"):
        with pytest.raises(ValueError, match=rf"'99' is not in .*ratings\.npz.* `tasks {task}`"):
            compute_score(task, "Alien", "99", ratings=ratings)
    for threshold in (0, 0.85 * 1000, -1):
        with pytest.raises(ValueError, match=r"reward_kwargs\.threshold="):
            compute_score("netflix", "Alien", "7", ratings=ratings, threshold=threshold)
