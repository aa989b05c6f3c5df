"""What `allocate` gives, accepts and refuses, whatever the allocator."""

import numpy as np
import pytest
import torch

from shape_grpo.credit import (
    ALLOCATORS,
    Allocator,
    allocate,
    make_allocator,
    register_allocator,
    set_utility,
    shapley_values,
)

NAN, INF = float("nan"), float("inf")
OPTIONS = {
    "beta_shapley": {"alpha": 3, "beta": 0.5},
    "attention": {"looks": [0.5, 0, 0.5]},
    "best_of_k": {"k": 2},
}
ALLOCATOR = {name: make_allocator(name, **OPTIONS.get(name, {})) for name in ALLOCATORS}
EFFICIENT = ["banzhaf", "shapley", "uniform", "winner_takes_all"]

SHARES = {
    # rewards, shares by uniform, winner_takes_all, leave_one_out, banzhaf (before scaling: the
    # step r_(l) - r_(l-1) goes to each of the n that reach it with 1 / 2^(n-1))
    "one best": ([5, 4, 3], [5 / 3] * 3, [5, 0, 0], [1, 0, 0], [45 / 17, 25 / 17, 15 / 17]),
    "best in the middle": ([0, 6, 3], [2, 2, 2], [0, 6, 0], [0, 3, 0], [0, 4.5, 1.5]),
    "the best tie": ([4, 1, 4], [4 / 3] * 3, [2, 0, 2], [0, 0, 0], [28 / 15, 4 / 15, 28 / 15]),
    "all tie": ([3, 3, 3], [1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]),
    "all zero": ([0, 0], [0, 0], [0, 0], [0, 0], [0, 0]),
    "negative": ([-4, -2], [-1, -1], [0, -2], [0, 2], [-2, 0]),
    "banzhaf sums to zero": ([-2, 0], [0, 0], [0, 0], [0, 2], [0, 0]),
    "one": ([7], [7], [7], [7], [7]),
}


@pytest.mark.parametrize(
    ("rewards", "uniform", "winner", "left_out", "banzhaf"), SHARES.values(), ids=SHARES.keys()
)
def test_baselines(rewards, uniform, winner, left_out, banzhaf):
    def shares(allocator):
        return allocate([rewards], allocator=allocator)[0].tolist()

    assert shares("uniform") == pytest.approx(uniform)
    assert shares("winner_takes_all") == pytest.approx(winner)
    assert shares("leave_one_out") == pytest.approx(left_out)
    assert shares("banzhaf") == pytest.approx(banzhaf)


@pytest.mark.parametrize("allocator", EFFICIENT)
def test_ragged_shares_sum_to_the_utility(allocator):
    rewards = torch.tensor([[NAN, 4.0, 1.0], [2.0, INF, -1.0], [NAN, NAN, NAN], [-1.0, -3.0, -2.0]])
    mask = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
    shares = allocate(rewards, mask, allocator=allocator)
    torch.testing.assert_close(shares.sum(dim=1), torch.tensor([4.0, 2.0, 0.0, -1.0]))
    assert set_utility(rewards, mask).tolist() == [4.0, 2.0, 0.0, -1.0]
    assert (shares[mask == 0] == 0).all()


@pytest.mark.parametrize("allocator", sorted(ALLOCATORS))
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_share(allocator, shape):
    shares = allocate(torch.empty(shape), allocator=ALLOCATOR[allocator])
    assert shares.shape == shape
    assert set_utility(torch.empty(shape)).tolist() == [0.0] * shape[0]


ACCEPTED = {
    "float32": (torch.tensor([[5.0, 4.0, 3.0]]), torch.float32),
    "float64": (torch.tensor([[5.0, 4.0, 3.0]], dtype=torch.float64), torch.float64),
    "bfloat16": (torch.tensor([[5.0, 4.0, 3.0]], dtype=torch.bfloat16), torch.bfloat16),
    "integers": (torch.tensor([[5, 4, 3]]), torch.float32),
    "nested lists": ([[5, 4, 3]], torch.float32),
    "a numpy array": (np.array([[5.0, 4.0, 3.0]]), torch.float64),
    "a column order": (torch.tensor([[5.0], [4.0], [3.0]]).T, torch.float32),
}


@pytest.mark.parametrize(("rewards", "dtype"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted_rewards(rewards, dtype):
    shares = shapley_values(rewards)
    assert shares.dtype == dtype
    assert shares.tolist() == [[2.5, 1.5, 1.0]]


def test_booleans_are_zeros_and_ones():
    assert shapley_values(torch.tensor([[True, False, True]])).tolist() == [[0.5, 0.0, 0.5]]


@pytest.mark.parametrize("allocator", sorted(ALLOCATORS))
def test_no_gradient_and_inputs_untouched(allocator):
    rewards = torch.tensor([[5.0, NAN, 3.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    shares = allocate(rewards, mask, allocator=ALLOCATOR[allocator])
    assert not shares.requires_grad
    assert not set_utility(rewards, mask).requires_grad
    assert rewards[0, 1].isnan()


REFUSED = {
    # rewards, mask, names, what the message must say
    "a NaN": ([[1, 2], [3, NAN]], None, {}, r"rewards\[1, 1\] is nan"),
    "an infinity": ([[1, -INF]], None, {}, r"rewards\[0, 1\] is -inf"),
    "one set, not a batch": ([5, 4, 3], None, {}, r"\[\[5, 4, 3\]\]"),
    "complex numbers": (torch.ones(1, 1) * 1j, None, {}, "real numbers"),
    "a mask of another shape": ([[1, 2]], [[True]], {}, r"\(1, 1\), rewards \(1, 2\)"),
    "no such utility": ([[1]], None, {"utility": "best"}, "utility 'best'; use one of: .*max"),
    "no such allocator": (
        [[1]],
        None,
        {"allocator": "wta"},
        "allocator 'wta'; use one of: attention, banzhaf, best_of_k, beta_shapley, leave_one_out, "
        "shapley, uniform, winner_takes_all",
    ),
}


@pytest.mark.parametrize(("rewards", "mask", "names", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(rewards, mask, names, says):
    with pytest.raises(ValueError, match=says) as error:
        allocate(rewards, mask, **names)
    assert "\n" not in str(error.value)


def test_an_allocator_of_ones_own():
    name = "proportional, for a test"
    try:

        @register_allocator(name)
        class Proportional(Allocator):
            def allocate(self, rewards, mask, utility):
                total = rewards.sum(dim=1, keepdim=True)
                return utility.value(rewards, mask).unsqueeze(1) * rewards / total

        shares = allocate([[6, 3, 1]], [[1, 1, 0]], allocator=name)
        assert shares[0].tolist() == pytest.approx([4, 2, 0])
    finally:
        ALLOCATORS.pop(name)
