import copy
import pickle

import pytest

from shape_grpo.candidates.formats import Function
from tests.candidates.formats.finding import check_prefixes, texts

WORDS = r"""
from __future__ import annotations
import re
from dataclasses import dataclass

@dataclass
class Options:
    pattern: str = r"[^\s.,]+"

def find_candidates(answer: str):
    for match in re.finditer(Options().pattern, answer):
        yield match.span()

def upper(answer):
    return [list(match.span()) for match in re.finditer("[A-Z]+", answer)]

def none(answer):
    pass

def two(answer, cut):
    return []

number = 3
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.py").write_text(WORDS)
    return tmp_path / "words.py"


def yielding(file, items):
    file.write_text(f"def find_candidates(answer):\n    yield from {items}\n")
    return Function("words.py")


def test_the_function_finds_candidates():
    assert texts(Function("words.py"), "a bc, d") == ["a", "bc", "d"]
    assert texts(Function("words.py", "upper"), "A bC") == ["A", "C"]


def test_white_space_goes(file):
    assert texts(yielding(file, [(0, 3)]), " a ") == ["a"]


def test_a_cut_answer(file):
    assert texts(Function("words.py"), "a b", cut=True) == ["a", "b…"]
    assert texts(Function("words.py"), "a b.", cut=True) == ["a", "b"]


def test_a_function_may_know_what_is_closed(file):
    format = yielding(file, [(0, 1, True), (1, 2, True), (2, 2, False)])
    assert texts(format, "ab", cut=True) == ["a", "b", "…"]


NOT_LOADED = [
    ({"path": "nowhere.py"}, r"^path=nowhere.py: there is no such file \(/.*nowhere.py\)"),
    ({"path": "."}, r"^path=\.: there is no such file"),
    ({"path": None}, "^path=None: must be the path of a Python file"),
    ({"path": "words.txt"}, r"^path=words.txt: must end in .py"),
    ({"path": "broken.py"}, r"^path=broken.py: it cannot be imported \(ZeroDivisionError: div"),
    ({"path": "syntax.py"}, r"^path=syntax.py: it cannot be imported \(SyntaxError"),
    ({"path": "words.py", "name": "x"}, r"^path=words.py: it has no function x\. Write def x\("),
    ({"path": "words.py", "name": "number"}, "it has no function number"),
    ({"path": "words.py", "name": ""}, "^name='': must be the name of a function"),
    ({"path": "words.py", "name": "two"}, r"^name=two: must be called with one argument.*'cut'"),
    ({"path": "words.py", "example": "- "}, "^example='- ': must be one candidate"),
    ({"path": "words.py", "example": "a {candidate}"}, r"finds \['a', 'firsta', 'second'\]"),
]


@pytest.mark.parametrize(("options", "message"), NOT_LOADED)
def test_functions_that_are_refused(options, message, tmp_path):
    (tmp_path / "words.txt").write_text(WORDS)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "syntax.py").write_text("def")
    with pytest.raises(ValueError, match=message):
        Function(**options)


OFFSETS = [
    ([(1, 0)], r"find_candidates of words.py yielded \(1, 0\): must lie between 0 .* and 3"),
    ([(0, 4)], r"yielded \(0, 4\): must lie between 0"),
    ([(-1, 2)], r"yielded \(-1, 2\): must lie between 0"),
    ([(0, 2), (1, 3)], r"yielded \(1, 3\): must lie between 2 \(the end of the candidate before"),
    (["ab"], r"yielded 'ab': must be two offsets"),
    ([(0,)], r"yielded \(0,\): must be two offsets"),
    ([(0, 1, "a")], r"yielded \(0, 1, 'a'\): must be two offsets"),
    ([(0, 1.0)], r"yielded \(0, 1.0\): must be two offsets"),
    ([(False, True)], r"yielded \(False, True\): must be two offsets"),
    ([None], r"yielded None: must be two offsets"),
]


@pytest.mark.parametrize(("items", "message"), OFFSETS)
def test_offsets_that_are_refused(items, message, file):
    with pytest.raises(ValueError, match=message):
        texts(yielding(file, items), "abc")


def test_a_function_that_returns_nothing():
    with pytest.raises(ValueError, match=r"none of words.py returned None: must yield pairs"):
        texts(Function("words.py", "none"), "a")


def test_the_file_is_loaded_once(file):
    counting = "open('loads', 'a').write('x')\ndef find_candidates(answer): return []\n"
    file.write_text(counting)
    for _ in range(3):
        texts(Function("words.py"), "a")
    assert file.with_name("loads").read_text() == "x"


def test_copies():
    format = Function("words.py", example="{candidate}\n")
    for twin in (copy.deepcopy(format), pickle.loads(pickle.dumps(format))):
        assert twin == format
        assert texts(twin, "a b") == ["a", "b"]


def test_round_trip_and_prefixes():
    format = Function("words.py", example="{candidate}\n")
    answer = format.write(["Heat", "Ran", "Tár"])
    assert texts(format, answer) == ["Heat", "Ran", "Tár"]
    check_prefixes(format, answer)
    assert Function("words.py").write(["a"]) is None
