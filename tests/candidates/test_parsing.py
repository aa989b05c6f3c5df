import random
import subprocess
import sys

import pytest

from shape_grpo.candidates import FORMATS, parse_candidates


def texts(text, **options):
    """Texts of the candidates; one that is not closed carries a trailing ellipsis."""
    found = parse_candidates(text, **options)
    for candidate in found:
        assert text[candidate.start : candidate.end] == candidate.text
    return [c.text + ("" if c.closed else "…") for c in found]


XML = [
    ("<candidate>Heat</candidate>", ["Heat"], "one"),
    ("A: <candidate>a</candidate>, <candidate>b</candidate>.", ["a", "b"], "two, with prose"),
    ("<candidate>a</candidate><candidate>b</candidate>", ["a", "b"], "touching"),
    ("<candidate>\n  a b\n c \n</candidate>", ["a b\n c"], "outer white space off, inner kept"),
    ("<candidate>\u3000電影\u00a0</candidate>", ["電影"], "white space of any script"),
    ("<candidate>a</candidate><candidate>a</candidate>", ["a", "a"], "duplicates are returned"),
    ("<candidate>x < y</b></candidate>", ["x < y</b>"], "other markup is text"),
    ("<candidate></candidate>", [""], "empty"),
    ("<candidate> \n </candidate>", [""], "only white space is empty"),
    ("", [], "nothing"),
    ("Watch Heat.", [], "no tags"),
    # unclosed
    ("<candidate>a</candidate><candidate>b", ["a", "b…"], "cut in the last candidate"),
    ("<candidate>", ["…"], "cut right after the opening tag"),
    ("<candidate>a</candidate", ["a…"], "cut in the closing tag"),
    ("<candidate>a <", ["a…"], "cut at the first character of the closing tag"),
    ("<candidate>a</candidates>", ["a</candidates>…"], "a longer tag is no half tag"),
    ("<candidate>a</candidate><candi", ["a"], "cut in an opening tag"),
    # unbalanced
    ("<candidate>a<candidate>b</candidate>", ["b"], "the inner tag starts anew"),
    ("<candidate>a<candidate>b</candidate>c</candidate>", ["b"], "nested: only the inner one"),
    ("<candidate>a<candidate>b<candidate>c", ["c…"], "opening tags alone do not make candidates"),
    ("a</candidate><candidate>b</candidate>", ["b"], "stray closing tag in front"),
    ("<candidate>a</candidate>b</candidate>", ["a"], "stray closing tag behind"),
    ("</candidate>a<candidate>", ["…"], "tags the wrong way round"),
    # not our tags
    ("<Candidate>a</Candidate>", [], "upper case"),
    ("<candidate >a</candidate >", [], "space in the tag"),
    ('<candidate id="1">a</candidate>', [], "attribute"),
    ("<candidates>a</candidates>", [], "plural"),
    ("<candidate/>", [], "self-closing"),
    ("<candidate>a</Candidate></candidate>", ["a</Candidate>"], "wrong case inside is text"),
    ("&lt;candidate&gt;a&lt;/candidate&gt;", [], "escaped"),
    # thoughts
    ("<think><candidate>a</candidate></think><candidate>b</candidate>", ["b"], "thought first"),
    ("<candidate>a</candidate></think><candidate>b</candidate>", ["b"], "thought opened in prompt"),
    ("<think>x</think><candidate>a</candidate></think>", [], "up to the last </think>"),
    ("<think><candidate>a</candidate>", [], "thought never closed"),
    ("<candidate>a</candidate><think><candidate>b</candidate>", ["a"], "unclosed thought behind"),
    ("<candidate>a<think>b</think>c</candidate>", [], "candidate opened before a thought"),
    ("<think></think>\n\n<candidate>a</candidate>", ["a"], "empty thought"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), XML, ids=[case[2] for case in XML])
def test_xml(text, expected, reason):
    assert texts(text) == expected


