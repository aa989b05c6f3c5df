"""Semivalues and set utilities in plain Python, by their definitions."""

import itertools
import math
from collections import Counter
from statistics import fmean

import numpy as np
from scipy import stats


def all_orders(value, players):
    """Shapley values: the mean marginal contribution over all K! orders of arrival."""
    shares = [0.0] * len(players)
    for order in itertools.permutations(range(len(players))):
        present = []
        for k in order:
            before = worth(value, present)
            present.append(players[k])
            shares[k] += worth(value, present) - before
    return [share / math.factorial(len(players)) for share in shares]


def all_subsets(value, players):
    """Banzhaf values: the mean marginal contribution over all subsets of the others."""
    shares = []
    for k, player in enumerate(players):
        others = players[:k] + players[k + 1 :]
        gains = [
            worth(value, [*subset, player]) - worth(value, subset)
            for size in range(len(others) + 1)
            for subset in itertools.combinations(others, size)
        ]
        shares.append(fmean(gains))
    return shares


def without_one(value, players):
    return [
        worth(value, players) - worth(value, players[:k] + players[k + 1 :])
        for k in range(len(players))
    ]


def by_sizes(chances):
    """Semivalues of a law: ``chances(n)[s]`` that s of the n - 1 others are there."""

    def semivalues(value, players):
        law, values = chances(len(players)), []
        for k, player in enumerate(players):
            others = players[:k] + players[k + 1 :]
            gains = [
                fmean(
                    worth(value, [*subset, player]) - worth(value, subset)
                    for subset in itertools.combinations(others, size)
                )
                for size in range(len(players))
            ]
            values.append(sum(p * gain for p, gain in zip(law, gains, strict=True)))
        return values

    return semivalues


def beta_binomial(alpha, beta):
    return lambda n: stats.betabinom.pmf(np.arange(n), n - 1, alpha, beta).tolist()


def seen(looks):
    """How many of the others a user sees who sees the first of n candidates: all ways to look at
    some of the places, of which n are taken."""

    def chances(n):
        counts = Counter()
        places = max(len(looks), n)
        for size, q in enumerate(looks, start=1):
            ways = list(itertools.combinations(range(places), size))
            for looked_at in ways:
                if 0 in looked_at:
                    counts[sum(place < n for place in looked_at) - 1] += q / len(ways)
        return [counts[s] / counts.total() for s in range(n)]

    return chances


def worth(value, players):
    return value(list(players)) if players else 0.0


def logit_choice(temperature):
    def value(rewards):
        odds = [math.exp(reward / temperature) for reward in rewards]
        return sum(r * o for r, o in zip(rewards, odds, strict=True)) / sum(odds)

    return value


def weighted(weights):
    return lambda rewards: sum(
        w * r for w, r in zip(weights, sorted(rewards, reverse=True), strict=False)
    )


def best(m):
    return lambda rewards: sorted(rewards)[-m:]


def union(weights):
    def value(vectors):
        return sum(w for w, *passed in zip(weights, *vectors, strict=True) if any(passed))

    return value


def best_of_each(weights):
    """Of vectors that are padded with zeros to the length of the weights."""

    def value(vectors):
        return sum(
            w * max(vector[m] for vector in vectors if m < len(vector))
            for m, w in enumerate(weights)
            if any(m < len(vector) for vector in vectors)
        )

    return value


def norm_of_bests(vectors):
    """Of a vector of the best of each component, of either sign."""
    return math.hypot(*map(max, zip(*vectors, strict=True)))


def norm_of_bests_of_coalitions(rewards, coalitions):
    """The same for ``custom``, which is shown vectors of three numbers."""
    assert rewards.shape[2] == 3
    return rewards.masked_fill(~coalitions.unsqueeze(2), -math.inf).amax(1).norm(dim=1)


def spread(rewards, coalitions):
    """A utility of one's own, for ``custom``: best minus worst, and a bonus for size."""
    best = rewards.masked_fill(~coalitions, -math.inf).amax(1)
    worst = rewards.masked_fill(~coalitions, math.inf).amin(1)
    return best - worst + coalitions.sum(1) ** 2


