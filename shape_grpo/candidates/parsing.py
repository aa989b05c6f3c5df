"""Find the candidates in the text of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from shape_grpo.candidates.candidate import Candidate, ResponseText
from shape_grpo.candidates.formats import Format, make_format
from shape_grpo.candidates.thoughts import Thoughts

_BOM = "\ufeff"


def parse_candidates(
    text: str,
    *,
    format: str | Format = "xml",
    format_options: Mapping[str, Any] | None = None,
    max_candidates: int | None = None,
    thoughts: Any = "auto",
    prompt: str = "",
    truncated: bool = False,
) -> list[Candidate]:
    """Return the candidates in `text`, in order. Runs in time linear in the length of `text`.

    No rules are applied here: empty, equal, surplus and unclosed candidates are all returned.

    Args:
        text: The decoded response.
        format: A name in `shape_grpo.candidates.FORMATS`, whose classes document what each accepts,
            or a format.
        format_options: Options of the format.
        max_candidates: Keep the first so many; None keeps all.
        thoughts: ``auto``, ``none``, or a pair of marks (`shape_grpo.candidates.Thoughts`).
            Thoughts hold no candidates.
        prompt: End of the rendered prompt, which may have opened a thought. Without it, a response
            whose thought was opened there and is never closed counts as an answer.
        truncated: The response was cut by its length limit. Most formats cannot tell otherwise
            whether the last candidate is whole.

    Raises:
        ValueError: A setting is unknown or not allowed, or `max_candidates` is below 1.
    """
    if max_candidates is not None and max_candidates < 1:
        raise ValueError(f"max_candidates is {max_candidates}: use 1 or more, or None for no limit")
    known = Thoughts.from_setting(thoughts)
    return find_in_turn(
        ResponseText(text),
        make_format(format, format_options) if isinstance(format, str) else format,
        known,
        prompt=known.turn_start(prompt),
        cut=truncated,
        limit=max_candidates,
    )


def find_in_turn(
    text: ResponseText,
    format: Format,
    thoughts: Thoughts,
    *,
    prompt: str,
    cut: bool,
    limit: int | None = None,
) -> list[Candidate]:
    """Find the candidates in the text of a turn.

    Args:
        text: What the model wrote in the turn.
        format: How candidates are written.
        thoughts: Which marks enclose thoughts.
        prompt: What the prompt holds of the turn: `Thoughts.turn_start`.
        cut: Whether the length limit ended the turn.
        limit: Maximum number of candidates to find; None: all.

    Raises:
        ValueError: The format found a candidate outside the answer, or before an earlier one.
    """
    begin, stop = thoughts.answer(text.text, prompt)
    # A thought that follows the answer was cut off, not the answer.
    is_cut = cut and stop == len(text.text)
    # Tokens that end a turn are no text of its last line. A format's own tags may be tokens, too.
    stop = max(begin, text.end_of_words(stop, kept=format.tags()))
    # A byte order mark hides the start of a line.
    begin = min(stop, begin + len(text.text[begin:stop]) - len(text.text[begin:stop].lstrip(_BOM)))
    answer = text.text[begin:stop]
    candidates: list[Candidate] = []
    at = 0
    for start, end, closed in islice(format.find(answer, cut=is_cut), limit):
        if not at <= start <= end <= len(answer):
            raise ValueError(
                f"format {type(format).__name__} found a candidate at {start}:{end} of an answer "
                f"of {len(answer)} characters, after one that ended at {at}: it must yield "
                "offsets in order and without overlap"
            )
        at = end
        content = format.read(text.without_special(begin + start, begin + end))
        left, right = text.words(begin + start, begin + end)
        written = text.without_special(left, right)
        escaped = "" if written == content else written
        candidates.append(Candidate(content, left, right, closed, escaped))
    return candidates
