"""Articles behind a comma in the languages of the film lists, entities, and forms of Unicode."""

import html
import unicodedata

import numpy as np
import pytest

from reward_fns.films import Catalogue
from reward_fns.titles import article_first, plain, split_title, title_key

BEHIND = [
    ("Usual Suspects, The", "The Usual Suspects"),
    ("Bug's Life, A", "A Bug's Life"),
    ("Hip Hop Witch, Da", "Da Hip Hop Witch"),
    ("Avventura, L'", "L'Avventura"),
    ("Âge d'Or, L'", "L'Âge d'Or"),
    ("Chien andalou, Un", "Un Chien andalou"),
    ("Liaison pornographique, Une", "Une Liaison pornographique"),
    ("Hommes et des dieux, Des", "Des Hommes et des dieux"),
    ("Squartatore di New York, Lo", "Lo Squartatore di New York"),
    ("Vitelloni, I", "I Vitelloni"),
    ("Indifferenti, Gli", "Gli Indifferenti"),
    ("Altra vita, Un'", "Un'Altra vita"),
    ("Imposible, Lo", "Lo Imposible"),
    ("Olvidados, Los", "Los Olvidados"),
    ("Hombres buenos, Unos", "Unos Hombres buenos"),
    ("Himmel über Berlin, Der", "Der Himmel über Berlin"),
    ("Freund von mir, Ein", "Ein Freund von mir"),
    ("Pagador de promessas, O", "O Pagador de promessas"),
    ("Canção de Lisboa, A", "A Canção de Lisboa"),
    ("Filme falado, Um", "Um Filme falado"),
    ("Aanslag, De", "De Aanslag"),
    ("Meisje met het rode haar, Het", "Het Meisje met het rode haar"),
    ("Schaep met de vijf pooten, 't", "'t Schaep met de vijf pooten"),
    ("Sjunde inseglet, Det", "Det Sjunde inseglet"),
    ("Brysomme mannen, Den", "Den Brysomme mannen"),
    ("Fem benspænd, De", "De Fem benspænd"),
    ("Kärlekshistoria, En", "En Kärlekshistoria"),
    ("Hus i Oslo, Et", "Et Hus i Oslo"),
    ("Anständigt liv, Ett", "Ett Anständigt liv"),
]
WAYS = {
    "as it is": str,
    "lower case": str.lower,
    "upper case": str.upper,
    "NFD": lambda name: unicodedata.normalize("NFD", name),
    "curly": lambda name: name.replace("'", "\u2019"),
    "an accent for an apostrophe": lambda name: name.replace("'", "\u00b4"),
    "entities": lambda name: html.escape(name).encode("ascii", "xmlcharrefreplace").decode(),
    "markdown": "**{}**".format,
    "quoted": '"{}"'.format,
    "dot": "{}.".format,
    "white space": lambda name: f" {name.replace(' ', '  ')}\n",
    "a year": "{} (1960)".format,
    "a bare year": "{}, 1960".format,
    "a bold name and a year": "**{}** (1960)".format,
}


@pytest.mark.parametrize(("behind", "in_front"), BEHIND)
def test_an_article_behind_the_comma_belongs_in_front(behind, in_front):
    assert article_first(behind) == in_front == article_first(in_front)
    assert split_title(f"Some Name ({behind}) (1960)").others == [in_front]
    assert split_title(f"{behind} (1960)") == (in_front, [], 1960)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("published", [0, 1], ids=["behind", "in_front"])
def test_both_ways_of_writing_find_the_film(way, published):
    titles = [f"{names[published]} (1960)" for names in BEHIND]
    catalogue = Catalogue(np.zeros((1, len(titles))), ["7"], titles, [])
    for column, names in enumerate(BEHIND):
        for name in names:
            assert catalogue.find(WAYS[way](name), 100, 2) == column, name


@pytest.mark.parametrize("way", ["as it is", "NFD", "entities", "white space", "lower case"])
def test_a_second_name_of_a_film_finds_it(way):
    titles = [f"Film {chr(97 + n)} ({behind}) (1960)" for n, (behind, _) in enumerate(BEHIND)]
    catalogue = Catalogue(np.zeros((1, len(titles))), ["7"], titles, [])
    for column, names in enumerate(BEHIND):
        for name in names:
            assert catalogue.find(WAYS[way](name), 100, 2) == column, name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Paris, Texas", "a place"),
        ("Lust, Caution", "a word"),
        ("One, Two, Three", "a number"),
        ("Kiss Me, Guido", "a name"),
        ("Patrik 1,5", "a decimal comma"),
        ("Deux, trois, L", "a letter without an apostrophe"),
        (", The", "nothing in front of the comma"),
        ("The", "an article alone"),
        ("", "nothing"),
        ("Def by Temptation, Thee", "more than an article"),
    ],
)
def test_what_is_no_article_stays(name, reason):
    assert article_first(name) == name, reason


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Pride &amp; Prejudice", "Pride & Prejudice"),
        ("Schindler&#39;s List", "Schindler's List"),
        ("Schindler&#x27;s List", "Schindler's List"),
        ("Am&eacute;lie", "Amélie"),
        ("Ame\u0301lie", "Amélie"),
        ("Alien&nbsp;3", "Alien 3"),
        ("Q&A; more", "Q&A; more"),
        ("R&B", "R&B"),
        ("Mum&copy", "Mum&copy"),
        ("&;", "&;"),
    ],
)
def test_entities_and_forms_of_unicode_are_characters(written, expected):
    assert plain(written) == expected == plain(plain(written))


@pytest.mark.parametrize("name", ["Amélie", "Ǿre", "Cœur", "Ǽon", "Åse", "Căn", "Ốc", "Šaš", "ﬁlm"])
def test_the_forms_of_unicode_have_one_key(name):
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len({title_key(form) for form in forms | {name, name.upper()}}) == 1
    assert title_key("Cœur") == title_key("Coeur") and title_key("Ǿre") == title_key("Ore")


@pytest.mark.parametrize("written", ["Ame\u0301lie, Les", "Am&eacute;lie, les", "AMÉLIE, LES"])
def test_exact_spelling_is_of_characters_and_not_of_their_encoding(written):
    catalogue = Catalogue(np.zeros((1, 1)), ["7"], ["Amélie, Les (2001)"], [])
    assert catalogue.find_exact(written) == 0
    assert catalogue.find_exact("Les Amélie") is None
