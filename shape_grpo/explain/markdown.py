"""Credited responses as Markdown."""

from __future__ import annotations

import re

from shape_grpo.advantage import Reward
from shape_grpo.explain.credited import CreditedResponse, format_reward

LONGEST_CELL = 120
"""Maximum number of characters of a candidate in a table; the response below has all of them."""


def as_markdown(response: CreditedResponse, view: str) -> str:
    """Write a table of the candidates, and the response.

    Args:
        response: The response.
        view: View whose advantages are shown.
    """
    shared = response.shared[view]
    others = "" if shared is None else f", other tokens {shared + 0.0:+.3f}"
    lines = [f"### Set reward {response.score:.4g}{others}", ""]
    if response.candidates:
        lines += ["| candidate | reward | weight | advantage |", "|---|---|---|---|"]
    for candidate in response.candidates:
        advantage = candidate.advantages.get(view)
        cells = [_cell(candidate.text), _reward(candidate.reward)]
        cells += [_number(candidate.weight, ".3g"), _number(advantage, "+.3f")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", fenced(response.text), ""])


def fenced(text: str) -> str:
    """Return a fenced block that can hold any text."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _cell(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|")
    return words if len(words) <= LONGEST_CELL else words[:LONGEST_CELL] + "…"


def _reward(reward: Reward | None) -> str:
    if isinstance(reward, list | bytes) and all(value in (0, 1) for value in reward):
        return f"{sum(reward):g} of {len(reward)}"
    return format_reward(reward)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value + 0.0:{form}}"
