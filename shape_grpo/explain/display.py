"""Responses and their credit for the terminal, and the same as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from shape_grpo.advantage import Reward, credit_in_words
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.responses import Credited

TOWARDS, AWAY = (0, 114, 178), (213, 94, 0)
"""Blue and orange, which people who cannot tell red from green can tell apart."""
_MEANS = {"advantage": "its advantage", "A = 1": "its advantage if the response's is 1"}
# What would move the cursor or change the terminal's colours is shown as its symbol.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def show(
    console: Console, group: Sequence[Credited], options: ShapeGRPOConfig, notes: Sequence[str]
) -> None:
    """Print a table and the coloured text of each response, and what the words mean.

    Args:
        console: Where to.
        group: The responses.
        options: How they were credited.
        notes: Sentences for the end.
    """
    scale = max((abs(value) for credited in group for value in _values(credited)), default=0.0)
    for credited in group:
        score = "unknown" if math.isnan(credited.score) else f"{credited.score:.4g}"
        console.print(Text(f"{credited.scored.response.name}: set reward {score}", "bold"))
        console.print(_table(credited), end="\n\n")
        console.print(_coloured(credited, scale or 1.0))
        console.print()
    view = next(iter(group[0].shared))
    console.print(
        Text.assemble(
            ("Blue", _style(1.0, 1.0)),
            ": the policy is moved towards these tokens; ",
            ("orange", _style(-1.0, 1.0)),
            f": away from them. The deeper, the more; after a candidate {_MEANS[view]}.",
        )
    )
    words = credit_in_words(
        max(len(credited.shares) for credited in group) or 1,
        utility=options.game,
        allocator=options.allocator,
        allocator_options=options.allocator_options,
        advantage=options.advantage,
    )
    for paragraph in (*words, *notes):
        console.print(Text(paragraph))


def write_html(
    path: Path, group: Sequence[Credited], options: ShapeGRPOConfig, notes: Sequence[str]
) -> None:
    """Write what `show` prints as a page."""
    console = Console(record=True, width=110, file=StringIO())
    show(console, group, options, notes)
    console.save_html(str(path))


def _table(credited: Credited) -> Table:
    response, record = credited.scored.response, credited.scored.record
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    # The one column that gives way on a narrow terminal.
    table.add_column("candidate", overflow="fold")
    table.add_column("rule", no_wrap=True)
    unit = "chars" if response.ids is None else "tokens"
    for heading in ("reward", "share", "weight", unit, *credited.advantages):
        table.add_column(heading.replace(" ", "\N{NO-BREAK SPACE}"), justify="right", no_wrap=True)
    place, owned = 0, 0
    for number, one in enumerate(response.judged, 1):
        cells = ["-"] * (4 + len(credited.advantages))
        if one.counts:
            start, end = response.spans[place]
            reward = record.rewards[place]
            cells[0], cells[3] = _reward(reward), str(end - start)
            if reward is not None:
                owned += end - start
                cells[1:3] = f"{credited.shares[place]:.4g}", f"{credited.weights[place]:.3g}"
                cells[4:] = (f"{of[place] + 0.0:+.3f}" for of in credited.advantages.values())
            place += 1
        name = Text(visible(" ".join(one.candidate.text.split())))
        name.truncate(60, overflow="ellipsis")
        rule = "" if one.problem is None else f"{one.problem}: {one.rule}"
        table.add_row(str(number), name, rule, *cells)
    rest = (f"{value + 0.0:+.3f}" for value in credited.shared.values())
    other = Text("other text", style="italic")
    table.add_row("", other, "", "", "", "", str(response.length - owned), *rest)
    return table


def _reward(reward: Reward | None) -> str:
    if reward is None:
        return "failed"
    if isinstance(reward, float):
        return f"{reward:.4g}"
    return ",".join(f"{value:g}" for value in reward) or "none"


def _values(credited: Credited) -> Iterator[float]:
    """The advantages that the text is coloured by."""
    view = next(iter(credited.shared))
    yield credited.shared[view]
    yield from credited.advantages[view]


def _coloured(credited: Credited, scale: float) -> Text:
    """The response, each part on the colour of its advantage, which stands after a candidate."""
    response = credited.scored.response
    shared, *advantages = _values(credited)
    text, at = Text(overflow="fold"), 0
    for place, (start, end) in enumerate(response.bounds):
        text.append(visible(response.text[at:start]), _style(shared, scale))
        known = credited.scored.record.rewards[place] is not None
        value = advantages[place] if known else shared
        text.append(visible(response.text[start:end]), _style(value, scale, underline=known))
        if known:
            text.append(f" {value + 0.0:+.2f} ", Style(bold=True))
        at = end
    return text.append(visible(response.text[at:]), _style(shared, scale))


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
    """The text without characters that a terminal would obey."""
    return text.translate(_CONTROLS)
