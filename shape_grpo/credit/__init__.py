"""From the rewards of a set's candidates to each candidate's share of the set's utility."""

from shape_grpo.credit.allocators import (
    ALLOCATORS,
    Allocator,
    Uniform,
    WinnerTakesAll,
    make_allocator,
    register_allocator,
)
from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.oracle import Oracle
from shape_grpo.credit.ordered import Max, Mean, OrderedWeightedAverage, Sum, TopM
from shape_grpo.credit.semivalues import (
    Attention,
    Banzhaf,
    BestOfK,
    BetaShapley,
    LeaveOneOut,
    LimitedLooks,
    Semivalue,
    Shapley,
)
from shape_grpo.credit.sets import allocate, set_utility, shapley_values
from shape_grpo.credit.subsets import sample_semivalue, subset_semivalue
from shape_grpo.credit.texts import BestLessRedundancy, DistinctN, TextUtility
from shape_grpo.credit.unions import NoisyOr
from shape_grpo.credit.utilities import UTILITIES, Utility, make_utility, register_utility
from shape_grpo.credit.vectors import BestPerComponent, Coverage, times_best
from shape_grpo.credit.weightings import Weightings
from shape_grpo.credit.weights import (
    Shares,
    Split,
    compute_shares,
    shift_shares,
    weigh_shares,
)
from shape_grpo.credit.without_closed_form import Custom, SoftmaxChoice, SubsetUtility

__all__ = [
    "ALLOCATORS",
    "UTILITIES",
    "Allocator",
    "Attention",
    "Banzhaf",
    "BestLessRedundancy",
    "BestOfK",
    "BestPerComponent",
    "BetaShapley",
    "Coverage",
    "Custom",
    "DistinctN",
    "LeaveOneOut",
    "LimitedLooks",
    "Max",
    "Mean",
    "NoisyOr",
    "Oracle",
    "OrderedWeightedAverage",
    "Semivalue",
    "Shapley",
    "Shares",
    "SoftmaxChoice",
    "Split",
    "SubsetUtility",
    "Sum",
    "TextUtility",
    "TopM",
    "Uniform",
    "Utility",
    "Weightings",
    "WinnerTakesAll",
    "allocate",
    "check_rewards",
    "compute_shares",
    "make_allocator",
    "make_utility",
    "register_allocator",
    "register_utility",
    "sample_semivalue",
    "set_utility",
    "shapley_values",
    "shift_shares",
    "subset_semivalue",
    "times_best",
    "weigh_shares",
]
