"""Utilities that read texts, against their definitions by plain loops over all subsets."""

import itertools
from dataclasses import dataclass
from statistics import fmean

import pytest
import torch

from shape_grpo.credit import (
    UTILITIES,
    TextUtility,
    allocate,
    make_allocator,
    make_utility,
    register_utility,
    set_utility,
)
from tests.credit import oracles

TEXTS = ["the red car", "the red cart", "a blue boat", "", "the red car", "Der Zug", "xy", "boat"]
REWARDS = [3.0, 2.5, -1.0, 0.5, 3.0, 4.0, 0.0, 1.0]


def trigrams(text):
    text = text.lower()
    return [text] if len(text) < 3 else [text[i : i + 3] for i in range(len(text) - 2)]


def common(first, second):
    """Length of the longest common subsequence."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else best
    return table[-1][-1]


def similarity(first, second):
    first, second = trigrams(first), trigrams(second)
    return 2 * common(first, second) / (len(first) + len(second))


def less_redundancy(weight):
    def value(chosen):
        pairs = [similarity(TEXTS[i], TEXTS[j]) for i, j in itertools.combinations(chosen, 2)]
        return max(REWARDS[k] for k in chosen) - weight * (fmean(pairs) if pairs else 0.0)

    return value


def distinct(n):
    def value(chosen):
        words = [TEXTS[k].lower().split() for k in chosen]
        ngrams = [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
        return len(set(ngrams)) / len(ngrams) if ngrams else 0.0

    return value


LAWS = {
    "shapley": oracles.all_orders,
    "leave_one_out": oracles.without_one,
}


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("allocator", LAWS)
@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("best_less_redundancy", {}, less_redundancy(1.0)),
        ("best_less_redundancy", {"weight": 2.5}, less_redundancy(2.5)),
        ("distinct_n", {}, distinct(2)),
        ("distinct_n", {"n": 1}, distinct(1)),
    ],
)
def test_brute_force(name, options, value, allocator, count):
    if not count:
        return
    utility = make_utility(name, **options).bind(TEXTS[:count])
    rewards = torch.tensor([REWARDS[:count]], dtype=torch.float64)
    players = list(range(count))
    expected = LAWS[allocator](lambda chosen: value(chosen) if chosen else 0.0, players)
    shares = allocate(rewards, utility=utility, allocator=make_allocator(allocator))
    assert shares[0].tolist() == pytest.approx(expected)
    assert set_utility(rewards, utility=utility).item() == pytest.approx(value(players))


def test_an_own_similarity():
    utility = make_utility("best_less_redundancy", similarity=lambda a, b: float(a == b))
    rewards = torch.tensor([[2.0, 2.0]], dtype=torch.float64)
    assert set_utility(rewards, utility=utility.bind(["a", "a"])).item() == 1.0
    assert set_utility(rewards, utility=utility.bind(["a", "b"])).item() == 2.0
    named = make_utility("best_less_redundancy", similarity="tests.credit.test_texts:similarity")
    assert set_utility(rewards, utility=named.bind(["abc", "abc"])).item() == 1.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best_less_redundancy", {"n": 0}, "n=0: must be 1 or more"),
        ("best_less_redundancy", {"similarity": "nothing"}, "write it as package.module:function"),
        ("distinct_n", {"n": 0}, "n=0: must be 1 or more"),
        ("oracle", {"max_calls": 0}, "max_calls=0: must be 1 or more"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_utility(name, **options)


@dataclass(kw_only=True)
class LongestText(TextUtility):
    factor: float = 1.0

    def value(self, rewards, mask, texts=()):
        lengths = torch.tensor([float(len(text)) for text in texts])
        return self.factor * (mask * lengths).amax(dim=1)


@pytest.fixture
def longest_text():
    register_utility("longest_text")(LongestText)
    yield
    del UTILITIES["longest_text"]


def test_an_own_utility_of_texts(longest_text):
    utility = make_utility("longest_text", factor=2.0).bind(["aaaa", "bb"])
    assert set_utility([[0.0, 0.0]], utility=utility).item() == 8.0
    assert allocate([[0.0, 0.0]], utility=utility)[0].tolist() == [6.0, 2.0]


def test_an_own_utility_of_texts_and_vectors():
    class BestPerLetter(TextUtility):
        takes_vectors = True

        def value(self, rewards, mask, texts=()):
            lengths = torch.tensor([float(len(text)) for text in texts])
            return rewards.amax(dim=1).sum(dim=1) + (mask * lengths).sum(dim=1)

    utility = BestPerLetter().bind(["aaaa", "bb"])
    vectors = [[[1.0, 2.0], [3.0, 0.0]]]
    assert set_utility(vectors, utility=utility).item() == 11.0
    assert allocate(vectors, utility=utility)[0].tolist() == [4.0 + 0.5 + 2.0, 2.0 + 0.5 + 2.0]
    winner = allocate(vectors, utility=utility, allocator="winner_takes_all")
    assert winner[0].tolist() == [5.5, 5.5]


@pytest.mark.parametrize("result", [1.0, [1.0, 2.0], float("nan")])
def test_a_wrong_result_is_named(longest_text, result):
    class Wrong(LongestText):
        def value(self, rewards, mask, texts=()):
            return torch.tensor(result)

    with pytest.raises(ValueError, match=r"Wrong.value returned .* one finite number per set"):
        set_utility([[0.0]], utility=Wrong().bind(["a"]))


@pytest.mark.parametrize("name", ["distinct_n", "best_less_redundancy", "oracle"])
def test_without_texts_nothing_is_computed(name):
    for compute in (allocate, set_utility):
        with pytest.raises(ValueError, match=r"reads texts: .*utility.bind\(texts\)"):
            compute([[1.0, 2.0]], utility=name)