ANY = {
    "figure 1 of the paper": [5, 4, 3],
    "one": [2.5],
    "one, negative": [-2.5],
    "all equal": [1, 1, 1, 1],
    "ties at both ends": [3, 1, 3, 1],
    "all zero": [0, 0, 0],
    "binary": [1, 0, 0, 1, 0],
    "all negative": [-1, -4, -2],
    "mixed signs": [-2, 3, 0, -2, 3],
    "six, with everything": [0.3, -1.2, 0.3, 0, 7, -1.2],
}
CHANCES = {
    "one": [0.3],
    "certain and impossible": [1, 0, 1, 0.5],
    "all certain": [1, 1, 1],
    "all impossible": [0, 0],
    "ties": [0.2, 0.9, 0.2, 0.2, 0.9],
    "six": [0.1, 0.5, 1e-9, 0.75, 0.999, 0.3],
}
TESTS = {
    "one": [[1, 0, 1]],
    "nothing passes": [[0, 0, 0], [0, 0, 0]],
    "disjoint": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "twins": [[1, 1, 0], [1, 1, 0], [0, 1, 0]],
    "six": [[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]],
}
VECTORS = {
    "one": [[0.5, 0, 2]],
    "zeros": [[0, 0, 0], [0, 0, 0]],
    "specialists and a generalist": [[3, 0, 0], [0, 3, 0], [0, 0, 3], [2, 2, 2]],
    "twins": [[1, 0.25, 0], [1, 0.25, 0], [0.5, 0.5, 0.1]],
    "tests": TESTS["six"],
    "six": [[0.7, 1, 0], [2.5, 0.1, 3], [0.7, 0, 1e-9], [0, 0, 0], [90, 4, 0.3], [0.7, 4, 0.2]],
}

UTILITIES = {
    # name, options, plain definition, sets
    "max": ("max", {}, max, ANY),
    "mean": ("mean", {}, fmean, ANY),
    "sum": ("sum", {}, sum, ANY),
    "best 1": ("top_m", {"m": 1}, max, ANY),
    "best 2": ("top_m", {"m": 2}, lambda r: sum(best(2)(r)), ANY),
    "best 3, mean": ("top_m", {"m": 3, "average": True}, lambda r: fmean(best(3)(r)), ANY),
    "best 99, mean": ("top_m", {"m": 99, "average": True}, fmean, ANY),
    "owa, falling": ("owa", {"weights": [0.5, 0.3, 0.2]}, weighted([0.5, 0.3, 0.2]), ANY),
    "owa, odd": ("owa", {"weights": [0, -1, 2, 0.5]}, weighted([0, -1, 2, 0.5]), ANY),
    "softmax": ("softmax", {"temperature": 0.7}, logit_choice(0.7), ANY),
    "custom": (
        "custom",
        {"function": "tests.credit.oracles:spread"},
        lambda r: max(r) - min(r) + len(r) ** 2,
        ANY,
    ),
    "noisy_or": ("noisy_or", {}, lambda r: 1 - math.prod(1 - p for p in r), CHANCES),
    "coverage": ("coverage", {}, union([1, 1, 1]), TESTS),
    "coverage, weighted": ("coverage", {"weights": [0.5, 3, 0]}, union([0.5, 3, 0]), TESTS),
    "best per component": ("best_per_component", {}, best_of_each([1, 1, 1]), VECTORS),
    "best per component, weighted": (
        "best_per_component",
        {"weights": [0.5, 3, 0]},
        best_of_each([0.5, 3, 0]),
        VECTORS,
    ),
    # Of vectors that are projected already.
    "weightings": (
        "weightings",
        {"components": 2, "number": 3},
        best_of_each([1, 1, 1]),
        VECTORS,
    ),
    "custom, of vectors": (
        "custom",
        {"function": "tests.credit.oracles:norm_of_bests_of_coalitions", "components": 3},
        norm_of_bests,
        VECTORS,
    ),
}


def shapiq_values(value, players, index):
    """The same by shapiq: ``index`` is SV or BV."""
    import shapiq

    def game(coalitions):
        return np.array(
            [worth(value, list(itertools.compress(players, chosen))) for chosen in coalitions]
        )

    computer = shapiq.ExactComputer(game=game, n_players=len(players))
    return computer(index).get_n_order_values(1).tolist()
