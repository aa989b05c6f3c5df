"""Objectives of credit: gradients of small sets, by listing all their outcomes."""

import itertools
from statistics import fmean

import pytest
import torch

from shape_grpo.credit import Uniform, allocate, make_allocator, make_utility
from tests.credit import oracles

LOOKS = [0.4, 0.1, 0.5]
LAWS = {
    # allocator, options, the law's probabilities of 0, 1, ... of n - 1 others
    "shapley": ("shapley", {}, lambda n: [1 / n] * n),
    "leave one out": ("leave_one_out", {}, lambda n: [0] * (n - 1) + [1]),
    "beta 3, 1": ("beta_shapley", {"alpha": 3, "beta": 1}, oracles.beta_binomial(3, 1)),
    "beta 0.5, 2": ("beta_shapley", {"alpha": 0.5, "beta": 2}, oracles.beta_binomial(0.5, 2)),
    "attention": ("attention", {"looks": LOOKS}, oracles.seen(LOOKS)),
    "best of 2": ("best_of_k", {"k": 2}, lambda n: [s == min(2, n) - 1 for s in range(n)]),
}
every_law = pytest.mark.parametrize(
    ("allocator", "options", "chances"), LAWS.values(), ids=LAWS.keys()
)
TITLES = ["max", "mean", "best 2", "softmax", "custom", "noisy_or"]
VECTORS = ["best per component, weighted", "weightings", "custom, of vectors"]


class Policies:
    """K independent softmax policies over the items of a table of rewards, and all outcomes."""

    def __init__(self, count, *, shared, seed=0, vectors=False):
        generator = torch.Generator().manual_seed(10 * count + seed)
        reward = (3,) if vectors else ()
        self.items = torch.rand(4, *reward, generator=generator, dtype=torch.float64)
        shape = (1 if shared else count, 4)
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.logits.requires_grad_()
        self.outcomes = torch.tensor(list(itertools.product(range(4), repeat=count)))
        self.rewards = self.items[self.outcomes]
        log_chances = self.logits.log_softmax(dim=1).expand(count, 4)
        self.log_policies = log_chances[torch.arange(count), self.outcomes]
        self.chances = self.log_policies.sum(dim=1).exp()

    def update(self, credit):
        """The expected update of candidates that are paid ``credit`` (outcomes, K)."""
        paid = (credit * self.log_policies).sum(dim=1)
        (gradient,) = torch.autograd.grad(
            (self.chances.detach() * paid).sum(), self.logits, retain_graph=True
        )
        return gradient

    def gradient(self, objective):
        """Of the expectation of ``objective`` (outcomes,)."""
        (gradient,) = torch.autograd.grad(
            (self.chances * objective).sum(), self.logits, retain_graph=True
        )
        return gradient


def utility_of_some(value, rewards):
    """(K, outcomes): at [s - 1] the mean utility of s of the candidates."""
    means = [
        [fmean(oracles.worth(value, some) for some in itertools.combinations(row, size))
         for row in rewards.tolist()]
        for size in range(1, rewards.shape[1] + 1)
    ]  # fmt: skip
    return torch.tensor(means, dtype=torch.float64)


