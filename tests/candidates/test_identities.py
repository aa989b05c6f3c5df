"""Duplicates by the identity that a reward function returned."""

import pytest

from shape_grpo.candidates import Candidate, CandidateRules, CandidateSet


def make_set(texts, **rules):
    """Candidates of these texts; one that ends in an ellipsis is cut off. A token each."""
    candidates = [
        Candidate(text.removesuffix("…"), n, n + 1, not text.endswith("…"))
        for n, text in enumerate(texts)
    ]
    spans = [(n, n + 1) for n in range(len(texts))]
    return CandidateSet.from_candidates(candidates, spans, CandidateRules(**rules))


def decided(found):
    """A character per candidate: S scored, F floor, - dropped; and its problem's first letter."""
    signs = {"score": "S", "floor": "F", "drop": "-"}
    return " ".join(signs[each.rule] + (each.problem or "")[:1] for each in found.checked)


BY_TEXT = [
    ("a b", {}, "S S", "nothing is wrong"),
    ("a A a", {"duplicate": "score"}, "S Sd Sd", "both are scored"),
    ("a A b", {}, "S Fd S", "floor, the default"),
    ("a A b", {"duplicate": "drop"}, "S -d S", "drop"),
    (
        "x.t x.T a b c",
        {"max_candidates": 3, "duplicate": "score"},
        "S Sd S -s -s",
        "scored take room",
    ),
    ("x.t x.T a b c", {"max_candidates": 3, "duplicate": "floor"}, "S Fd S -s -s", "floor, too"),
    ("x.t x.T a b c", {"max_candidates": 3, "duplicate": "drop"}, "S -d S S -s", "dropped do not"),
    ("a b a", {"max_candidates": 2}, "S S -s", "a surplus repeat is surplus"),
    ("a… a", {"duplicate": "drop"}, "-t S", "nothing equals a candidate that was dropped"),
    ("a… a", {"duplicate": "drop", "truncated": "score"}, "St -d", "but one that was scored"),
    ("a… a", {"duplicate": "drop", "truncated": "floor"}, "Ft -d", "or has the fixed reward"),
]


@pytest.mark.parametrize(
    ("texts", "rules", "expected", "why"), BY_TEXT, ids=[c[3] for c in BY_TEXT]
)
def test_by_text(texts, rules, expected, why):
    assert decided(make_set(texts.split(), **rules)) == expected


def test_an_empty_candidate_that_was_dropped_has_no_duplicates():
    assert decided(make_set(["", "\u200b", "\ufeff"], duplicate="drop")) == "-e S -d"


# texts, identity of each that was scored (None: the function returned none), rules, what is decided
BY_IDENTITY = [
    ("x.t x.T", {0: 1, 1: 2}, {}, "S S", "of one text by case, but two identities"),
    ("heat ran heat95", {0: 1, 1: 2, 2: 1}, {}, "S S Fd", "two texts of one identity"),
    ("heat ran heat95", {0: 1, 1: 2, 2: 1}, {"duplicate": "floor"}, "S S Fd", "floor"),
    ("heat ran heat95", {0: 1, 1: 2, 2: 1}, {"duplicate": "drop"}, "S S -d", "drop"),
    ("x.t x.T", {0: 1, 1: 2}, {"duplicate": "drop"}, "S S", "a dropped duplicate comes back"),
    ("x.t x.T", {0: 1, 1: 2}, {"duplicate": "floor"}, "S S", "so does one with the fixed reward"),
    ("a a", {0: 1}, {"duplicate": "drop"}, "S -d", "the same letters have one identity"),
    ("a A", {0: None, 1: None}, {"duplicate": "drop"}, "S -d", "no identities: by text"),
    ("a A", {}, {"duplicate": "drop"}, "S -d", "no results: by text"),
    ("a b A", {0: 1, 1: None}, {"duplicate": "drop"}, "S S -d", "without an identity by text"),
    ("a b B", {0: 1, 1: None}, {"duplicate": "drop"}, "S S -d", "without identities by text"),
    ("b a", {0: None, 1: "b"}, {"duplicate": "drop"}, "S S", "an identity is no text"),
    ("a b c", {0: 0, 1: 0, 2: ""}, {"duplicate": "drop"}, "S -d S", "0 and '' are identities"),
    ("a b", {0: 1, 1: "1"}, {"duplicate": "drop"}, "S -d", "identities are compared as text"),
    (
        "x.t x.T a b",
        {0: 1, 1: 2, 2: 3, 3: 4},
        {"max_candidates": 3, "duplicate": "drop"},
        "S S S -s",
        "one that comes back takes room",
    ),
    (
        "x.t x.T a b",
        {0: 1, 1: 2, 2: 3, 3: 4},
        {"max_candidates": 3, "duplicate": "drop", "surplus": "floor"},
        "S S S Fs",
        "the surplus gets its own rule",
    ),
    (
        "x.t x.T a b",
        {0: 1, 1: 1, 2: 3, 3: 4},
        {"max_candidates": 3, "duplicate": "drop"},
        "S -d S S",
        "one that stays dropped takes none",
    ),
    (
        "x.t y.t a b",
        {0: 1, 1: 1, 2: 3},
        {"max_candidates": 3, "duplicate": "drop"},
        "S -d S -s",
        "surplus was never scored, and stays out",
    ),
    (
        "x.t x.T a b",
        {0: 1, 1: 2, 2: 3},
        {"max_candidates": 3, "duplicate": "floor"},
        "S S S -s",
        "with the fixed reward it had its room",
    ),
    ("a b…", {0: 1, 1: 1}, {"truncated": "score", "duplicate": "drop"}, "S St", "cut stays cut"),
    ("a… a", {1: 1}, {"duplicate": "drop"}, "-t S", "dropped, and no duplicate of it"),
    (
        "a… b",
        {0: 1, 1: 1},
        {"truncated": "score", "duplicate": "drop"},
        "St -d",
        "a duplicate of one that is cut but scored",
    ),
]


