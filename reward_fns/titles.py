"""Titles of films, taken apart and compared as people write them."""

import html
import re
import unicodedata
from typing import NamedTuple

APOSTROPHES = "'\u2019\u2018`\u00b4\u02bc\u2032\uff07"
# Film lists write articles behind a comma. English; French; Italian; Spanish; German; Portuguese;
# Dutch; Danish, Norwegian and Swedish.
ARTICLES = (
    "the a an da",
    "le la les un une des",
    "il lo la i gli le un uno una",
    "el la los las lo un una unos unas",
    "der die das den ein eine",
    "o a os as um uma",
    f"de het een [{APOSTROPHES}]t",
    "den det de en ett et",
)
BEHIND = re.compile(
    rf"\s*(?:((?:l|un|gl)[{APOSTROPHES}])|({'|'.join(' '.join(ARTICLES).split())}))(\W*)", re.I
)
# Letters that Unicode does not take apart into a letter and an accent.
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe"})
NO_APOSTROPHES = str.maketrans("", "", APOSTROPHES)
NUMBERS = {
    word: str(number)
    for words in (
        "one two three four five six seven eight nine ten eleven twelve thirteen",
        "i ii iii iv v vi vii viii ix x xi xii xiii",
    )
    for number, word in enumerate(words.split(), 1)
}
PARTS = {"part", "pt", "vol", "volume", "episode", "chapter"}


class Title(NamedTuple):
    """A title taken apart: "Usual Suspects, The (a.k.a. Suspects) (1995)".

    name "The Usual Suspects", others ["Suspects"], year 1995 (or None).
    """

    name: str
    others: list[str]
    year: int | None

    def __str__(self) -> str:
        return self.name if self.year is None else f"{self.name} ({self.year})"


def split_title(text: str) -> Title:
    """Take apart a title as MovieLens, Netflix or a policy writes it."""
    text = re.sub(r"\[(\d{4})\]", r"(\1)", plain(text))
    name = re.sub(r"(?<=\S)(\s*\([^()]*\))+\W*$", "", text)
    year, others = None, []
    for group in re.findall(r"\(([^()]*)\)", text[len(name) :]):
        if found := re.match(r"((?:18|19|20)\d\d)\b", group):
            year = int(found[1])
        else:
            others.append(article_first(re.sub(r"^a\.?k\.?a\.? ", "", group)))
    return Title(article_first(name), others, year)


def plain(text: str) -> str:
    """Return a text composed (NFC), with HTML's entities as characters, and with single spaces."""
    text = re.sub("&#?[0-9A-Za-z]+;", lambda entity: html.unescape(entity[0]), text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def article_first(name: str) -> str:
    """Return a name with the article in front: "Avventura, L'" -> "L'Avventura"."""
    name = name.strip()
    front, _, last = name.rpartition(",")
    match = BEHIND.fullmatch(last)
    if not front.strip() or match is None:
        return name
    elided, article, closing = match.groups()
    # Quotes or Markdown around the whole name.
    leading = re.match(r"\W*", front)
    opening = leading[0] if closing and leading else ""
    return f"{opening}{elided or article + ' '}{front[len(opening) :]}{closing}"


def title_key(name: str) -> str:
    """Return the part of a name that is compared: "The Godfather: Part II" -> "godfather 2"."""
    name = unicodedata.normalize("NFKD", name.casefold().translate(NO_APOSTROPHES))
    name = "".join(letter for letter in name if not unicodedata.combining(letter))
    name = name.translate(LETTERS)
    name = name.replace("&", " and ")
    name = re.sub(r"(?<=\d),(?=\d{3})", "", name)
    name = re.sub(r"^\W*(the|an?)\s+(?=\w)", "", name)
    name = re.sub(r"(?<=[^\W\d])(?=\d)|(?<=\d)(?=[^\W\d])", " ", name)
    words: list[str] = []
    for word in re.findall(r"[^\W_]+", name):
        after_part = bool(words) and words[-1] in PARTS
        # "I, Robot", "V for Vendetta" and "X-Men" hold no numbers; "Rocky V" does.
        letter = (word == "i" and not after_part) or (word in ("v", "x") and not words)
        number = word if letter else NUMBERS.get(word, word)
        if number.isdigit() and after_part:
            words.pop()
        if word != "the":
            words.append(number)
    return " ".join(words)


def spelling(title: str) -> str:
    """Return the title without differences of case, white space or encoding."""
    return " ".join(unicodedata.normalize("NFKC", plain(title)).casefold().split())


def without_year(title: str) -> str:
    """Return the title without a final "(1995)"."""
    return re.sub(r"\s*\(\d{4}\)$", "", title)
