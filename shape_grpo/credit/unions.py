"""Utility of sets in which one success is enough.

The closed form and its proof: README.md in this folder.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.credit.subsets import ELEMENTS_AT_ONCE
from shape_grpo.credit.utilities import Utility, register_utility


@register_utility("noisy_or")
class NoisyOr(Utility):
    """U(S) = 1 - product over S of (1 - p): the chance that at least one of several independent
    successes happens. U(empty) = 0.

    k adds p_k times the product of (1 - p_j) over those present: on average p_k times the sum over
    s of P(s) times the mean product over the sets of s others, which `mean_product_of_others` finds
    for all candidates at once. O(K^2).
    """

    domain = "probabilities, 0 to 1"

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return 1 - (1 - rewards.double()).prod(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        chances, k = rewards.double(), rewards.shape[1]
        sizes = law.sizes(k).to(rewards.device)
        rows = max(ELEMENTS_AT_ONCE // k**2, 1)
        pieces = [mean_product_of_others(1 - some, sizes) for some in chances.split(rows)]
        return chances * torch.cat(pieces)

    def allows(self, rewards: Tensor) -> Tensor:
        return (rewards >= 0) & (rewards <= 1)


def mean_product_of_others(factors: Tensor, sizes: Tensor) -> Tensor:
    """Return the mean product of the factors of some of the others, for each of K candidates.

    With m_j(s) the mean product over the sets of s of the first j candidates,
    m_j(s) = (1 - s / j) m_(j-1)(s) + (s / j) f_j m_(j-1)(s - 1). The result is the derivative by
    f_k of sum over s of sizes(s - 1) (K / s) m_K(s), found from the last candidate to the first.
    All terms are 0 or more, so nothing cancels. O(K^2).

    Args:
        factors: (N, K) float64, 0 or more.
        sizes: (K,) float64: at [s] the probability that s others are taken.

    Returns:
        (N, K) float64.
    """
    k = factors.shape[1]
    count = torch.arange(k + 1, dtype=torch.float64, device=factors.device).unsqueeze(1)
    # Columns are sets: m_j is (j + 1, N).
    means = [torch.ones_like(factors.T[:1])]
    for j in range(1, k):
        joined = count[1 : j + 1] / j * means[-1] * factors[:, j - 1]
        left_out = (1 - count[:j] / j) * means[-1]
        means.append(pad(left_out, (0, 0, 0, 1)) + pad(joined, (0, 0, 1, 0)))

    # The derivative by m_j.
    slopes = pad(sizes.unsqueeze(1) * k / count[1:], (0, 0, 1, 0)).expand(-1, len(factors))
    results = torch.empty_like(factors)
    for j in range(k, 0, -1):
        joining = count[1 : j + 1] / j * slopes[1:]
        results[:, j - 1] = (joining * means.pop()).sum(dim=0)
        slopes = (1 - count[:j] / j) * slopes[:-1] + joining * factors[:, j - 1]
    return results