NUMBERED = [
    ("1. Heat\n2. Ran\n3. Tár", ["Heat", "Ran", "Tár"], "plain list"),
    ("1) Heat\n2) Ran", ["Heat", "Ran"], "with brackets"),
    ("Sure:\n1. Heat\n2. Ran", ["Heat", "Ran"], "prose in front"),
    ("1. Heat\n2. Ran\n\nEnjoy!", ["Heat", "Ran"], "prose behind a blank line"),
    ("1. Heat\n\n2. Ran\n", ["Heat", "Ran"], "blank lines between"),
    ("1. Heat\r\n2. Ran\r\n\r\nEnjoy!", ["Heat", "Ran"], "Windows line ends"),
    (" 1. Heat\n 2. Ran", ["Heat", "Ran"], "indented list"),
    ("1.\tHeat", ["Heat"], "tab"),
    ("\n".join(f"{n}. {n}" for n in range(1, 13)), [str(n) for n in range(1, 13)], "two digits"),
    ("1. Heat\nby Mann\n2. Ran", ["Heat\nby Mann", "Ran"], "item of two lines"),
    ("1. Heat\n\n   by Mann\n2. Ran", ["Heat\n\n   by Mann", "Ran"], "indented paragraph"),
    ("1. Heat\n\n\tby Mann\n2. Ran", ["Heat\n\n\tby Mann", "Ran"], "paragraph after a tab"),
    ("1. Heat\n\nIt is long.\n\n2. Ran", ["Heat", "Ran"], "prose between belongs to no item"),
    (
        "1. Heat\n   1. long\n   2. loud\n2. Ran",
        ["Heat\n   1. long\n   2. loud", "Ran"],
        "indented",
    ),
    ("1. Heat\n1) long\n2) loud\n2. Ran", ["Heat\n1) long\n2) loud", "Ran"], "inner list"),
    ("1. Heat\n2. \n3. Ran", ["Heat", "", "Ran"], "empty item"),
    ("1. Heat\n2.", ["Heat", ""], "empty last item"),
    ("1. Heat\n3. Ran\n2. Tár", ["Heat\n3. Ran", "Tár"], "a number out of turn is text"),
    ("1. Heat\n1. Ran", ["Heat"], "a second 1. ends the list"),
    ("1. a\n2. b\n\nOr:\n1. c\n2. d\n3. e", ["a", "b"], "only the first list, also if longer"),
    ("2. Heat\n3. Ran", [], "does not begin at 1"),
    ("2001: A Space Odyssey\n10 years\n12 Monkeys", [], "titles with numbers"),
    ("1. 2001: A Space Odyssey\n2. 10", ["2001: A Space Odyssey", "10"], "titles in items"),
    ("1. Heat\n2.5 stars\n2. Ran", ["Heat\n2.5 stars", "Ran"], "decimal number"),
    ("1.Heat\n2.Ran", [], "no space after the number"),
    ("01. Heat\n02. Ran", [], "leading zeros"),
    ("I saw 1. Heat and 2. Ran", [], "not at line starts"),
    ("- Heat\n- Ran", [], "bullets"),
    ("    1. Heat", [], "four spaces are too many"),
    ("\u0661. Heat", [], "digits of other scripts"),
    ("", [], "nothing"),
    ("<think>\n1. Heat\n</think>\n1. Ran", ["Ran"], "thought first"),
    ("<think>\n1. Heat\n2. Ran", [], "thought never closed"),
    ("1. Heat\n2. Ran\n<think>\n3. Tár", ["Heat", "Ran"], "unclosed thought behind"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), NUMBERED, ids=[c[2] for c in NUMBERED])
def test_numbered(text, expected, reason):
    assert texts(text, format="numbered") == expected


TRUNCATED = [
    ("1. Heat\n2. Ra", ["Heat", "Ra…"], "last item may be cut"),
    ("1. Heat\n2", ["Heat\n2…"], "cut in a number"),
    ("1. Heat\n2.", ["Heat", "…"], "cut after a number"),
    ("1. Heat\n2. Ran\n\nThese are", ["Heat", "Ran"], "cut in the prose behind the list"),
    ("1. Heat\n2. Ran\n1. Ta", ["Heat", "Ran"], "cut in a second list"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), TRUNCATED, ids=[c[2] for c in TRUNCATED])
def test_numbered_list_of_a_truncated_response(text, expected, reason):
    assert texts(text, format="numbered", truncated=True) == expected


