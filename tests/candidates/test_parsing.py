import random
import subprocess
import sys

import pytest

from shape_grpo.candidates import CandidateRules, decode_response, find_candidates, parse_candidates
from shape_grpo.candidates.formats import FORMATS, Format, Xml
from tests.candidates.special_tokenizers import encode, tokenizer_with


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
    ("```\n1. Heat\n2. Ran\n```\n3. Enjoy!", ["Heat", "Ran"], "a list in a code block ends there"),
    ("```text\n1. Heat\n\n2. Ran\n  ```", ["Heat", "Ran"], "the end of the block is no text"),
    ("~~~~\n1. Heat\n~~~\n2. Ran\n~~~~", ["Heat\n~~~", "Ran"], "a fence that closes nothing"),
    ("```\nx\n```\n1. Heat\n```\ny\n```", ["Heat\n```\ny\n```"], "blocks before and in the list"),
    ("1. ```\n   a\n   ```\n2. b", ["```\n   a\n   ```", "b"], "a block that an item begins with"),
    ("```\r\n1. Heat\r\n```\r\n2. Ran", ["Heat"], "a code block with Windows line ends"),
    (
        "<think>\n```\n</think>\n1. a\n```\n2. b",
        ["a\n```", "b"],
        "a fence within a thought is none",
    ),
    (
        "1. a\n```\n1. x\n2. y\n\nz\n```\n2. b",
        ["a\n```\n1. x\n2. y\n\nz\n```", "b"],
        "numbers and blank lines of an item's code block",
    ),
    ("1. ```\na\n\nb\n```\n2. c", ["```\na\n\nb\n```", "c"], "a block from the marker on"),
    ("1. a\n```\n2. b", ["a\n```", "b"], "a block that is not closed hides nothing"),
    ("\ufeff1. a\n2. b", ["a", "b"], "a byte order mark"),
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
    ("```\n1. Heat\n2. Ra", ["Heat", "Ra…"], "cut in a code block"),
    ("```\n1. Heat\n2. Ran\n``", ["Heat", "Ran"], "cut in the end of a code block"),
    ("```\n1. Heat\n```\nThe", ["Heat"], "cut after a code block"),
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
    assert texts(text, thoughts="none") == ["a", "b"]


TAGS_OF_ONES_OWN = [
    ({"tag": "answer"}, "<answer>a</answer><candidate>b</candidate>", ["a"], "another name"),
    ({}, "<candidate>Tom &amp; Jerry</candidate>", ["Tom &amp; Jerry"], "entities are text"),
    (
        {"unescape": True},
        "<candidate>Tom &amp; &#74;erry &lt;3</candidate>",
        ["Tom & Jerry <3"],
        "entities are characters on request",
    ),
    ({"unescape": True}, "<candidate>a &b; &amp</candidate>", ["a &b; &"], "half an entity"),
    (
        {"unescape": True},
        "<candidate>a&lt;/candidate&gt;b</candidate>",
        ["a</candidate>b"],
        "an entity makes no tag",
    ),
    ({"unescape": True}, "<candidate>&nbsp;a&#32;</candidate>", ["a"], "white space of entities"),
    (
        {"attributes": True},
        '<candidate id="1">a</candidate><candidate>b</candidate>',
        ["a", "b"],
        "attributes",
    ),
    ({"numbered": True}, "<candidate1>a</candidate1><candidate2>b", ["a", "b…"], "numbers"),
    (
        {"tag": "film", "attributes": True, "numbered": True},
        "<film1 year='1995'>Heat</film1><film>Ran</film2>",
        ["Heat", "Ran"],
        "all of it",
    ),
    ({"tag": "think"}, "<think>a</think>", [], "the tag of a thought"),
]


@pytest.mark.parametrize(
    ("options", "text", "expected", "why"), TAGS_OF_ONES_OWN, ids=[c[3] for c in TAGS_OF_ONES_OWN]
)
def test_tags_of_ones_own(options, text, expected, why):
    found = parse_candidates(text, format_options=options)
    assert [c.text + ("" if c.closed else "…") for c in found] == expected
    assert parse_candidates(text, format=Xml(**options)) == found


