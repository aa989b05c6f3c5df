"""One set's credit as a table, to read."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from shape_grpo.advantage.candidates import candidate_advantages
from shape_grpo.advantage.readings import READINGS
from shape_grpo.advantage.records import Reward, stack_rewards
from shape_grpo.credit import (
    ALLOCATORS,
    LAWS,
    Max,
    Utility,
    allocate,
    make_utility,
    objective_weights,
    set_utility,
)


def explain(
    rewards: Sequence[Reward],
    texts: Sequence[str] | None = None,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
    advantage: str = "reweight",
) -> None:
    """Print what each candidate of one set gets, what the allocator and the reading are, and what
    training climbs.

    The columns, first in units of the reward: reward; share of the set's utility; what a candidate
    gets under GRPO (the whole utility) and under winner-takes-all. Then the advantage of its tokens
    where GRPO gives the set A = 1 or A = -1, if candidates are of equal length and nothing else is
    in the set's group.

    Args:
        rewards: One a candidate; a vector for a utility that takes them.
        texts: The candidates. Default: they are numbered.
        utility: A name in `shape_grpo.credit.UTILITIES`, or a `shape_grpo.credit.Utility`.
        allocator: A name in `shape_grpo.credit.ALLOCATORS`.
        allocator_options: Its options.
        advantage: A name in `READINGS`.

    Raises:
        ValueError: As `candidate_advantages`, or not one text a candidate.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [f"candidate {k}" for k in range(1, len(rewards) + 1)] if texts is None else texts
    if len(texts) != len(rewards):
        raise ValueError(f"{len(texts)} texts for {len(rewards)} rewards; give one a candidate")
    game = make_utility(utility)
    batch = stack_rewards([rewards], vectors=game.takes_vectors)
    value = set_utility(batch, utility=game).item()

    def advantages(of_set: float) -> torch.Tensor:
        candidate, _ = candidate_advantages(
            batch,
            None,
            torch.ones(1, len(rewards)),
            ["the set"],
            utility=game,
            allocator=allocator,
            allocator_options=allocator_options,
            advantage=advantage,
            scores=[of_set],
        )
        return candidate[0]

    columns = {
        "reward": game.ranking(batch)[0],
        "share": allocate(
            batch, utility=game, allocator=allocator, allocator_options=allocator_options
        )[0],
        "GRPO": torch.full((len(rewards),), value),
        "winner takes all": allocate(batch, utility=game, allocator="winner_takes_all")[0],
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
    words = credit_in_words(
        len(rewards),
        utility=game,
        allocator=allocator,
        allocator_options=allocator_options,
        advantage=advantage,
    )
    for paragraph in words:
        console.print(Text(textwrap.fill(paragraph, console.width)))


def credit_in_words(
    count: int,
    *,
    utility: Utility,
    allocator: str,
    allocator_options: Mapping[str, Any] | None,
    advantage: str,
) -> tuple[str, str]:
    """What the allocator is and what training climbs, and what the reading is.

    Args:
        count: Candidates of a set.
        utility: As `explain`, like all that follow.
        allocator: Its name.
        allocator_options: Its options.
        advantage: The reading's name.
    """
    climbed = _objective_in_words(count, utility, allocator, allocator_options)
    return (
        f"{allocator}: {_first_words(ALLOCATORS[allocator])} {climbed}",
        f"{advantage}: {_first_words(READINGS[advantage])}",
    )


def _first_words(function: Any) -> str:
    """The first paragraph of its docstring, in one line."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def _objective_in_words(
    count: int, game: Utility, allocator: str, allocator_options: Mapping[str, Any] | None
) -> str:
    if allocator == "winner_takes_all":
        return "Each candidate climbs its own winnings, which is no utility of the set."
    if allocator != "uniform" and allocator not in LAWS:
        return "It is no semivalue that is known here: nothing is known of what its shares climb."
    weights = objective_weights(
        count, allocator=allocator, allocator_options=allocator_options
    ).tolist()
    what = "best" if isinstance(game, Max) else "utility"
    terms = [f"{what} of {s}: {w:.2f}" for s, w in enumerate(weights, 1) if w >= 0.005]
    return f"Paid as they are, shares climb {', '.join(terms)}."
