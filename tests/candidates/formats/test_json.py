import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_grpo.candidates.formats import Json
from tests.candidates.formats.finding import check_prefixes, found, steady, texts

STRINGS = [
    ('["a", "b"]', ["a", "b"], "array of strings"),
    ('["a"]', ["a"], "one item"),
    ('[" a\\n"]', ["a"], "white space goes, also where it is escaped"),
    ('["a", "", " "]', ["a", "", ""], "empty items"),
    ('Sure: ["a", "b"]. Enjoy!', ["a", "b"], "in prose"),
    ('```json\n["a",\n "b"]\n```', ["a", "b"], "in a code block"),
    ('{"films": ["a", "b"], "n": 2}', ["a", "b"], "in an object"),
    ('{"note": "see [\\"x\\"]", "films": ["a"]}', ["a"], "an array in a string is text"),
    ('{"a": {"b": [{"c": ["a"]}]}}', ["a"], "deep inside"),
    ('["a"] or ["b"]', ["a"], "only the first array"),
    ('{"x": ["a"], "y": ["b"]}', ["a"], "only the first array of an object"),
    ('[["a"], ["b"]]', ["a"], "arrays in an array"),
    ('[["a"], "b"]', ["b"], "the outer array holds a candidate, and begins first"),
    ('[1, null, "a", true, {"b": "c"}, -1.5e3]', ["a"], "items of other kinds"),
    ('As in [1] and [2, 3]: ["a"]', ["a"], "citations"),
    ('[the list](http://a.b) is ["a"]', ["a"], "link"),
    ('["the list"](http://a.b) is ["a"]', ["a"], "link whose text is quoted"),
    ('- [ ] do\n- [x] done\n["a"]', ["a"], "checkboxes"),
    ('[] {} [{}] [[]] [null] ["a"]', ["a"], "arrays without candidates"),
    ('{x: 1} {"y"} {"z": } ["a"]', ["a"], "no objects"),
    ("['a', 'b']", [], "not the quotes of JSON"),
    ('"a", "b"', [], "no array"),
    ('{"text": "a"}', [], "no array, but an object"),
    ("", [], "nothing"),
    ('["a" "b"]', ["a", "b"], "missing comma"),
    ('["a",, "b",]', ["a", "b"], "surplus commas"),
    ('["a", "b", oops, "c"]', ["a", "b"], "ends at a fault"),
    ('["a"} "b"]', ["a"], "wrong bracket"),
    ('["a": "b"]', ["a"], "colon in an array"),
    ('[oops, "a"] ["b"]', ["b"], "a fault before any item"),
    ('{"x" ["a"]}', ["a"], "missing colon"),
    ('{"x": ["a"] oops', ["a"], "fault behind the array"),
    ('["say \\"hi\\"", "a]b", "c\\\\"]', ['say "hi"', "a]b", "c\\"], "quotes, brackets, escapes"),
    ('["\\u00e9\\ud83d\\ude00\\/\\t."]', ["é😀/\t."], "all kinds of escapes"),
    ('["a\nb"]', ["a\nb"], "raw line break"),
    ('["\\d+ \\u12 \\x"]', ["\\d+ \\u12 \\x"], "unknown escapes stay"),
    ('["\\ud83d", "\\ude00\\ud83d"]', ["\ufffd", "\ufffd\ufffd"], "halves of characters"),
    ('["a", "b"', ["a", "b"], "bracket missing: the items are whole"),
    ('["a", "b', ["a", "b…"], "quote missing"),
    ('["a", "', ["a", "…"], "cut behind a quote"),
    ('["a", ', ["a"], "cut behind a comma"),
    ('["a\\', ["a…"], "half an escape"),
    ('["a\\\\', ["a\\…"], "a whole escape"),
    ('["a\\\\\\', ["a\\…"], "a whole escape and half of one"),
    ('["a\\u00', ["a…"], "half a code"),
    ('["a\\\\u00', ["a\\u00…"], "no code, but an escaped backslash"),
    ('["a\\ud83d\\ude', ["a…"], "half of the second code of a character"),
    ('["a\\ud83d', ["a…"], "only the first code of a character"),
    ('["a\\ud83d\\ude00', ["a😀…"], "both codes"),
]

