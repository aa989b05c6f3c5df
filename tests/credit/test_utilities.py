"""Every utility under every semivalue, against its definition and against shapiq."""

import itertools

import numpy as np
import pytest
import torch

from shape_grpo.credit import (
    Attention,
    Banzhaf,
    BetaShapley,
    LeaveOneOut,
    Shapley,
    check_rewards,
    make_utility,
    set_utility,
    shapley_values,
)
from tests.credit import oracles

LOOKS = [0.3, 0, 0.2, 0, 0, 0.4, 0, 0.1]
LAWS = {
    "shapley": (Shapley(), oracles.all_orders),
    "banzhaf": (Banzhaf(), oracles.all_subsets),
    "leave_one_out": (LeaveOneOut(), oracles.without_one),
    "beta 3, 1": (BetaShapley(3, 1), oracles.by_sizes(oracles.beta_binomial(3, 1))),
    "beta 0.5, 2": (BetaShapley(0.5, 2), oracles.by_sizes(oracles.beta_binomial(0.5, 2))),
    "beta 1, 1": (BetaShapley(1, 1), oracles.all_orders),
    "attention": (Attention(LOOKS), oracles.by_sizes(oracles.seen(LOOKS))),
}
CASES = {
    f"{title}: {of}": (name, options, value, players)
    for title, (name, options, value, sets) in oracles.UTILITIES.items()
    for of, players in sets.items()
}
every_case = pytest.mark.parametrize(
    ("name", "options", "value", "players"), CASES.values(), ids=CASES.keys()
)


def semivalues(utility, players, law):
    rewards, mask = check_rewards(torch.tensor([players], dtype=torch.float64), None, utility)
    return utility.semivalue(rewards, mask, law)[0].tolist()


@every_case
def test_definitions(name, options, value, players):
    utility = make_utility(name, **options)
    found = set_utility(torch.tensor([players], dtype=torch.float64), utility=utility)
    assert found.item() == pytest.approx(value(players), abs=1e-12)
    for law, oracle in LAWS.values():
        assert semivalues(utility, players, law) == pytest.approx(oracle(value, players), abs=1e-11)


@every_case
def test_shapiq(name, options, value, players):
    utility = make_utility(name, **options)
    for law, index in ((Shapley(), "SV"), (Banzhaf(), "BV")):
        expected = oracles.shapiq_values(value, players, index)
        assert semivalues(utility, players, law) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("title", oracles.UTILITIES)
def test_a_ragged_batch_is_each_set_alone(title, law):
    """Candidates in any columns, a set without any; what stands elsewhere is never read."""
    name, options, value, sets = oracles.UTILITIES[title]
    semivalue, oracle = LAWS[law]
    generator = np.random.default_rng(0)
    width, players = 8, [[], *sets.values()]
    shape = (len(players), width, *np.shape(next(iter(sets.values())))[1:])
    rewards, mask = np.full(shape, np.nan), np.zeros((len(players), width), dtype=bool)
    for row, of_set in enumerate(players):
        columns = generator.permutation(width)[: len(of_set)]
        mask[row, columns] = True
        if len(of_set):
            rewards[row, columns] = of_set
    rewards[~mask] = generator.choice([np.nan, np.inf, 1e30], (~mask).sum())[
        (slice(None), *[None] * (rewards.ndim - 2))
    ]
    utility = make_utility(name, **options)
    clean, clean_mask = check_rewards(rewards, mask, utility)
    found = utility.semivalue(clean, clean_mask, semivalue)
    values = set_utility(rewards, mask, utility=utility)
    for row in range(len(players)):
        expected = oracle(value, rewards[row, mask[row]].tolist())
        assert found[row, mask[row]].tolist() == pytest.approx(expected, abs=1e-11)
        alone = oracles.worth(value, rewards[row, mask[row]].tolist())
        assert values[row].item() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("count", [40, 300])
def test_many_candidates_of_noisy_or(count):
    """Exact still, where subsets cannot be listed: equal chances have a value by symmetry."""
    chances = torch.full((1, count), 0.02, dtype=torch.float64)
    each = (1 - 0.98**count) / count
    torch.testing.assert_close(
        shapley_values(chances, utility="noisy_or"), torch.full_like(chances, each)
    )


@pytest.mark.parametrize("title", ["best 2", "best 3, mean", "owa, falling", "mean"])
def test_closed_forms_are_the_subsets_at_twelve(title):
    name, options, _, _ = oracles.UTILITIES[title]
    closed = make_utility(name, **options)
    listed = make_utility("custom", function=closed.value)
    rewards = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for law, _ in LAWS.values():
        mask = torch.ones(3, 12, dtype=torch.bool)
        torch.testing.assert_close(
            closed.semivalue(rewards, mask, law).double(),
            listed.semivalue(rewards, mask, law),
            rtol=0,
            atol=1e-11,
        )


