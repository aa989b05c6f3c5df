"""More candidates than subsets can be listed for."""

import pytest
import torch

from shape_grpo.credit import (
    Banzhaf,
    Custom,
    LeaveOneOut,
    Shapley,
    make_utility,
    sample_semivalue,
    set_utility,
    shapley_values,
)
from shape_grpo.credit.subsets import subset_semivalue

LAWS = {"shapley": Shapley(), "banzhaf": Banzhaf()}
KNOWN = {
    "max": make_utility("max"),
    "mean": make_utility("mean"),
    "top_m": make_utility("top_m", m=7),
}


def batch(columns, rows=4):
    generator = torch.Generator().manual_seed(columns)
    rewards = torch.randint(0, 9, (rows, columns), generator=generator).double()
    return rewards, torch.ones(rewards.shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("name", "law"),
    # Not Banzhaf's of the max: where all rests on one draw in thousands, no error estimate holds.
    [("max", "shapley"), *((name, law) for name in ("mean", "top_m") for law in LAWS)],
)
def test_estimates_are_as_near_to_the_truth_as_they_say(name, law):
    utility, law = KNOWN[name], LAWS[law]
    rewards, mask = batch(16)
    estimate, error = sample_semivalue(utility.value, rewards, law, samples=2000)
    truth = utility.semivalue(rewards, mask, law)
    deviations = (estimate - truth) / error.clamp(min=1e-12)
    # 64 deviations of a standard normal: none beyond 4.5, about one in three beyond 1.
    assert deviations.abs().max() < 4.5
    assert 0.1 < (deviations.abs() > 1).double().mean() < 0.6


def test_the_error_falls_with_the_square_root_of_the_samples():
    rewards, _ = batch(16)
    few, many = (
        sample_semivalue(KNOWN["max"].value, rewards, Shapley(), samples=n)[1].mean()
        for n in (200, 20_000)
    )
    assert few / many == pytest.approx(10, rel=0.3)


def test_antithetic_pairs_err_less_than_orders_alone():
    """The estimate's spread over seeds, against that of as many independent orders."""
    rewards, _ = batch(14, rows=1)
    value = KNOWN["top_m"].value
    paired = torch.stack(
        [sample_semivalue(value, rewards, Shapley(), samples=8, seed=s)[0] for s in range(200)]
    )
    single = torch.stack(
        [plain_orders(value, rewards, torch.Generator().manual_seed(s), 8) for s in range(200)]
    )
    assert paired.std(dim=0).mean() < 0.75 * single.std(dim=0).mean()


def plain_orders(value, rewards, generator, samples):
    gains = torch.zeros_like(rewards)
    for _ in range(samples):
        present = torch.zeros(rewards.shape, dtype=torch.bool)
        before = 0.0
        for k in torch.randperm(rewards.shape[1], generator=generator).tolist():
            present[:, k] = True
            after = value(rewards.masked_fill(~present, 0.0), present).item()
            gains[:, k] += after - before
            before = after
    return gains / samples


def test_sampled_shares_keep_the_axioms_exactly():
    """Efficiency, symmetry, equivariance and a fixed seed."""
    utility = make_utility("softmax", temperature=2.0)
    rewards, _ = batch(20)
    shares = shapley_values(rewards, utility=utility)
    torch.testing.assert_close(shares.sum(dim=1), set_utility(rewards, utility=utility))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert torch.equal(shapley_values(rewards[:, order], utility=utility), shares[:, order])
    for row, values in zip(rewards.tolist(), shares.tolist(), strict=True):
        by_reward = dict(zip(row, values, strict=True))
        assert all(by_reward[reward] == v for reward, v in zip(row, values, strict=True))
    other = shapley_values(rewards, utility=make_utility("softmax", temperature=2.0, seed=1))
    assert not torch.equal(other, shares)


def test_a_set_is_not_touched_by_the_others_of_its_batch():
    """12 candidates are exact beside a set of 30, which is sampled as if it were alone."""
    utility = make_utility("softmax", temperature=2.0)
    rewards, mask = batch(30, rows=2)
    mask[0, 12:] = False
    together = shapley_values(rewards, mask, utility=utility)
    torch.testing.assert_close(
        together[:1, :12], shapley_values(rewards[:1, :12], utility=utility), rtol=0, atol=0
    )
    torch.testing.assert_close(
        together[1:], shapley_values(rewards[1:], utility=utility), rtol=0, atol=0
    )


def test_leave_one_out_is_exact_at_any_size():
    rewards, mask = batch(40)
    utility = Custom(function=KNOWN["top_m"].value)
    torch.testing.assert_close(
        utility.semivalue(rewards, mask, LeaveOneOut()),
        KNOWN["top_m"].semivalue(rewards, mask, LeaveOneOut()),
    )


def test_the_limit_of_exactness_is_an_option():
    rewards, mask = batch(8)
    value, law = KNOWN["max"].value, Shapley()
    exact = subset_semivalue(value, rewards, mask, law)
    sampled = subset_semivalue(value, rewards, mask, law, exact_up_to=7)
    torch.testing.assert_close(exact, KNOWN["max"].semivalue(rewards, mask, law))
    assert not torch.allclose(sampled, exact)
    torch.testing.assert_close(sampled, exact, rtol=0, atol=0.5)
