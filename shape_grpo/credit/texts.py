"""Utilities that read the texts of the candidates.

The texts are known where a response is scored. The shares of such a utility are computed there, and
travel with the response's record.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from shape_grpo.credit.ordered import Max
from shape_grpo.credit.utilities import Utility, register_utility
from shape_grpo.credit.without_closed_form import SubsetUtility, load_function


@dataclass(kw_only=True)
class TextUtility(SubsetUtility):
    """Base of utilities that read texts: define `value`, which has a third argument for them.

    `bind` returns the utility of one set of texts, as `shape_grpo.credit.allocate` takes it.
    """

    takes_texts = True

    @abstractmethod
    def value(self, rewards: Tensor, mask: Tensor, texts: Sequence[str] = ()) -> Tensor:
        """Return the utility (C,) of C subsets of one response's candidates.

        Args:
            rewards: (C, K) float64 rewards, 0 outside the mask; (C, K, M) with ``takes_vectors``.
            mask: (C, K) bool, the candidates of each subset, which are one or more.
            texts: (K,) all candidates.
        """

    def bind(self, texts: Sequence[str]) -> Utility:
        """Return the utility of sets (1, K) of the candidates ``texts``.

        Its `value` raises a ValueError if that of this class does not return one finite number per
        subset.
        """
        options = {name: getattr(self, name) for name in ("exact_up_to", "samples", "seed")}
        bound = _WithTexts(utility=self, texts=list(texts), **options)
        bound.takes_vectors = self.takes_vectors
        return bound

    def ranking(self, rewards: Tensor) -> Tensor:
        """Return (N, K): the rewards, or the sums of vectors."""
        return rewards.sum(dim=2) if self.takes_vectors else rewards


@dataclass(kw_only=True)
class _WithTexts(SubsetUtility):
    """A `TextUtility` of one set of candidates."""

    utility: TextUtility
    texts: Sequence[str]

    keeps_order = True

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        values = torch.zeros(len(mask), dtype=torch.float64)
        rows = mask.any(dim=1).nonzero().squeeze(1)
        if not len(rows):
            return values
        found: Any = self.utility.value(rewards[rows].double(), mask[rows], self.texts)
        found = torch.as_tensor(found, dtype=torch.float64)
        if found.shape != rows.shape or not found.isfinite().all():
            raise ValueError(
                f"{type(self.utility).__name__}.value returned {found.tolist()!r:.200} for "
                f"{len(rows)} sets; it must return one finite number per set"
            )
        values[rows] = found
        return values

    def allows(self, rewards: Tensor) -> Tensor:
        return self.utility.allows(rewards)

    def ranking(self, rewards: Tensor) -> Tensor:
        return self.utility.ranking(rewards)


@register_utility("best_less_redundancy")
@dataclass(kw_only=True)
class BestLessRedundancy(TextUtility):
    """U(S) = the best reward of S less ``weight`` times the mean similarity of its pairs.
    U(empty) = 0.

    A candidate that repeats others lowers the utility, so its share may be negative.

    Attributes:
        weight: Reward that two equal texts cost.
        n: Length of the character n-grams that texts are compared by: the part of both sequences of
            n-grams that is common, in order (rapidfuzz's normalised Indel similarity).
        similarity: Function of two texts, from 0 to 1, or its name ``package.module:function``.
            Default: by n-grams.
    """

    weight: float = 1.0
    n: int = 3
    similarity: str | Callable[[str, str], float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"utility option n={self.n}: must be 1 or more")
        given = self.similarity
        self._similarity = load_function(given) if isinstance(given, str) else given

    def value(self, rewards: Tensor, mask: Tensor, texts: Sequence[str] = ()) -> Tensor:
        similar = torch.zeros(len(texts), len(texts), dtype=torch.float64)
        for i, j in combinations(range(len(texts)), 2):
            similar[i, j] = self._compare(texts[i], texts[j])
        chosen = mask.double()
        count = mask.sum(dim=1)
        pairs = (count * (count - 1) / 2).clamp(min=1)
        redundancy = ((chosen @ similar) * chosen).sum(dim=1) / pairs
        return Max().value(rewards, mask) - self.weight * redundancy

    def _compare(self, first: str, second: str) -> float:
        if self._similarity is not None:
            return self._similarity(first, second)
        from rapidfuzz.distance import Indel

        return Indel.normalized_similarity(
            *(character_ngrams(text.casefold(), self.n) for text in (first, second))
        )


@register_utility("distinct_n")
@dataclass(kw_only=True)
class DistinctN(TextUtility):
    """U(S) = distinct n-grams of words over all n-grams of words in the texts of S (distinct-n: Li
    et al., 2016). U(empty) = 0. Rewards are not read.

    Attributes:
        n: Number of words, 1 or more.
    """

    n: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"utility option n={self.n}: must be 1 or more")

    def value(self, rewards: Tensor, mask: Tensor, texts: Sequence[str] = ()) -> Tensor:
        ngrams = [word_ngrams(text, self.n) for text in texts]
        values = []
        for chosen in mask.tolist():
            found = [each for there, of in zip(chosen, ngrams, strict=True) if there for each in of]
            values.append(len(set(found)) / max(len(found), 1))
        return torch.tensor(values, dtype=torch.float64)


def character_ngrams(text: str, n: int) -> list[str]:
    """Return the n-grams of a text, of which a shorter text is one."""
    return [text[start : start + n] for start in range(max(len(text) - n, 0) + 1)]


def word_ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Return the n-grams of a text's words, without case."""
    words = text.casefold().split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
