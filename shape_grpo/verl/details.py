"""Details of reward functions, as verl's validation can average them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shape_grpo.config import LARGEST

VOTE = "pred"
"""Key that verl counts votes by, and averages nothing of."""


def one_type_per_key(
    infos: Mapping[str, Sequence[Any]],
) -> tuple[dict[str, list[Any]], Counter[str]]:
    """Return the details of a validation with one type per key, and the number of others per key.

    verl takes the first value of a key for the type of all, and an average of numbers and texts
    ends the run. The rule does not depend on the order of responses: under a key with numbers up to
    `LARGEST` these stay, under another texts do, and the rest becomes None, which verl leaves out.
    A key with neither is left out.

    Args:
        infos: Key to one value per response; None where it has none.
    """
    kept: dict[str, list[Any]] = {}
    left_out: Counter[str] = Counter()
    for key, values in infos.items():
        if key == VOTE and not all(_is_number(value) or value is None for value in values):
            values = [None if value is None else str(value) for value in values]
        fits = _is_number if any(map(_is_number, values)) else _is_text
        kept[key] = [value if fits(value) else None for value in values]
        left_out[key] = sum(not fits(value) and value is not None for value in values)
        if all(value is None for value in kept[key]):
            del kept[key]
    return kept, +left_out


def _is_number(value: Any) -> bool:
    kinds = int | float | np.integer | np.floating | np.bool_
    return isinstance(value, kinds) and bool(-LARGEST <= value <= LARGEST)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