@pytest.mark.parametrize(
    ("texts", "identities", "rules", "expected", "why"),
    BY_IDENTITY,
    ids=[c[4] for c in BY_IDENTITY],
)
def test_by_identity(texts, identities, rules, expected, why):
    found = make_set(texts.split(), **rules)
    assert decided(found.with_identities(identities)) == expected
    assert found.with_identities({}) == found


def test_a_text_never_has_the_name_of_an_identity():
    texts = ["a", "identity 1", "Identity 1", "IDENTITY  1"]
    found = make_set(texts, duplicate="drop").with_identities({0: 1, 1: None})
    assert decided(found) == "S S -d -d"


def test_identities_count_in_the_number_of_distinct_candidates():
    found = make_set(["a", "b", "A", "c"], empty="score")
    assert found.num_distinct == 3
    assert found.with_identities({0: 1, 1: 1, 2: 2, 3: None}).num_distinct == 3
    assert found.with_identities({0: 1, 1: 1, 2: 1, 3: 1}).num_distinct == 1


@pytest.mark.parametrize("surplus", ["score", "floor"])
def test_identities_never_lift_a_set_above_1024(surplus):
    texts = ["x.t", "x.T", *map(str, range(1100))]
    found = make_set(texts, surplus=surplus, duplicate="drop")
    assert len(found.kept) == 1024 and not found.checked[1].counts
    apart = found.with_identities({0: 1, 1: 2})
    assert len(apart.kept) == 1024 and apart.checked[1].counts
    assert [each.counts for each in apart.checked] == [True] * 1024 + [False] * 78


UNLIKE = [
    ("a b c", {"duplicate": "drop"}, [], "no duplicates"),
    ("a a A A", {"duplicate": "drop"}, [2], "the first of each spelling"),
    ("a A \uff41 a", {"duplicate": "drop"}, [1, 2], "also of full width"),
    ("a A", {"duplicate": "floor"}, [1], "with the fixed reward"),
    ("a A", {"duplicate": "score"}, [], "they are scored anyway"),
    ("a b A", {"duplicate": "drop", "max_candidates": 2}, [], "surplus is no duplicate"),
    ("a… A", {"duplicate": "drop", "truncated": "score"}, [1], "of one that is cut"),
    ("A… a A", {"duplicate": "drop"}, [2], "one of the same letters that was not scored"),
    ("A… a A", {"duplicate": "drop", "truncated": "floor"}, [1, 2], "or has the fixed reward"),
]


@pytest.mark.parametrize(("texts", "rules", "expected", "why"), UNLIKE, ids=[c[3] for c in UNLIKE])
def test_duplicates_to_ask_about(texts, rules, expected, why):
    assert make_set(texts.split(), **rules).unlike_in_text() == expected


def test_whoever_is_asked_about_can_be_scored():
    """The two steps of the trainers: score, ask about unlike duplicates, settle."""
    found = make_set(["x.t", "x.T", "X.T", "a", "x.t", "x.T"], duplicate="drop")
    first = [n for n, each in enumerate(found.checked) if each.rule == "score"]
    asked = [*first, *found.unlike_in_text()]
    assert asked == [0, 3, 1, 2]
    settled = found.with_identities({n: found.checked[n].candidate.text for n in asked})
    assert decided(settled) == "S S S S -d -d"
    assert settled.texts == ["x.t", "x.T", "X.T", "a"]
    assert settled.spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [settled.place(n) for n in range(6)] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4), (4, 4)]
    assert settled.problem_counts == {"duplicate": 2}
