"""The axioms, on random sets."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shape_grpo.credit import allocate, make_allocator, make_utility, set_utility, shapley_values

# The same examples in every run, however slow the machine.
steady = settings(deadline=None, derandomize=True, max_examples=60)

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-50, 50, allow_subnormal=False))
chances = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
tests_passed = st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3)

UTILITIES = {
    # utility, a candidate's reward, one that adds nothing to any set of rewards of 0 and more
    "max": (make_utility("max"), numbers, 0.0),
    "mean": (make_utility("mean"), numbers, None),
    "sum": (make_utility("sum"), numbers, 0.0),
    "top_m": (make_utility("top_m", m=2), numbers, 0.0),
    "top_m, mean": (make_utility("top_m", m=2, average=True), numbers, None),
    "owa": (make_utility("owa", weights=[1, 0.5, 0.25]), numbers, 0.0),
    "softmax": (make_utility("softmax", temperature=5.0), numbers, None),
    "noisy_or": (make_utility("noisy_or"), chances, 0.0),
    "coverage": (make_utility("coverage", weights=[1, 2, 0.5]), tests_passed, [0.0] * 3),
    "best per component": (
        make_utility("best_per_component", weights=[1, 2, 0.5]),
        st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 50)), min_size=3, max_size=3),
        [0.0] * 3,
    ),
    "custom": (
        make_utility("custom", function=lambda r, m: r.pow(2).sum(1) / m.sum(1).clamp(min=1)),
        numbers,
        None,
    ),
}
every_game = pytest.mark.parametrize(
    ("utility", "reward", "nothing"), UTILITIES.values(), ids=UTILITIES.keys()
)
NULL = ["max", "sum", "top_m", "owa", "noisy_or", "coverage", "best per component"]
EFFICIENT = ("shapley", "banzhaf", "uniform", "winner_takes_all")
SEMIVALUES = ("shapley", "banzhaf", "leave_one_out", "beta_shapley", "attention")
OPTIONS = {
    "beta_shapley": {"alpha": 3, "beta": 0.5},
    # For six candidates and fewer.
    "attention": {"looks": [0.4, 0, 0.2, 0.1, 0, 0.3]},
}


def draw_set(data, reward, max_size=6):
    return data.draw(st.lists(reward, min_size=1, max_size=max_size))


def shares_of(rewards, utility, allocator="shapley"):
    batch = torch.tensor([rewards], dtype=torch.float64)
    options = OPTIONS.get(allocator, {})
    return allocate(batch, utility=utility, allocator=make_allocator(allocator, **options))[0]


def size(rewards):
    """What rounding errors are relative to."""
    return 1 + torch.tensor(rewards).abs().max().item() ** 2


@pytest.mark.parametrize("allocator", EFFICIENT)
@every_game
@steady
@given(data=st.data())
def test_efficiency(utility, reward, nothing, allocator, data):
    rewards = draw_set(data, reward)
    total = set_utility(torch.tensor([rewards], dtype=torch.float64), utility=utility).item()
    shares = shares_of(rewards, utility, allocator)
    assert shares.isfinite().all()
    # Banzhaf's scaling divides by a sum that may all but cancel.
    if allocator == "banzhaf":
        assume(shares.abs().max() < 1e3 * size(rewards))
    assert shares.sum().item() == pytest.approx(total, abs=1e-9 * size(rewards))


@pytest.mark.parametrize("allocator", SEMIVALUES)
@every_game
@steady
@given(data=st.data())
def test_symmetry(utility, reward, nothing, allocator, data):
    rewards = draw_set(data, reward, max_size=5)
    twin = data.draw(st.sampled_from(rewards))
    shares = shares_of([*rewards, twin], utility, allocator)
    first, second = shares[rewards.index(twin)].item(), shares[-1].item()
    assert first == pytest.approx(second, abs=1e-9 * max(size(rewards), shares.abs().max().item()))


@pytest.mark.parametrize("allocator", SEMIVALUES)
@pytest.mark.parametrize("name", NULL)
@steady
@given(data=st.data())
def test_null_player(name, allocator, data):
    """It earns nothing, and costs nobody."""
    utility, reward, nothing = UTILITIES[name]
    rewards = torch.tensor(draw_set(data, reward, max_size=5)).abs().tolist()
    shares = shares_of([*rewards, nothing], utility, allocator)
    assert shares[-1].item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(
        shares[:-1], shares_of(rewards, utility, allocator), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("allocator", sorted({*EFFICIENT, *SEMIVALUES}))
@every_game
@steady
@given(data=st.data())
def test_permutation_equivariance(utility, reward, nothing, allocator, data):
    rewards = draw_set(data, reward)
    order = data.draw(st.permutations(range(len(rewards))))
    permuted = shares_of([rewards[k] for k in order], utility, allocator)
    expected = shares_of(rewards, utility, allocator)[list(order)]
    torch.testing.assert_close(permuted, expected, rtol=1e-9, atol=1e-9 * size(rewards))


@pytest.mark.parametrize("name", ["max", "mean", "sum", "top_m", "top_m, mean", "owa"])
@steady
@given(data=st.data())
def test_scale_equivariance(name, data):
    utility, reward, _ = UTILITIES[name]
    rewards, factor = draw_set(data, reward), data.draw(st.floats(1e-3, 1e3))
    for allocator in ("shapley", "beta_shapley", "attention"):
        scaled = shares_of([factor * r for r in rewards], utility, allocator)
        expected = factor * shares_of(rewards, utility, allocator)
        torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-9)


@steady
@given(st.lists(numbers, min_size=1, max_size=6), st.floats(0.1, 10))
def test_softmax_scales_with_its_temperature(rewards, factor):
    warmer = make_utility("softmax", temperature=5.0 * factor)
    scaled = shares_of([factor * r for r in rewards], warmer)
    expected = factor * shares_of(rewards, make_utility("softmax", temperature=5.0))
    torch.testing.assert_close(scaled, expected, rtol=1e-8, atol=1e-8)


weights = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


@steady
@given(st.lists(numbers, min_size=1, max_size=6), weights, weights)
def test_linearity_of_rank_weights(rewards, first, second):
    def shares(weights):
        return shares_of(rewards, make_utility("owa", weights=weights))

    both = shares([a + b for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(both, shares(first) + shares(second), rtol=1e-9, atol=1e-9)


@steady
@given(st.lists(tests_passed, min_size=1, max_size=6), weights, weights)
def test_linearity_of_test_weights(vectors, first, second):
    def shares(weights):
        return shares_of(vectors, make_utility("coverage", weights=[abs(w) for w in weights]))

    both = shares([abs(a) + abs(b) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(both, shares(first) + shares(second))


@steady
@given(st.lists(numbers, min_size=1, max_size=6))
def test_linearity_across_utilities(rewards):
    """A custom utility that is the sum of two others has the sum of their shares."""
    best, average = make_utility("max"), make_utility("mean")
    both = make_utility("custom", function=lambda r, m: best.value(r, m) + 2 * average.value(r, m))
    expected = shares_of(rewards, best) + 2 * shares_of(rewards, average)
    torch.testing.assert_close(shares_of(rewards, both), expected, rtol=1e-9, atol=1e-9)


@steady
@given(st.lists(numbers, min_size=1, max_size=6))
def test_leave_one_out_is_the_last_arrival_and_never_pays_more_than_all_lose(rewards):
    """For the max only the best candidate's lead over the second counts."""
    shares = shares_of(rewards, "max", "leave_one_out").tolist()
    ordered = sorted([0.0, *rewards] if len(rewards) == 1 else rewards)
    lead = ordered[-1] - ordered[-2] if len(rewards) > 1 else rewards[0]
    for reward, share in zip(rewards, shares, strict=True):
        expected = lead if reward == ordered[-1] or len(rewards) == 1 else 0.0
        assert share == pytest.approx(expected, abs=1e-9)


def test_float32_stays_float32():
    for utility, _, _ in UTILITIES.values():
        shape = (2, 4, 3) if utility.takes_vectors else (2, 4)
        rewards = torch.ones(shape, requires_grad=True)
        for allocator in (*EFFICIENT, *SEMIVALUES):
            shares = allocate(
                rewards,
                utility=utility,
                allocator=make_allocator(allocator, **OPTIONS.get(allocator, {})),
            )
            assert shares.dtype == torch.float32
            assert not shares.requires_grad
        assert shapley_values(rewards.double(), utility=utility).dtype == torch.float64
