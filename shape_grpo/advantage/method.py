"""A method: everything that turns the rewards of candidates into advantages."""

from dataclasses import dataclass, field

from torch import Tensor

from shape_grpo.advantage.formulas import ADVANTAGES
from shape_grpo.credit import Allocator, Max, Shapley, Shares, Split, Utility, weigh_shares


@dataclass(frozen=True)
class Method:
    """Named choices of a method; the default is the paper's.

    `shape_grpo.config.ShapeGRPOConfig.method` builds one from names.

    Attributes:
        utility: Set utility U, as `shape_grpo.credit.make_utility` builds it.
        allocator: Rule that splits U over the candidates; ``Uniform()`` is GRPO under every
            advantage formula.
        advantage: Name in `shape_grpo.advantage.ADVANTAGES`: how shares become advantages.
        length_correction: Whether candidates count in proportion to their tokens, so that the mean
            credit weight over the tokens of a response's candidates is 1, whatever their lengths.
            Without it that holds for equal lengths.
        norm_by_std: Whether advantages are divided by std + epsilon (verl's
            ``norm_adv_by_std_in_grpo``).
        epsilon: Number added to the standard deviation, as in verl.

    Raises:
        ValueError: The advantage is unknown, or epsilon is not positive.
    """

    utility: Utility = field(default_factory=Max)
    allocator: Allocator = field(default_factory=Shapley)
    advantage: str = "reweight"
    length_correction: bool = False
    norm_by_std: bool = True
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        ADVANTAGES.find(self.advantage)
        if not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon}: must be positive.")

    def weigh(self, shares: Shares, mask: Tensor, lengths: Tensor) -> Split:
        """Compute the credit weights of N sets: `shape_grpo.credit.weigh_shares` of the method."""
        return weigh_shares(
            shares,
            mask,
            lengths,
            allocator=self.allocator,
            length_correction=self.length_correction,
        )
