"""The credit of one set as a table, and a description of the method."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shape_grpo.advantage import ADVANTAGES, Reward, candidate_advantages, stack_rewards
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import (
    Max,
    Oracle,
    TextUtility,
    allocate,
    check_rewards,
    compute_shares,
    set_utility,
    shift_shares,
    times_best,
)


def explain_set(
    rewards: Sequence[Reward],
    texts: Sequence[str] | None = None,
    config: ShapeGRPOConfig | None = None,
) -> None:
    """Print the credit of each candidate of one set, and a description of the method.

    The first columns are in units of the reward: the reward, of a vector the utility of the
    candidate alone; the share of the set's utility; the credit under GRPO (the whole utility) and
    under winner-takes-all. Vectors have a column more: the number of components at which a
    candidate is the best. The last two are the advantage
    of a candidate's tokens where GRPO gives the set A = 1 or A = -1, for candidates of equal length
    and a set alone in its group.

    Args:
        rewards: One reward per candidate; vectors for a utility that takes them.
        texts: The candidates. Default: numbers.
        config: How credit is given. Default: the paper's method.

    Raises:
        ValueError: As `candidate_advantages`, or the number of texts is not that of the rewards.
    """
    config = config or ShapeGRPOConfig()
    texts = [f"candidate {k}" for k in range(1, len(rewards) + 1)] if texts is None else texts
    if len(texts) != len(rewards):
        raise ValueError(
            f"{len(texts)} texts for {len(rewards)} rewards; give one text per candidate"
        )
    utility, allocator = config.method.utility, config.method.allocator
    if isinstance(utility, Oracle):
        raise ValueError(
            "utility=oracle asks a function about the texts, so that rewards say nothing: give "
            "--response and --reward"
        )
    if utility.takes_vectors:
        rewards = [utility.project(reward, "").tolist() for reward in rewards]
    batch = stack_rewards([rewards], vectors=utility.takes_vectors)
    if isinstance(utility, TextUtility):
        utility = utility.bind(texts)
    checked = check_rewards(batch, utility=utility)
    shares = compute_shares(*checked, utility, allocator, torch.float64)
    if config.method.utility.takes_texts:
        value = set_utility(batch, utility=utility)
        shares = shift_shares(shares.shares, checked[1], value)
    lengths = torch.ones(1, len(rewards))

    def advantages(score: float) -> torch.Tensor:
        group = ["the set"]
        own, _ = candidate_advantages(
            batch, None, lengths, group, config.method, scores=[score], shares=shares
        )
        return own[0]

    components = {"best for": times_best(batch)[0]} if utility.takes_vectors else {}
    columns = {
        "reward": utility.ranking(batch)[0],
        **components,
        "share": shares.shares[0],
        "GRPO": set_utility(batch, utility=utility).expand(len(rewards)),
        "winner takes all": allocate(batch, utility=utility, allocator="winner_takes_all")[0],
        "A = 1": advantages(1.0),
        "A = -1": advantages(-1.0),
    }
    table = Table()
    table.add_column("")
    for title in columns:
        table.add_column(title, justify="right")
    for text, *numbers in zip(texts, *(c.tolist() for c in columns.values()), strict=True):
        table.add_row(Text(text), *(f"{number:.4g}" for number in numbers))

    console = Console()
    console.print(table)
    for paragraph in method_in_words(len(rewards), config):
        console.print(Text(textwrap.fill(paragraph, console.width)))


def method_in_words(count: int, config: ShapeGRPOConfig) -> tuple[str, str]:
    """Describe the allocator with the objective of its shares, and the advantage formula.

    Args:
        count: Number of candidates per set.
        config: How credit is given.
    """
    allocator = config.method.allocator
    return (
        f"{config.allocator}: {_first_words(allocator)} {_objective_in_words(count, config)}",
        f"{config.advantage}: {_first_words(ADVANTAGES[config.advantage])}",
    )


def _first_words(documented: Any) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


def _objective_in_words(count: int, config: ShapeGRPOConfig) -> str:
    try:
        weights = config.method.allocator.objective_weights(count).tolist()
    except ValueError:
        return "No utility of the set is known that these shares maximise."
    noun = "best" if isinstance(config.method.utility, Max) else "utility"
    terms = [f"{noun} of {s}: {w:.2f}" for s, w in enumerate(weights, 1) if w >= 0.005]
    return f"Paid as they are, shares maximise {', '.join(terms)}."
