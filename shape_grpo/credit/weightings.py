"""Utility of vectors under random weightings of their components."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.utilities import register_utility
from shape_grpo.credit.vectors import ComponentUtility


@register_utility("weightings")
@dataclass
class Weightings(ComponentUtility):
    """U(S) = mean over random weight vectors w of the best w . r_k of S: the set serves whoever
    weighs the components in some way. U(empty) = 0.

    The objective of Vector Policy Optimization (arXiv 2605.22817). The W weight vectors follow the
    symmetric Dirichlet distribution, are drawn anew for each prompt and step, and are the same for
    all responses of a group. `project` turns a reward vector into its W numbers w . r_k / W, of
    which U is the sum of the bests; everything else is told these.

    Attributes:
        components: M, the length of a reward vector; numbers of 0 and more.
        number: W.
        concentration: Parameter of the distribution, above 0: 1 for all weightings alike, less for
            weightings of few components, more for equal weights.
        corners: One weighting per component instead, with all weight on it: U is the mean over
            components of the best.
    """

    components: int
    number: int = 16
    concentration: float = 1.0
    corners: bool = False

    def __post_init__(self) -> None:
        for name in ("components", "number"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"utility 'weightings' needs {name}, a whole number of 1 or more, not {value!r}"
                )
        # The sum of larger ones is infinite, and all weights would be 0.
        if not 0 < self.concentration <= 1e100:
            raise ValueError(
                f"utility 'weightings' needs 0 < concentration <= 1e100, not {self.concentration!r}"
            )
        self.domain = f"vectors of {self.components} finite numbers of 0 and more"

    def weights(self, draw: str | int) -> Tensor:
        """Return (W, M) float64: the weight vectors of a draw, each with sum 1.

        Args:
            draw: Names the prompt, the step and the run; equal names have equal weights.
        """
        if self.corners:
            return torch.eye(self.components, dtype=torch.float64)
        return _draw(str(draw), self.number, self.components, self.concentration)

    def project(self, vectors: Tensor | ArrayLike, draw: str | int) -> Tensor:
        """Return (..., W) float64: w . r / W of vectors (..., M), for each weight vector of a draw.

        Raises:
            ValueError: A vector has another length than M, or a number that is not allowed.
        """
        vectors = super().project(vectors, draw)
        if not self.accepts(vectors):
            raise ValueError(
                f"the reward is {vectors.tolist()!r:.200}; utility 'weightings' with "
                f"components={self.components} takes {self.domain}"
            )
        weights = self.weights(draw).to(vectors.device)
        return vectors @ (weights / len(weights)).T

    def accepts(self, reward: Tensor) -> bool:
        return reward.shape[-1:] == (self.components,) and bool(super().allows(reward).all())

    def allows(self, rewards: Tensor) -> Tensor:
        """Return which numbers may be projected rewards."""
        width = self.components if self.corners else self.number
        # Vectors of candidates without a reward function's are 0, of any length.
        return super().allows(rewards) & ((rewards == 0) | (rewards.shape[-1] == width))


@lru_cache(maxsize=64)
def _draw(draw: str, number: int, components: int, concentration: float) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(draw.encode()).digest())
    weights = np.random.default_rng(seed).dirichlet([concentration] * components, number)
    return torch.from_numpy(weights)
