import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_grpo.candidates.formats import Fenced
from tests.candidates.formats.finding import check_prefixes, found, steady, texts

CASES = [
    ("```\na\n```", ["a"], "one"),
    ("x\n```python\na\nb\n```\ny\n~~~\nc\n~~~", ["a\nb", "c"], "any language, prose between"),
    ("```\n    a\n  b\n```", ["    a\n  b"], "the first line keeps its indentation"),
    ("```\n\n \n  a \n\n b  \n \n\n```", ["  a \n\n b"], "blank lines around go"),
    ("```\r\na\r\n\r\nb\r\n```\r\n", ["a\r\n\r\nb"], "Windows line ends"),
    ("   ```\n   a\n     b\n\n c\n   ```", ["a\n  b\n\nc"], "in an indented block"),
    ("\t```\n\ta\n\t\tb\n\t```", ["a\n\tb"], "indented by a tab"),
    ("1. ```\n   a\n   ```\n2. ```\n   b\n   ```", ["a", "b"], "in a list"),
    ("```\n```", [""], "empty"),
    ("  ```\n  ```", [""], "empty and indented"),
    ("```\n \n\n```", [""], "blank"),
    ("````\n```\na\n```\n````", ["```\na\n```"], "a block in a block"),
    ("Use `a` or ```b```.", [], "code in a sentence"),
    ("", [], "nothing"),
    ("```\na\n```\n```\nb\n", ["a", "b…"], "unclosed"),
    ("```\ndef f():\n    a\n    ", ["def f():\n    a…"], "cut in an indentation"),
    ("```\na\n``", ["a…"], "half a fence"),
    ("```\na``", ["a``…"], "backticks in a line"),
    ("```", ["…"], "cut behind a fence"),
    ("```py", ["…"], "cut in the first line"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), CASES, ids=[case[2] for case in CASES])
def test_fenced(text, expected, reason):
    assert texts(Fenced(), text) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (None, ["a", "b", "c", "d"]),
        ("python", ["b"]),
        ("PYTHON", ["b"]),
        (["python", "py"], ["b", "c"]),
        ("pyth", []),
    ],
)
def test_language(language, expected):
    text = "```\na\n```\n```Python x\nb\n```\n~~~ py\nc\n~~~\n```python3\nd\n```"
    assert texts(Fenced(language), text) == expected


@pytest.mark.parametrize("language", ["", "a b", [], [""], ["python", 3], 3, " python"])
def test_refused_languages(language):
    with pytest.raises(ValueError, match=r"^language=.*: must be a word"):
        Fenced(language)


# Code as `read` returns it: no blank lines around it, no white space at the end.
CODE = st.text("ab`~ \n", max_size=20).map(lambda text: text.strip("\n").rstrip())
CODE = CODE.filter(lambda text: text.split("\n")[0].strip() or not text)


@steady
@given(st.lists(CODE, min_size=1), st.sampled_from([None, "python", ["py", "python"]]))
def test_round_trip(written, language):
    assert texts(Fenced(language), Fenced(language).write(written)) == written


@pytest.mark.parametrize("language", [None, "python"])
def test_prefixes(language):
    code = ["def f():\n    return `x`", "", "    a\n\n~~\nb", "```\na\n```"]
    check_prefixes(Fenced(language), "Sure:\n" + Fenced("python").write(code) + "\nEnjoy `it`!")


# Each is up to a million characters long: work quadratic in the length would not end.
N = 100_000
HOSTILE = {
    "backticks": ("`" * N, 1),
    "longer and longer fences": ("\n".join("`" * n + "\n~" for n in range(3, 1000)), 499),
    "shorter and shorter fences": ("\n".join("`" * n for n in range(1000, 2, -1)), 1),
    "opening fences": ("```a\n" * N, 1),
    "fences": ("```\n" * N, N // 2),
    "fences in a line": ("``` " * N, 0),
    "tildes in a line": ("~~~ " * N, 1),
    "half fences": ("```\n" + "``\n" * N + "``", 1),
    "bullets": ("- " * N, 0),
    "spaces": (" " * N + "```\na\n" + " " * N + "```", 1),
    "spaces in a block": ("```\n" + " " * N, 1),
    "blank lines in a block": ("```\n" + " \n" * N + "a\n" + " \n" * N, 1),
    "indented lines": ("   ```\n" + "   a\n" * N + "   ```", 1),
    "newlines": ("\n" * N, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name):
    text, expected = HOSTILE[name]
    assert len(found(Fenced(), text, cut=True)) == expected
