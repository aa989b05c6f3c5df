"""Credited responses for the terminal, and the same as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.credited import CreditedCandidate, CreditedResponse, format_reward
from shape_grpo.explain.one_set import method_in_words

TOWARDS, AWAY = (0, 114, 178), (213, 94, 0)
"""Blue and orange, which people with red-green colour blindness can tell apart."""
_MEANINGS = {"advantage": "its advantage", "A = 1": "its advantage if the response's is 1"}
# Characters that would move the cursor or change the terminal's colours are shown as symbols.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def show(
    console: Console,
    group: Sequence[CreditedResponse],
    config: ShapeGRPOConfig,
    notes: Sequence[str],
) -> None:
    """Print a table and the coloured text of each response, and an explanation of the terms.

    Args:
        console: Console to print to.
        group: The responses.
        config: How they were credited.
        notes: Sentences for the end.
    """
    view = next(iter(group[0].shared))
    scale = max(abs(response.advantage(view, s)) for response in group for s in response.segments)
    for response in group:
        score = "unknown" if math.isnan(response.score) else f"{response.score:.4g}"
        console.print(Text(f"{response.name}: set reward {score}", "bold"))
        console.print(_table(response), end="\n\n")
        console.print(_coloured(response, view, scale or 1.0))
        console.print()
    console.print(
        Text.assemble(
            ("Blue", _style(1.0, 1.0)),
            ": the policy is moved towards these tokens; ",
            ("orange", _style(-1.0, 1.0)),
            f": away from them. The deeper, the more; after a candidate {_MEANINGS[view]}.",
        )
    )
    count = max(sum(each.counts for each in response.candidates) for response in group) or 1
    for paragraph in (*method_in_words(count, config), *notes):
        console.print(Text(paragraph))


def write_html(
    path: Path, group: Sequence[CreditedResponse], config: ShapeGRPOConfig, notes: Sequence[str]
) -> None:
    """Write the output of `show` as a page."""
    console = Console(record=True, width=110, file=StringIO())
    show(console, group, config, notes)
    console.save_html(str(path))


def _table(response: CreditedResponse) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    # The one column that gives way on a narrow terminal.
    table.add_column("candidate", overflow="fold")
    table.add_column("rule", no_wrap=True)
    best_for = (
        ["best for"] if any(each.best_for is not None for each in response.candidates) else []
    )
    headings = ["reward", *best_for, "share", "weight", response.unit, *response.shared]
    for heading in headings:
        table.add_column(heading.replace(" ", "\N{NO-BREAK SPACE}"), justify="right", no_wrap=True)
    for number, candidate in enumerate(response.candidates, 1):
        name = Text(visible(" ".join(candidate.text.split())))
        name.truncate(60, overflow="ellipsis")
        reward, *rest = _cells(candidate, response)
        if best_for:
            rest.insert(0, "-" if candidate.best_for is None else str(candidate.best_for))
        table.add_row(str(number), name, candidate.rule, reward, *rest)
    owned = sum(candidate.length for candidate in response.candidates if candidate.is_paid)
    rest = [f"{(value or 0.0) + 0.0:+.3f}" for value in response.shared.values()]
    empty = [""] * (len(headings) - 1 - len(rest))
    other = Text("other text", style="italic")
    table.add_row("", other, "", *empty, str(response.length - owned), *rest)
    return table


def _cells(candidate: CreditedCandidate, response: CreditedResponse) -> list[str]:
    nothing = ["-"] * len(response.shared)
    if not candidate.counts:
        return ["-", "-", "-", "-", *nothing]
    reward, length = format_reward(candidate.reward), str(candidate.length)
    if not candidate.is_paid:
        return [reward, "-", "-", length, *nothing]
    advantages = (f"{(value or 0.0) + 0.0:+.3f}" for value in candidate.advantages.values())
    return [reward, f"{candidate.share:.4g}", f"{candidate.weight:.3g}", length, *advantages]


def _coloured(response: CreditedResponse, view: str, scale: float) -> Text:
    """Return the text, each segment on the colour of its advantage, which follows a candidate."""
    text = Text(overflow="fold")
    for segment in response.segments:
        paid = response.owner(segment) is not None
        value = response.advantage(view, segment)
        text.append(visible(segment.text), _style(value, scale, paid and not segment.edge))
        if paid and segment.ends:
            text.append(f" {value:+.2f} ", Style(bold=True))
    return text


def _style(value: float, scale: float, underline: bool = False) -> Style:
    depth = 0.65 * abs(value) / scale
    if depth < 0.01:
        return Style(underline=underline)
    red, green, blue = (
        255 + depth * (channel - 255) for channel in (TOWARDS if value > 0 else AWAY)
    )
    background = Color.from_rgb(round(red), round(green), round(blue))
    return Style(color="black", bgcolor=background, underline=underline)


def visible(text: str) -> str:
    """Return the text without characters that a terminal would obey."""
    return text.translate(_CONTROLS)