@every_law
@pytest.mark.parametrize("title", TITLES + VECTORS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_update_is_the_gradient_of_best_of_s(count, shared, title, allocator, options, chances):
    name, utility_options, value, _ = oracles.UTILITIES[title]
    utility = make_utility(name, **utility_options)
    policies = Policies(count, shared=shared, vectors=utility.takes_vectors)
    credit = allocate(
        policies.rewards, utility=utility, allocator=make_allocator(allocator, **options)
    )
    # Q = K * sum over s of P(s - 1) / s times the mean utility of s, and the weights are these
    # factors over their sum.
    scale = count * sum(p / s for s, p in enumerate(chances(count), start=1))
    weights = make_allocator(allocator, **options).objective_weights(count)
    of_some = utility_of_some(value, policies.rewards)
    objective = scale * weights @ of_some
    torch.testing.assert_close(
        policies.update(credit), policies.gradient(objective), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("title", TITLES)
def test_grpo_maximises_the_utility_of_all(title):
    name, utility_options, value, _ = oracles.UTILITIES[title]
    policies = Policies(3, shared=True)
    credit = allocate(
        policies.rewards, utility=make_utility(name, **utility_options), allocator="uniform"
    )
    of_some = utility_of_some(value, policies.rewards)
    objective = Uniform().objective_weights(3) @ of_some / 3
    torch.testing.assert_close(policies.update(credit), policies.gradient(objective))


def test_shares_less_their_mean_maximise_what_is_left_of_the_whole_set():
    """Part within sets of the advantage ``contrast``: Q - V / K, with V the sum of the shares."""
    policies = Policies(3, shared=False)
    credit = allocate(policies.rewards, allocator="leave_one_out")
    best, sum_of_shares = policies.rewards.amax(dim=1), credit.sum(dim=1)
    torch.testing.assert_close(
        policies.update(credit - credit.mean(dim=1, keepdim=True)),
        policies.gradient(best - sum_of_shares / 3),
    )


@every_law
@pytest.mark.parametrize("title", TITLES)
def test_shares_less_their_mean_maximise_what_the_law_does_among_one_fewer(
    title, allocator, options, chances
):
    """The advantages of rollouts, before they are divided: P of one of the others that is not
    counted. For best-of-k of n it is n / k - 1 times best-of-k, and best-of-(k - 1)."""
    count, (name, utility_options, value, _) = 4, oracles.UTILITIES[title]
    policies, law = Policies(count, shared=True), chances(count)
    credit = allocate(
        policies.rewards,
        utility=make_utility(name, **utility_options),
        allocator=make_allocator(allocator, **options),
    )
    seen = [
        (law[s] * (count - 1 - s) + law[s + 1] * (s + 1)) / (count - 1) for s in range(count - 1)
    ]
    factors = [(count - 1) * p / s for s, p in enumerate(seen, start=1)]
    if allocator == "best_of_k":
        assert factors == pytest.approx([1, count / 2 - 1, 0])
    objective = torch.tensor([*factors, 0.0], dtype=torch.float64) @ utility_of_some(
        value, policies.rewards
    )
    torch.testing.assert_close(
        policies.update(credit - credit.mean(dim=1, keepdim=True)),
        policies.gradient(objective),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("allocator", "is_gradient"), [("shapley", True), ("winner_takes_all", False)]
)
def test_winner_takes_all_maximises_no_objective(allocator, is_gradient):
    """The expected update of two candidates as a function of the logits: a gradient's derivatives
    are symmetric."""
    rewards = torch.tensor([[0.1, 0.5], [0.3, 0.9]], dtype=torch.float64)
    pairs = torch.cartesian_prod(*rewards)
    first, second = allocate(pairs, allocator=allocator).view(2, 2, 2).unbind(dim=2)

    def update(logits):
        chances = logits.softmax(dim=1)
        credit = torch.stack([first @ chances[1], chances[0] @ second])
        return chances * (credit - (chances * credit).sum(dim=1, keepdim=True))

    logits = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    derivatives = torch.autograd.functional.jacobian(update, logits).view(4, 4)
    assert torch.allclose(derivatives, derivatives.T, atol=1e-12) == is_gradient


@pytest.mark.parametrize(
    ("allocator", "options", "expected"),
    [
        ("shapley", {}, [6 / 11, 3 / 11, 2 / 11]),
        ("beta_shapley", {"alpha": 1, "beta": 1}, [6 / 11, 3 / 11, 2 / 11]),
        ("leave_one_out", {}, [0, 0, 1]),
        ("uniform", {}, [0, 0, 1]),
        ("banzhaf", {}, [3 / 7, 3 / 7, 1 / 7]),
        # The objective is what the user does.
        ("attention", {"looks": [0.5, 0.3, 0.2]}, [0.5, 0.3, 0.2]),
        ("attention", {"looks": [5, 3]}, [5 / 8, 3 / 8, 0]),
        ("best_of_k", {"k": 2}, [0, 1, 0]),
    ],
)
def test_weights_of_three_candidates(allocator, options, expected):
    weights = make_allocator(allocator, **options).objective_weights(3)
    assert weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "allocator", "options", "says"),
    [
        (
            3,
            "winner_takes_all",
            {},
            "WinnerTakesAll is no semivalue",
        ),
        (3, "shapely", {}, "unknown allocator 'shapely'"),
        (3, "beta_shapley", {}, "needs the option 'alpha'"),
        (0, "shapley", {}, "count=0"),
    ],
)
def test_refused(count, allocator, options, says):
    with pytest.raises(ValueError, match=says):
        make_allocator(allocator, **options).objective_weights(count)
