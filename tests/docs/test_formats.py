"""The examples of docs/formats.md as they stand."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from shape_grpo.candidates import FORMATS, make_format, parse_candidates
from shape_grpo.candidates.families import FAMILIES

TEXT = (Path(__file__).parents[2] / "recipe/shape_grpo/docs/formats.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| .*? \|(.*)\|$", TEXT, flags=re.MULTILINE))
del ROWS["format"]
FUNCTION, CLASS, _ = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_every_format_has_its_row_and_every_option_is_named():
    shipped = {name for name, kind in FORMATS.items() if kind.__module__.startswith("shape_grpo.")}
    assert set(ROWS) == shipped
    for name, options in ROWS.items():
        for field in fields(FORMATS[name]):
            # `example` of a function is as for regex.
            assert field.name in options, (name, field.name)


def test_a_function_finds_what_it_yields(tmp_path):
    path = tmp_path / "my_format.py"
    path.write_text(FUNCTION)
    found = parse_candidates("a; b ;c", format="function", format_options={"path": str(path)})
    assert [candidate.text for candidate in found] == ["a", "b", "c"]


def test_a_class_is_a_format_with_options():
    try:
        exec(CLASS, {"__name__": "mine"})
        separated = make_format("separated", {"separator": "|"})
        found = parse_candidates("a | b", format=separated, truncated=True)
        assert [(c.text, c.closed) for c in found] == [("a", True), ("b", False)]
        assert separated.write(["a", "b"]) == "a|b"
        with pytest.raises(ValueError, match="has no option 'seperator'"):
            make_format("separated", {"seperator": "|"})
    finally:
        FORMATS.pop("separated", None)


def test_marks_that_are_named_are_known():
    section = TEXT.split("## Thoughts")[1].split("For other marks")[0]
    known = {marks.open for marks in FAMILIES}
    named = set(re.findall(r"`([<\[◁][^`]+)`", section))
    assert len(named) >= 8 and named <= known
