"""Candidates are found in the text that they were read from, by every format that escapes."""

import json
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_grpo.candidates import parse_candidates
from shape_grpo.explain.spellings import find_written

TEXTS = st.text(st.sampled_from("ab 1\"'&<>;/\\\n\t\u00e9\u00a0\u20ac\U0001f3ac#xn{}"), max_size=12)


def read(text, **options):
    (candidate,) = parse_candidates(text, **options)
    return candidate


def check(text, candidate):
    """The candidate's own offsets are among those found."""
    found = find_written(text, candidate.text)
    assert (candidate.start, candidate.end) in found
    bounds = candidate.start, candidate.end
    assert find_written(text, candidate.text, *bounds)[0] == bounds


@given(TEXTS, st.booleans())
def test_a_string_of_json_is_found(text, ascii_alone):
    written = f"the array: {json.dumps([text], ensure_ascii=ascii_alone)}"
    candidate = read(written, format="json")
    # White space in escapes is no part of the text, and yet of the place.
    if candidate.text and candidate.text == text:
        check(written, candidate)


@given(TEXTS)
def test_entities_are_found(text):
    written = f"<candidate>{escape(text)}</candidate>"
    candidate = read(written, format_options={"unescape": True})
    if candidate.text:
        check(written, candidate)


@pytest.mark.parametrize("written", ["&amp;", "&AMP", "&#38;", "&#038", "&#x26;", "&#X0026;", "&"])
def test_every_entity_of_a_character_is_found(written):
    text = f"<candidate>Tom {written} Jerry's</candidate>"
    candidate = read(text, format_options={"unescape": True})
    assert candidate.text == "Tom & Jerry's"
    check(text, candidate)


@pytest.mark.parametrize("written", ["\\u00E9", "\\u00e9", "\u00e9"])
def test_every_escape_of_a_character_is_found(written):
    text = f'["caf{written} \\/ \\ud83C\\udfac \\q"]'
    candidate = read(text, format="json")
    assert candidate.text == "caf\u00e9 / \U0001f3ac \\q"
    check(text, candidate)


def test_what_looks_like_an_entity_is_text_where_entities_are_not_read():
    text = "<candidate>Tom &amp; Jerry</candidate>"
    candidate = read(text)
    assert candidate.text == "Tom &amp; Jerry"
    check(text, candidate)


def test_indented_code_is_found():
    text = "- it:\n  ```\n  if a:\n    b\n  ```\n"
    candidate = read(text, format="fenced")
    assert candidate.text == "if a:\n  b"
    check(text, candidate)


def test_a_run_of_backslashes_takes_no_time():
    assert find_written("\\" * 5000 + "y", "\\" * 3000 + "x") == []