REFUSED_OPTIONS = {
    # name, options, what the message must say
    "no such option": ("max", {"m": 2}, "utility 'max' has no option 'm'; it takes none"),
    "misspelt": ("softmax", {"temprature": 1}, "it takes: .*temperature"),
    "missing": ("top_m", {}, "utility 'top_m' needs the option 'm'"),
    "none best": ("top_m", {"m": 0}, "above 0, not 0"),
    "half a candidate": ("top_m", {"m": 1.5}, "whole number above 0, not 1.5"),
    "no weights": ("owa", {"weights": []}, "finite weights"),
    "a NaN weight": ("owa", {"weights": [1, float("nan")]}, "finite weights"),
    "cold": ("softmax", {"temperature": 0}, "temperature > 0, not 0"),
    "negative weight": ("coverage", {"weights": [1, -1]}, "weights of 0 and more"),
    "an infinite weight": ("best_per_component", {"weights": [float("inf")]}, "finite weights"),
    "weights that are one": ("best_per_component", {"weights": 2}, "wrong type"),
    "no length": ("weightings", {}, "needs the option 'components'"),
    "no weightings": (
        "weightings",
        {"components": 2, "number": 0},
        "needs number, .* not 0",
    ),
    "no components": ("weightings", {"components": 0}, "needs components, .* not 0"),
    "a text for a length": ("weightings", {"components": "two"}, "needs components, .* 'two'"),
    "no concentration": (
        "weightings",
        {"components": 2, "concentration": 0},
        "0 < concentration <= 1e100, not 0",
    ),
    "a concentration whose sum is infinite": (
        "weightings",
        {"components": 2, "concentration": 1e308},
        "needs 0 < concentration <= 1e100",
    ),
    "corners as a text": ("weightings", {"components": 2, "corners": "yes"}, "true or false"),
    "vectors of nothing": (
        "custom",
        {"function": lambda rewards, mask: mask.sum(1), "components": 0},
        "components=0.* length of a reward vector",
    ),
    "too many subsets": ("softmax", {"temperature": 1, "exact_up_to": 40}, "exact_up_to=40"),
    "no pair of orders": ("softmax", {"temperature": 1, "samples": 2}, "samples=2.* 4 or more"),
    "a path without a colon": ("custom", {"function": "math.prod"}, "package.module:function"),
    "no such module": ("custom", {"function": "no_module:f"}, "cannot be imported .*No module"),
    "no such function": ("custom", {"function": "math:no_f"}, "cannot be imported .*no_f"),
    "one number for all": (
        "custom",
        {"function": lambda rewards, mask: rewards.sum()},
        r"returned shape \(\) for 4 sets",
    ),
    "order matters": (
        "custom",
        {"function": lambda rewards, mask: rewards[:, 0]},
        "a set has no order",
    ),
    "a NaN utility": (
        "custom",
        {"function": lambda rewards, mask: 0 / (mask.sum(1) - 3)},
        "returned nan for the rewards",
    ),
}


@pytest.mark.parametrize(
    ("name", "options", "says"), REFUSED_OPTIONS.values(), ids=REFUSED_OPTIONS.keys()
)
def test_refused_options(name, options, says):
    with pytest.raises(ValueError, match=says) as error:
        make_utility(name, **options)
    assert "\n" not in str(error.value)


REFUSED_REWARDS = {
    "a probability above 1": ("noisy_or", {}, [[0.5, 1.1]], r"rewards\[0, 1\] is 1.1.*0 to 1"),
    "half a test": ("coverage", {}, [[[1, 0.5]]], r"rewards\[0, 0, 1\] is 0.5.*zeros and ones"),
    "numbers for vectors": ("coverage", {}, [[1, 0]], r"\(N, K, M\)"),
    "vectors for numbers": ("max", {}, [[[1, 0]]], r"\(N, K\)"),
    "a negative component": (
        "best_per_component",
        {},
        [[[1, -0.5]]],
        r"0, 1\] is -0.5.* of 0 and",
    ),
    "an infinite component": ("best_per_component", {}, [[[1, float("inf")]]], "is inf.*finite"),
    "a NaN component": ("best_per_component", {}, [[[1, float("nan")]]], "is nan.*finite"),
    "more components than weights": (
        "best_per_component",
        {"weights": [1]},
        [[[1, 0.5]]],
        "no longer than the weights",
    ),
    "not projected": ("weightings", {"components": 2}, [[[1, 0.5]]], "vectors of 2"),
    "longer than the function's": (
        "custom",
        {"function": lambda rewards, mask: mask.sum(1), "components": 1},
        [[[1, 0.5]]],
        "vectors of up to 1 ",
    ),
    "more tests than weights": ("coverage", {"weights": [1]}, [[[1, 0]]], "no longer than"),
}


@pytest.mark.parametrize(
    ("name", "options", "rewards", "says"), REFUSED_REWARDS.values(), ids=REFUSED_REWARDS.keys()
)
def test_refused_rewards(name, options, rewards, says):
    with pytest.raises(ValueError, match=says):
        shapley_values(rewards, utility=make_utility(name, **options))


def test_the_empty_set_is_never_shown_to_a_custom_utility_for_its_answer():
    utility = make_utility("custom", function=lambda rewards, mask: rewards.sum(1) + 7)
    shares = shapley_values([[1.0, 2.0]], utility=utility)
    assert shares.tolist() == [[4.5, 5.5]]
    assert set_utility([[1.0, 2.0]], [[0, 0]], utility=utility).tolist() == [0.0]


def test_every_subset_is_asked_for_in_one_call():
    calls = []

    def count(rewards, mask):
        calls.append(len(mask))
        return mask.sum(1)

    utility = make_utility("custom", function=count)
    calls.clear()
    shapley_values(torch.rand(5, 6), utility=utility)
    assert calls == [5 * 2**6]


def test_softmax_lies_between_mean_and_max():
    rewards = torch.tensor([[5.0, 4.0, 1.0]], dtype=torch.float64)
    for temperature, limit in ((1e-3, "max"), (1e6, "mean")):
        utility = make_utility("softmax", temperature=temperature)
        torch.testing.assert_close(
            shapley_values(rewards, utility=utility),
            shapley_values(rewards, utility=limit),
            rtol=0,
            atol=1e-5,
        )


def test_coverage_of_all_subsets_of_tests_by_inclusion_and_exclusion():
    """The utility itself, held against the size of a Python set."""
    for vectors in itertools.product([[1, 0], [0, 1], [1, 1], [0, 0]], repeat=3):
        passed = {test for vector in vectors for test, one in enumerate(vector) if one}
        assert set_utility([list(vectors)], utility="coverage").item() == len(passed)
