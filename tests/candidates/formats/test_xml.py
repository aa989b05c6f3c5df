import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_grpo.candidates.formats import Xml
from tests.candidates.formats.finding import check_prefixes, found, steady, texts

CASES = [
    ({}, "<candidate> a </candidate>, <candidate>b</candidate>", ["a", "b"], "two, in prose"),
    ({}, "<candidate>a<candidate>b</candidate>", ["b"], "an opening tag starts anew"),
    ({}, "a</candidate><candidate>b</candidate>c</candidate>", ["b"], "closing tags alone"),
    ({}, "<Candidate>a</Candidate>< candidate>b</candidate>", [], "other case, spaces"),
    ({}, '<candidate id="1">a</candidate>', [], "attributes"),
    ({}, "<candidate1>a</candidate1>", [], "number"),
    ({}, "<candidate>a &amp; b</candidate>", ["a &amp; b"], "entities are text"),
    ({}, "<candidate></candidate>", [""], "empty"),
    ({}, "<candidate>a", ["a…"], "unclosed"),
    ({}, "<candidate>", ["…"], "unclosed and empty"),
    ({}, "<candidate>a</cand", ["a…"], "half a closing tag"),
    ({}, "<candidate>a</b", ["a</b…"], "half of another tag"),
    ({"tag": "answer"}, "<answer>a</answer><candidate>b</candidate>", ["a"], "another name"),
    ({"tag": "a.b"}, "<a.b>x</a.b><aXb>y</aXb>", ["x"], "a name with a dot"),
    ({"tag": "étude"}, "<étude>x</étude>", ["x"], "a name with an accent"),
    (
        {"attributes": True},
        '<candidate id="1">a</candidate><candidate>b</candidate><candidates>c</candidate>',
        ["a", "b"],
        "attributes are allowed",
    ),
    ({"attributes": True}, '<candidate id="<">a</candidate>', [], "a bracket in an attribute"),
    ({"attributes": True}, "<candidate\n>a</candidate >", ["a</candidate >…"], "white space"),
    ({"attributes": True}, '<candidate id="1', [], "half an opening tag"),
    (
        {"numbered": True},
        "<candidate1>a</candidate1><candidate>b</candidate><candidate12>c</candidate12>",
        ["a", "b", "c"],
        "numbers are allowed",
    ),
    ({"numbered": True}, "<candidate1>a</candidate2>", ["a"], "numbers are not compared"),
    ({"numbered": True}, "<candidate1>a</candidate1", ["a…"], "half a closing tag with number"),
    ({"numbered": True}, "<candidateX>a</candidateX>", [], "no number"),
    ({"unescape": True}, "<candidate>a &amp; b &lt;c></candidate>", ["a & b <c>"], "entities"),
]


@pytest.mark.parametrize(
    ("options", "text", "expected", "reason"), CASES, ids=[c[3] for c in CASES]
)
def test_xml(options, text, expected, reason):
    assert texts(Xml(**options), text) == expected


@pytest.mark.parametrize("tag", ["", "<a>", "a b", "1", "a>", None, 3])
def test_refused_tags(tag):
    with pytest.raises(ValueError, match=r"^tag=.*: must be a name without brackets"):
        Xml(tag)


OPTIONS = [
    *({}, {"tag": "answer"}, {"attributes": True}, {"numbered": True}),
    {"numbered": True, "attributes": True, "tag": "c1"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_round_trip_and_prefixes(options):
    written = ["Heat", "a\n\nb", "", "x < y > z", "</x>", "😀"]
    format = Xml(**options)
    assert texts(format, format.write(written)) == written
    check_prefixes(format, format.write(written))


@steady
@given(st.lists(st.text().map(str.strip), min_size=1))
def test_round_trip_of_any_text_with_entities(written):
    format = Xml(unescape=True)
    assert texts(format, format.write(written)) == written


# Each is up to a million characters long: work quadratic in the length would not end.
N = 100_000
HOSTILE = {
    "opening tags": ("<candidate>" * N, 1),
    "opening tags with attributes": ("<candidate a=1>" * N, 1),
    "half opening tags": ("<candidate " * N, 0),
    "an opening tag without end": ("<candidate" + " a" * N, 0),
    "opening tags with numbers": ("<candidate1" * N, 0),
    "a number": ("<candidate" + "1" * N, 0),
    "half closing tags": ("<candidate>" + "</candidate" * N, 1),
    "a closing tag with a number": ("<candidate></candidate" + "1" * N, 1),
    "candidates": ("<candidate>a</candidate>" * N, N),
    "brackets": ("<" * N, 0),
    "brackets in a candidate": ("<candidate>" + "<" * N, 1),
    "entities": ("<candidate>" + "&amp" * N, 1),
    "ampersands": ("<candidate>" + "&" * N, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name):
    text, expected = HOSTILE[name]
    format = Xml(attributes=True, numbered=True, unescape=True)
    assert len(found(format, text, cut=True)) == expected
