import random

import pytest

from shape_grpo.candidates.formats import Lines
from tests.candidates.formats.finding import check_prefixes, found, texts

CASES = [
    ("a\nb", ["a", "b"], "two lines"),
    ("\n\n a  b \n\t\n\nc\n", ["a  b", "c"], "blank lines, and white space around"),
    ("a\r\n\r\nb\r\n", ["a", "b"], "Windows line ends"),
    ("- a\n1. b", ["- a", "1. b"], "markers are text"),
    ("a\u2028b\x0bc", ["a\u2028b\x0bc"], "only a line break ends a line"),
    ("```python\na\n\nb\n```\nc", ["a", "b", "c"], "fences are no candidates"),
    ("```\na\n``", ["a"], "half a fence is no candidate"),
    ("1. ```\n   a\n   ```", ["a"], "a fence in a list"),
    ("```x```", ["```x```"], "code in a sentence"),
    ("``", ["``"], "no fence"),
    ("", [], "nothing"),
    (" \n\t\n", [], "blank"),
]

MARKED = [
    ("- a\n- b", ["a", "b"], "two items"),
    ("Sure:\n\n- a\n  - b\n\t-   c \nEnjoy!", ["a", "b", "c"], "prose, and white space in front"),
    ("-a\n* b\n-\n", [], "not the marker"),
    ("- \n- - b", ["", "- b"], "an empty item, and the marker twice"),
    ("- ```\n- a\n```", ["a"], "a fence behind the marker"),
    ("-", [], "half a marker"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), CASES, ids=[case[2] for case in CASES])
def test_lines(text, expected, reason):
    assert texts(Lines(), text) == expected


@pytest.mark.parametrize(("text", "expected", "reason"), MARKED, ids=[case[2] for case in MARKED])
def test_lines_with_a_marker(text, expected, reason):
    assert texts(Lines("- "), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", ["a", "b…"]),
        ("a\nb ", ["a", "b…"]),
        ("a\nb\n", ["a", "b"]),
        ("```\na\n``", ["a"]),
        ("```\na", ["a…"]),
        ("a\n```", ["a"]),
    ],
)
def test_a_cut_answer(text, expected):
    assert texts(Lines(), text, cut=True) == expected


@pytest.mark.parametrize("marker", ["", " ", " - ", "-\n", 1, ["-"]])
def test_refused_markers(marker):
    with pytest.raises(ValueError, match=r"^marker=.*: must be what each line starts with"):
        Lines(marker)


def test_against_split():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices(["a", "b", "- ", "-", " ", "\n", "\n\n", "\t", "é"], k=20))
        lines = [line.strip() for line in text.split("\n")]
        assert texts(Lines(), text) == [line for line in lines if line]
        lines = [line.lstrip() for line in text.split("\n")]
        marked = [line[2:].strip() for line in lines if line.startswith("- ")]
        assert texts(Lines("- "), text) == marked


@pytest.mark.parametrize("marker", [None, "- ", "Film: "])
def test_round_trip_and_prefixes(marker):
    written = ["Heat", "a - b", "😀", "x"]
    answer = Lines(marker).write(written)
    assert texts(Lines(marker), answer) == written
    check_prefixes(Lines(marker), f"{answer}\n")
    check_prefixes(Lines(marker or "H"), f"```\n{answer}\n```")
    assert Lines(marker).write(["a\nb"]) is None


# Each is up to a million characters long: work quadratic in the length would not end.
N = 100_000
HOSTILE = {
    "newlines": ("\n" * N, None, 0),
    "spaces": (" " * N, None, 0),
    "lines": ("a\n" * N, None, N),
    "one line": ("a" * N, None, 1),
    "markers": ("- " * N, "- ", 1),
    "lines with markers": ("- a\n" * N, "- ", N),
    "indented markers": (" " * N + "- a", "- ", 1),
    "fences": ("```\n" * N, None, 0),
    "opening fences": ("```a\n" * N, None, N - 1),
    "backticks": ("`" * N, None, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name):
    text, marker, expected = HOSTILE[name]
    assert len(found(Lines(marker), text, cut=True)) == expected