def test_offsets_are_those_of_the_whole_text():
    text = "<think>no</think> 😀 <candidate> 電影 </candidate>"
    (candidate,) = parse_candidates(text)
    assert (candidate.start, candidate.end) == (text.index("電"), text.index("影") + 1)


def test_an_empty_candidate_lies_inside_its_tags():
    (candidate,) = parse_candidates("ab<candidate> </candidate>")
    assert candidate.start == candidate.end == len("ab<candidate>")


def test_thoughts_count_on_request():
    text = "<think><candidate>a</candidate></think><candidate>b</candidate>"
    assert texts(text, ignore_thoughts=False) == ["a", "b"]


@pytest.mark.parametrize(("limit", "expected"), [(1, ["a"]), (2, ["a", "b"]), (9, ["a", "b"])])
def test_max_candidates_keeps_the_first(limit, expected):
    assert (
        texts("<candidate>a</candidate><candidate>b</candidate>", max_candidates=limit) == expected
    )
    assert texts("1. a\n2. b", format="numbered", max_candidates=limit) == expected


def test_unknown_format_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'XML'.*xml, numbered"):
        parse_candidates("", format="XML")


@pytest.mark.parametrize("limit", [0, -1])
def test_max_candidates_below_one_is_refused(limit):
    with pytest.raises(ValueError, match="use 1 or more"):
        parse_candidates("", max_candidates=limit)


FRAGMENTS = [
    "<candidate>",
    "</candidate>",
    "<think>",
    "</think>",
    "1. ",
    "2. ",
    "3) ",
    "\n",
    "\n\n",
]
FRAGMENTS += ["a", "é", "😀", " ", "\t", "<", "</", "candidate>", "\r\n", "\u2028", "   "]


@pytest.mark.parametrize("format", FORMATS)
def test_candidates_of_any_text_are_ordered_slices_of_it(format):
    rng = random.Random(0)
    counts = set()
    for _ in range(5000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randrange(30)))
        truncated = rng.random() < 0.5
        found = parse_candidates(text, format=format, truncated=truncated)
        counts.add(len(found))
        position = 0
        for candidate in found:
            assert position <= candidate.start <= candidate.end
            assert text[candidate.start : candidate.end] == candidate.text == candidate.text.strip()
            position = candidate.end
        assert all(candidate.closed for candidate in found[:-1])
    assert counts >= {0, 1, 2}


# Each is about a million characters long: work quadratic in the length would not end.
N = 100_000
HOSTILE = {
    "opening tags": ("<candidate>" * N, 1),
    "closing tags": ("</candidate>" * N, 0),
    "opening tags, one closed": ("<candidate>" * N + "</candidate>", 1),
    "candidates": ("<candidate>a</candidate>" * N, N),
    "half tags": ("<candidat" * N, 0),
    "half closing tags": ("<candidate>" + "</candidat" * N, 1),
    "thoughts": ("<think>" * N + "</think>" * N + "<candidate>", 1),
    "white space in a candidate": ("<candidate>" + " \n" * N + "</candidate>", 1),
    "digits": ("1" * 4 * N, 0),
    "lines of digits": ("1\n" * N, 0),
    "newlines": ("\n" * 4 * N, 0),
    "newlines in an item": ("1. " + "\n" * 4 * N, 1),
    "blank lines in an item": ("1. a" + "\n   \t" * N + "   b", 1),
    "spaces": ("1. a\n" + " " * 4 * N, 1),
    "first numbers": ("1. a\n" * N, 1),
    "wrong numbers": ("1. a\n" + "7. a\n\n   b" * N, 1),
    "items": ("\n".join(f"{n}. a" for n in range(1, N + 1)), N),
    "items with prose": ("\n\nb\n\n".join(f"{n}. a" for n in range(1, N + 1)), N),
    "numbers of other style": ("1. a\n" + "1) a\n" * N, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name):
    text, expected = HOSTILE[name]
    format = "numbered" if text[:1] in "1\n" else "xml"
    assert len(parse_candidates(text, format=format)) == expected


def test_import_is_light():
    code = (
        "import shape_grpo.candidates, sys; "
        "assert not {'torch', 'verl', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