OBJECTS = [
    ('[{"t": "a"}, {"t": "b"}]', ["a", "b"], "objects"),
    ('{"films": [{"year": 1995, "t": "a"}]}', ["a"], "other keys, in an object"),
    ('[{"x": {"t": "no"}, "t": "a", "y": [1, "}"]}]', ["a"], "nested values"),
    ('[{"t": "a", "t": "b"}]', ["b"], "key twice: the last"),
    ('[{"t": "a", "t": 1}, {"t": "b"}]', ["b"], "key twice: the last is no string"),
    ('[{"\\u0074": "a"}]', ["a"], "escape in the key"),
    ('[{"x": "a"}, "b", 1, {"t": 1}, {"t": "c"}]', ["c"], "items of other kinds"),
    ('["a", "b"] [{"t": "c"}]', ["c"], "strings are no candidates"),
    ('[{"sub": [{"t": "a"}]}, {"x": 1}]', ["a"], "an inner array"),
    ('[{"t": "a", "sub": [{"t": "b"}]}]', ["a"], "the outer array begins first"),
    ('{"t": "a"}', [], "no array"),
    ('[{"t": ["a"]}]', [], "no string"),
    ('[{"t": "a" "u": 1} {"t": "b"}]', ["a", "b"], "missing commas"),
    ('[{"t": "a"}, {"t" "b"}]', ["a"], "missing colon"),
    ('[{"t": "a"}, {"t": "b", oops}, {"t": "c"}]', ["a", "b…"], "fault in an object"),
    ('[{"t": "a"}, {"t": "b"', ["a", "b…"], "brace missing"),
    ('[{"t": "a"}, {"t": "b', ["a", "b…"], "quote missing"),
    ('[{"t": "a"}, {"t": "b", "u": "c', ["a", "b…"], "cut in another string"),
    ('[{"t": "a"}, {"t', ["a"], "cut in the key"),
    ('[{"t": "a"}, {"t": ', ["a"], "cut behind the key"),
    ('[{"t": "a"}', ["a"], "bracket missing: the objects are whole"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), STRINGS, ids=[c[2] for c in STRINGS])
def test_strings(text, expected, reason):
    assert texts(Json(), text) == expected


@pytest.mark.parametrize(("text", "expected", "reason"), OBJECTS, ids=[c[2] for c in OBJECTS])
def test_objects(text, expected, reason):
    assert texts(Json("t"), text) == expected


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("tu") | st.text(), inner),
)


def arrays(value):
    """All arrays in a value, in order of their first brackets."""
    if isinstance(value, list):
        yield value
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from arrays(inner)


def candidates(array, key):
    if key is not None:
        array = [item.get(key) for item in array if isinstance(item, dict)]
    return [item.strip() for item in array if isinstance(item, str)]


@steady
@given(VALUES, st.booleans(), st.sampled_from([None, 2]), st.sampled_from([None, "t"]))
def test_as_json_loads_reads_it(value, ensure_ascii, indent, key):
    text = json.dumps([value], ensure_ascii=ensure_ascii, indent=indent)
    each = (candidates(array, key) for array in arrays(json.loads(text)))
    expected = next(filter(None, each), [])
    assert found(Json(key), text) == [(item, True) for item in expected]


@steady
@given(st.lists(st.text().map(str.strip), min_size=1), st.sampled_from([None, "t"]))
def test_round_trip(written, key):
    assert texts(Json(key), Json(key).write(written)) == written


@pytest.mark.parametrize("key", [None, "t"])
@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_prefixes(key, ensure_ascii):
    items = ["Heat", 'a "b" \\ c', "😀é", "[x], {y}", "", "a\nb"]
    value = {"films": items if key is None else [{"n": "1", key: text} for text in items]}
    check_prefixes(Json(key), "Sure: " + json.dumps(value, ensure_ascii=ensure_ascii) + " [1]")


@pytest.mark.parametrize("key", ["", 1, ["t"]])
def test_refused_keys(key):
    with pytest.raises(ValueError, match=r"^key=.*: must be the name of a key"):
        Json(key)


# Each is up to a million characters long: work quadratic in the length would not end.
N = 100_000
HOSTILE = {
    "arrays": ("[" * N, 0),
    "objects": ("{" * N, 0),
    "arrays that fail": ("[x" * N, 0),
    "objects that fail": ('{"a" ' * N, 0),
    "objects in objects": ('{"a":' * N, 0),
    "objects in arrays": ('[{"a":' * N, 0),
    "objects, then a fault": ('{"a":' * N + "x" + "[" * N + "]" * N, 0),
    "strings that begin": ('["' * N, 1),
    "strings where none may stand": ('{"a" "' * N, 0),
    "strings": ('["a", ' + '"a",' * N, N + 1),
    "quotes": ('"' * N, 0),
    "quotes in an array": ("[" + '"' * N, N // 2),
    "escaped quotes": ('["' + '\\"' * N, 1),
    "escaped quotes in an object": ('{"a" "' + '{\\"a\\" \\"' * N, 0),
    "backslashes": ('["' + "\\" * (2 * N + 1), 1),
    "halves of characters": ('["' + "\\ud83d" * N, 1),
    "halves of codes": ('["' + "\\u00" * N, 1),
    "spaces": ("[" + " " * N, 0),
    "spaces before a string": ('{"a"' + " " * N + '"b"', 0),
    "spaces before a colon": ('{"a"' + " " * N + ":" + " " * N + '["b"', 1),
    "commas": ("[" + "," * N + '"a"', 1),
    "digits": ("[" + "1" * N, 0),
    "citations": ("[1] " * N, 0),
    "links": ('["a"](b) ' * N, 0),
    "empty arrays": ("[[]," * N, 0),
    "inner arrays with a candidate": ('[["a"],' * N, 1),
    "closing brackets": ("[" * N + "]" * N + '["a"]', 1),
}


@pytest.mark.parametrize("key", [None, "a"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name, key):
    text, expected = HOSTILE[name]
    assert len(found(Json(key), text, cut=True)) == (expected if key is None else 0)