def test_the_tag_of_a_thought_without_thoughts():
    options = {"format_options": {"tag": "think"}, "thoughts": "none"}
    assert texts("<think>a</think>", **options) == ["a"]


@pytest.mark.parametrize(("limit", "expected"), [(1, ["a"]), (2, ["a", "b"]), (9, ["a", "b"])])
def test_max_candidates_keeps_the_first(limit, expected):
    assert (
        texts("<candidate>a</candidate><candidate>b</candidate>", max_candidates=limit) == expected
    )
    assert texts("1. a\n2. b", format="numbered", max_candidates=limit) == expected


def test_unknown_format_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'XML'.*xml.*") as error:
        parse_candidates("", format="XML")
    assert all(name in str(error.value) for name in FORMATS)


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


FRAGMENTS += ["```\n", "```", "~~~\n", "[", "]", '"', '", "', "- ", "{", "}", '"text": ', ":"]


def squeezed(text):
    return "".join(text.split())


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of the formats that need some."""
    file = tmp_path_factory.mktemp("format") / "bold.py"
    file.write_text(
        "import re\n"
        "def find_candidates(answer):\n"
        "    return [match.span() for match in re.finditer('a[^<]*', answer)]\n"
    )
    return {"regex": {"pattern": "(?m)^- (.+)$"}, "function": {"path": str(file)}}


@pytest.mark.parametrize("format", FORMATS)
def test_candidates_of_any_text_are_ordered_slices_of_it(format, options):
    rng = random.Random(0)
    counts = set()
    for _ in range(5000):
        few = rng.sample(FRAGMENTS, rng.randrange(4, len(FRAGMENTS)))
        text = "".join(rng.choices(few, k=rng.randrange(30)))
        truncated = rng.random() < 0.5
        found = parse_candidates(
            text, format=format, format_options=options.get(format), truncated=truncated
        )
        counts.add(len(found))
        position = 0
        for candidate in found:
            assert position <= candidate.start <= candidate.end
            written = text[candidate.start : candidate.end]
            assert written == written.strip()
            if format == "fenced":  # code keeps its first line's indentation
                assert squeezed(written) == squeezed(candidate.text)
            else:
                assert written == candidate.text
            position = candidate.end
        assert all(candidate.closed for candidate in found[:-1])
    assert counts == {1} if format == "whole" else counts >= {0, 1, 2}


class Wrong(Format):
    def __init__(self, found):
        self.found = found

    def find(self, answer, *, cut):
        yield from self.found


@pytest.mark.parametrize(
    "found", [[(1, 0)], [(-1, 1)], [(0, 9)], [(0, 2), (1, 3)], [(2, 3), (0, 1)]]
)
def test_a_format_that_finds_candidates_out_of_order_is_refused(found):
    with pytest.raises(ValueError, match=r"format Wrong found .* must yield offsets in order"):
        parse_candidates("abc", format=Wrong([(*place, True) for place in found]))


# --- special tokens ---

OWN_TAGS = ("<candidate>", "</candidate>")
ENDS = ("<end_of_turn>",)
SPECIAL = [
    # special tokens, format and options, response, candidates, why
    (OWN_TAGS, {}, "<candidate>a</candidate>b</candidate>", ["a"], "tags are special tokens"),
    (OWN_TAGS, {}, "<candidate>a", ["a…"], "tags are special tokens, and one is missing"),
    ((*OWN_TAGS, *ENDS), {}, "<candidate>a</candidate><end_of_turn>", ["a"], "and an end of turn"),
    (("<|x|>",), {}, "<candidate>a<|x|>b<|x|></candidate>", ["ab"], "between letters"),
    (("<|x|>",), {}, "<candidate><|x|></candidate>", [""], "a candidate that is one alone"),
    (("<|x|>",), {}, "<cand<|x|>idate>a</candidate>", [], "within a tag"),
    (("<|x|>",), {}, "<candidate>a</cand<|x|>idate>", ["a</candidate>…"], "within a closing tag"),
    (("<|x|>",), {}, "<|x|><|x|>", [], "a response of special tokens alone"),
    ((), {}, "<cand</s>idate>a<s></candidate>", ["a"], "marks of sequences are in no text"),
    ((), {}, "</s><pad>", [], "marks of sequences alone"),
    (ENDS, {}, "<candidate>a</cand<end_of_turn>", ["a…"], "half a tag at the end of a turn"),
    (ENDS, {"format": "lines"}, "a\nb<end_of_turn>", ["a", "b"], "after the last line"),
    (ENDS, {"format": "lines"}, "a\nb\n<end_of_turn>\n", ["a", "b"], "on a line of its own"),
    (ENDS, {"format": "lines"}, "<end_of_turn>\na", ["", "a"], "on a line before"),
    (ENDS, {"format": "lines"}, "```\na\n```<end_of_turn>", ["a"], "after a fence"),
    (ENDS, {"format": "fenced"}, "```\na\n```<end_of_turn>", ["a"], "after a code block"),
    (ENDS, {"format": "fenced"}, "```\na\n``<end_of_turn>", ["a…"], "after half a fence"),
    (ENDS, {"format": "numbered"}, "1. a\n2.<end_of_turn>", ["a", ""], "after a number"),
    (ENDS, {"format": "json"}, '["a<end_of_turn>b", "c"]<end_of_turn>', ["ab", "c"], "in a string"),
    (ENDS, {"format": "json"}, '["a", "c<end_of_turn>', ["a", "c…"], "in a string that is open"),
    (
        ENDS,
        {"format": "regex", "format_options": {"pattern": "<end_of_turn>|(a)"}},
        "a<end_of_turn>a",
        ["a", "a"],
        "a pattern may ask for it",
    ),
    (
        ENDS,
        {"format": "regex", "format_options": {"pattern": "(?m)^- (.*)$"}},
        "- a\n- b<end_of_turn>",
        ["a", "b"],
        "a pattern that finds it, too",
    ),
    (
        ("<think>", "</think>"),
        {},
        "<think><candidate>z</candidate></think><candidate>a</candidate>",
        ["a"],
        "marks of thoughts are special tokens",
    ),
]


@pytest.mark.parametrize(
    ("special", "options", "text", "expected", "why"), SPECIAL, ids=[case[4] for case in SPECIAL]
)
def test_special_tokens(special, options, text, expected, why):
    tokenizer = tokenizer_with(*special)
    ids = encode(tokenizer, text)
    rules = CandidateRules(**options, truncated="score", empty="score")
    found = find_candidates(tokenizer, ids, rules, cut=False)
    assert [c.text + ("" if c.closed else "…") for c in found.candidates] == expected
    for candidate, (start, end) in zip(found.candidates, found.spans, strict=True):
        assert candidate.text in tokenizer.decode(ids[start:end], skip_special_tokens=True)
        assert (start == end) == (not candidate.text)


def test_a_response_that_was_cut_before_a_special_token_ends_there():
    """Such a token is no end of a turn, but the last item is no more whole for that."""
    tokenizer = tokenizer_with("<|x|>")
    ids = encode(tokenizer, "1. a\n2. b<|x|>")
    rules = CandidateRules("numbered", truncated="score")
    assert [c.closed for c in find_candidates(tokenizer, ids, rules, cut=True).candidates] == [
        True,
        False,
    ]


@pytest.mark.parametrize("format", ["xml", "numbered", "lines", "json", "fenced"])
def test_an_empty_response(format):
    tokenizer = tokenizer_with()
    assert parse_candidates("", format=format) == []
    assert decode_response(tokenizer, []) == ""
    found = find_candidates(tokenizer, [], CandidateRules(format), cut=False, turns=[])
    assert found.candidates == []
    found = find_candidates(tokenizer, [], CandidateRules(format, turns="all"), cut=True)
    assert found.candidates == []


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
