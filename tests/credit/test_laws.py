"""The laws of semivalues: probabilities, limits, and sets of any size."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import special

from shape_grpo.credit import (
    ALLOCATORS,
    Allocator,
    Attention,
    Banzhaf,
    BestOfK,
    BetaShapley,
    LeaveOneOut,
    Shapley,
    allocate,
    make_allocator,
    make_utility,
    register_allocator,
    sample_semivalue,
)
from shape_grpo.credit.unions import mean_product_of_others
from tests.credit import oracles

NAN, INF = float("nan"), float("inf")

LAWS = {
    "shapley": Shapley(),
    "banzhaf": Banzhaf(),
    "leave one out": LeaveOneOut(),
    "beta 3, 1": BetaShapley(3, 1),
    "beta 0.1, 0.2": BetaShapley(0.1, 0.2),
    "attention": Attention([0.2, 0, 0.5, 0.3]),
    "attention, many places": Attention([0.2] * 40),
    "best of 3": BestOfK(3),
}
TITLES = [title for title in oracles.UTILITIES if title != "custom"]


def nodes_of_t(law, count):
    """Values and weights of t, exact for polynomials of this degree; by scipy."""
    if isinstance(law, BetaShapley):
        nodes, weights = special.roots_jacobi(count, law.beta - 1, law.alpha - 1)
        return (nodes + 1) / 2, weights / weights.sum()
    if isinstance(law, Shapley):
        nodes, weights = special.roots_legendre(count)
        return (nodes + 1) / 2, weights / 2
    return [0.5 if isinstance(law, Banzhaf) else 1.0], [1.0]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("name", [name for name in LAWS if name[:4] not in ("atte", "best")])
def test_sizes_are_binomial_probabilities_averaged_over_t(name, count):
    law, others = LAWS[name], count - 1
    expected = [
        sum(w * math.comb(others, s) * t**s * (1 - t) ** (others - s) for t, w in
            zip(*nodes_of_t(law, count), strict=True))
        for s in range(count)
    ]  # fmt: skip
    assert law.sizes(count).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("looks", [[1], [0.2, 0, 0.5, 0.3], [0, 0, 0, 0, 0, 2]])
def test_attention_is_how_many_a_user_sees_who_sees_one(looks, count):
    found = Attention(looks).sizes(count).tolist()
    assert found == pytest.approx(oracles.seen(looks)(count), abs=1e-14)


def test_attention_of_a_user_who_looks_at_all_is_leave_one_out_and_at_one_pays_the_reward():
    rewards = [[5.0, 4.0, 3.0]]
    for looks, shares in (([0, 0, 1], [1, 0, 0]), ([1, 0, 0], [5, 4, 3])):
        found = allocate(rewards, allocator=Attention(looks))
        assert found[0].tolist() == pytest.approx(shares)


@pytest.mark.parametrize("name", LAWS)
def test_some_of_the_candidates_see_the_law_of_all_of_them(name):
    """Hypergeometric: n of 9 candidates, whoever the others are."""
    law, count = LAWS[name], 9
    gains = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = law.sizes(count).tolist()
    for n in range(1, count + 1):
        expected = sum(
            p
            * math.comb(n - 1, s)
            * math.comb(count - n, total - s)
            / math.comb(count - 1, total)
            * gains[s].item()
            for total, p in enumerate(sizes)
            for s in range(min(n - 1, total) + 1)
        )
        assert law.expected(gains)[n - 1].item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("alpha", [1, 3, 0.5, 1e3, 1e12])
def test_nobody_of_m_others_is_there_with_the_ratio_of_two_beta_functions(alpha):
    """B(alpha, beta + m) / B(alpha, beta), as an exact fraction; as far as m = 1,023."""
    beta, expected = Fraction(2), Fraction(1)
    found = BetaShapley(alpha, 2).expected(torch.eye(1, 1024, dtype=torch.float64)[0]).tolist()
    for m in range(1024):
        assert found[m] == pytest.approx(float(expected), rel=1e-10)
        expected *= (beta + m) / (Fraction(alpha) + beta + m)


@pytest.mark.parametrize("title", TITLES)
def test_beta_1_1_is_shapley_to_the_bit(title):
    name, options, _, sets = oracles.UTILITIES[title]
    utility = make_utility(name, **options)
    for players in sets.values():
        batch = torch.tensor([players], dtype=torch.float64)
        same = allocate(
            batch,
            utility=utility,
            allocator=BetaShapley(1, 1.0),
        )
        assert torch.equal(same, allocate(batch, utility=utility, allocator="shapley"))


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("alpha", [1e9, 1e300])
def test_beta_tends_to_leave_one_out(title, alpha):
    name, options, _, sets = oracles.UTILITIES[title]
    utility = make_utility(name, **options)
    for players in sets.values():
        batch = torch.tensor([players], dtype=torch.float64)
        near = allocate(
            batch,
            utility=utility,
            allocator=BetaShapley(alpha, 1),
        )
        limit = allocate(batch, utility=utility, allocator="leave_one_out")
        torch.testing.assert_close(near, limit, rtol=0, atol=1e-7)


@pytest.mark.parametrize("alpha", [1e-300, 1.0, 7.5, 1e6, 1e300])
@pytest.mark.parametrize("beta", [1e-300, 1.0, 1e300])
def test_sizes_are_probabilities_however_extreme_the_law(alpha, beta):
    for count in (1, 2, 1024):
        sizes = BetaShapley(alpha, beta).sizes(count)
        assert (sizes >= 0).all()
        assert sizes.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", LAWS)
def test_1024_candidates(name):
    """The max by its definition, from the chance that nobody better is there; noisy_or of equal
    chances from the law of the number of others."""
    law, count = LAWS[name], 1024
    rewards = torch.rand(2, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.ones_like(rewards, dtype=torch.bool)
    found = make_utility("max").semivalue(rewards, mask, law)
    nobody = law.expected(torch.eye(1, count, dtype=torch.float64)[0]).numpy()
    for row, values in zip(rewards.numpy(), found.numpy(), strict=True):
        worst_first = np.sort(row)
        steps = np.diff(worst_first, prepend=0.0) * nobody[::-1]
        np.testing.assert_allclose(np.sort(values), np.cumsum(steps), atol=1e-12)

    p = 0.01
    expected = p * ((1 - p) ** torch.arange(count).double() * law.sizes(count)).sum()
    found = make_utility("noisy_or").semivalue(torch.full_like(rewards, p), mask, law)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-9, atol=0)


def test_mean_products_of_others_by_listing_them():
    factors = torch.tensor([[0.0, 0.5, 1.0, 0.3, 0.0], [0.9, 0.2, 0.2, 0.7, 1.0]]).double()
    sizes = torch.tensor([0.1, 0.3, 0.0, 0.4, 0.2]).double()
    for row, found in zip(
        factors.tolist(), mean_product_of_others(factors, sizes).tolist(), strict=True
    ):
        # A semivalue of U(S) = 1 - product is 1 - factor times what is looked for.
        def nothing_left(chosen):
            return 1 - math.prod(chosen)

        values = oracles.by_sizes(lambda n: sizes.tolist())(nothing_left, row)
        for factor, value, mean in zip(row, values, found, strict=True):
            assert value == pytest.approx((1 - factor) * mean, abs=1e-15)


@pytest.mark.parametrize("looks", [[0.2, 0.8], [0.1, 0, 0, 0.5, 0.2, 0, 0, 0.2]])
@pytest.mark.parametrize("title", oracles.UTILITIES)
def test_attention_in_a_batch_of_sets_smaller_and_larger_than_looks(title, looks):
    """Each row as if it were alone."""
    name, options, value, sets = oracles.UTILITIES[title]
    utility, oracle = make_utility(name, **options), oracles.by_sizes(oracles.seen(looks))
    generator, players = np.random.default_rng(0), [[], *sets.values()]
    shape = (len(players), 7, *np.shape(next(iter(sets.values())))[1:])
    rewards, mask = np.zeros(shape), np.zeros(shape[:2], dtype=bool)
    for row, of_set in enumerate(players):
        columns = generator.permutation(7)[: len(of_set)]
        mask[row, columns] = True
        if of_set:
            rewards[row, columns] = of_set
    found = allocate(rewards, mask, utility=utility, allocator=Attention(looks))
    for row in range(len(players)):
        expected = oracle(value, rewards[row, mask[row]].tolist())
        assert found[row, mask[row]].tolist() == pytest.approx(expected, abs=1e-11)


def test_sampling_takes_every_law():
    """14 candidates, more than subsets are listed for."""
    utility = make_utility("top_m", m=3)
    rewards = torch.rand(1, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for law in LAWS.values():
        estimate, error = sample_semivalue(utility.value, rewards, law, samples=5000)
        truth = utility.semivalue(rewards, torch.ones(1, 14, dtype=torch.bool), law)
        assert ((estimate - truth).abs() < 4.5 * error + 1e-12).all()


REFUSED = {
    # allocator, options, what the message must say
    "options where there are none": ("shapley", {"alpha": 1}, "no option 'alpha'; it takes none"),
    "misspelt": ("beta_shapley", {"alfa": 3, "beta": 1}, "'alfa'; it takes: alpha, beta"),
    "missing": ("beta_shapley", {"alpha": 3}, "needs the option 'beta'"),
    "none at all": ("attention", {}, "needs the option 'looks'"),
    "zero": ("beta_shapley", {"alpha": 0, "beta": 1}, "alpha to be a finite number above 0, not 0"),
    "negative": ("beta_shapley", {"alpha": 1, "beta": -2}, "beta to be .* above 0, not -2"),
    "infinite": ("beta_shapley", {"alpha": INF, "beta": 1}, "alpha to be a finite .* not inf"),
    "not a number": ("beta_shapley", {"alpha": NAN, "beta": 1}, "not nan"),
    "text": ("beta_shapley", {"alpha": "three", "beta": 1}, "not 'three'"),
    "a negative look": ("attention", {"looks": [1, -1]}, r"0 and more, not all 0.*not \[1, -1\]"),
    "nobody looks": ("attention", {"looks": [0, 0]}, r"not \[0, 0\]"),
    "no looks": ("attention", {"looks": []}, r"not \[\]"),
    "an endless look": ("attention", {"looks": [1, INF]}, "not .*inf"),
    "one number": ("attention", {"looks": 3}, "looks to be a list .* not 3"),
    "words": ("attention", {"looks": ["often"]}, "not .*often"),
}


@pytest.mark.parametrize(("allocator", "options", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_options(allocator, options, says):
    with pytest.raises(ValueError, match=says) as error:
        make_allocator(allocator, **options)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=says):
        allocate([[1.0]], allocator=make_allocator(allocator, **options))


def test_a_custom_allocator_may_have_options():
    name = "power, for a test"
    try:

        @register_allocator(name)
        @dataclass(frozen=True)
        class Power(Allocator):
            exponent: float
            base: float = 0.0

            def allocate(self, rewards, mask, utility):
                parts = (rewards - self.base) ** self.exponent * mask
                total = parts.sum(dim=1, keepdim=True)
                return utility.value(rewards, mask).unsqueeze(1) * parts / total

        def shares(**options):
            return allocate([[6, 3]], allocator=make_allocator(name, **options))[0].tolist()

        assert shares(exponent=1) == pytest.approx([4, 2])
        assert shares(exponent=2, base=2) == pytest.approx([6 * 16 / 17, 6 / 17])
        with pytest.raises(ValueError, match="needs the option 'exponent'"):
            shares(base=2)
        with pytest.raises(ValueError, match="'power'; it takes: exponent, base"):
            shares(power=2)
    finally:
        ALLOCATORS.pop(name)
