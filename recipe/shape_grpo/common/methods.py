"""The folder of configurations, and the methods that credit candidates."""

from pathlib import Path
from typing import Any

from shape_grpo.methods import load_method, method_options

CONFIG = Path(__file__).parents[1] / "config"

ROLLOUTS_ESTIMATOR = "shape_grpo_rollouts"


def credit_options(method: str) -> dict[str, Any]:
    """Return the block `algorithm.shape_grpo` of a method that credits candidates.

    Raises:
        ValueError: There is no such method, or it credits rollouts; the message says which do not.
    """
    if load_method(method).algorithm.adv_estimator == ROLLOUTS_ESTIMATOR:
        raise ValueError(
            f"method {method!r} credits whole rollouts, which only the trainer verl does here: use "
            "another method"
        )
    return method_options(method)
