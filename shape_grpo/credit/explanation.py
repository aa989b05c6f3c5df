"""One set's credit as a table, to read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shape_grpo.credit.allocators import allocate, set_utility
from shape_grpo.credit.utilities import Utility, make_utility
from shape_grpo.credit.weights import credit_weights


def explain(
    rewards: Sequence[float],
    texts: Sequence[str] | None = None,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
) -> None:
    """Print what each candidate of one set gets, in units of the reward.

    The columns: reward; share of the set's utility; weight, K * share / utility, by which GRPO's
    advantage is multiplied if candidates are of equal length; and what a candidate gets under GRPO
    (the whole utility) and under winner-takes-all.

    Args:
        rewards: One a candidate.
        texts: The candidates. Default: they are numbered.
        utility: A name in `UTILITIES`, or a `Utility`.
        allocator: A name in `ALLOCATORS`.

    Raises:
        ValueError: As `allocate`, or not one text a candidate.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [f"candidate {k}" for k in range(1, len(rewards) + 1)] if texts is None else texts
    if len(texts) != len(rewards):
        raise ValueError(f"{len(texts)} texts for {len(rewards)} rewards; give one a candidate")
    game, batch = make_utility(utility), torch.tensor([list(rewards)], dtype=torch.float64)
    value = set_utility(batch, utility=game).item()
    everywhere = torch.ones(1, len(rewards), dtype=torch.bool)
    columns = [
        game.ranking(batch)[0],
        allocate(batch, utility=game, allocator=allocator)[0],
        credit_weights(batch, everywhere, everywhere, utility=game, allocator=allocator)[0],
        torch.full((len(rewards),), value),
        allocate(batch, utility=game, allocator="winner_takes_all")[0],
    ]
    table = Table()
    table.add_column("")
    for title in ("reward", "share", "weight", "under GRPO", "winner takes all"):
        table.add_column(title, justify="right")
    for text, numbers in zip(texts, torch.stack(columns, dim=1).tolist(), strict=True):
        table.add_row(Text(text), *(f"{number:.4g}" for number in numbers))
    Console().print(table)
