"""Writing candidates by an example, for formats that know only how to find them."""

from __future__ import annotations

from collections.abc import Sequence

from shape_grpo.candidates.formats.format import Format

PLACE = "{candidate}"
_SAMPLES = [("first", "second"), ("First", "Second"), ("FIRST", "SECOND"), ("1", "2")]


def write_examples(example: str | None, candidates: Sequence[str]) -> str | None:
    """Return each candidate as the example has it; None without an example."""
    if example is None:
        return None
    # Command lines hold a line break as \\n.
    example = example.replace("\\n", "\n")
    return "".join(example.replace(PLACE, c) for c in candidates)


def check_example(format: Format, example: str | None) -> None:
    """Check that a format finds what the example writes, for one of a few pairs of words.

    Raises:
        ValueError: ``example`` lacks ``{candidate}``, or the format finds other candidates.
    """
    if example is None:
        return
    if not isinstance(example, str) or PLACE not in example:
        raise ValueError(
            f"example={example!r}: must be one candidate as the answer has it, with {PLACE} in its "
            f'place, as "- {PLACE}\\n"'
        )
    if not any(_found(format, example, pair) == list(pair) for pair in _SAMPLES):
        answer = write_examples(example, _SAMPLES[0])
        raise ValueError(
            f"example={example!r}: the format must find both candidates of {answer!r}, and it "
            f"finds {_found(format, example, _SAMPLES[0])}. Mend the example (a line break at its "
            "end?), or leave it out"
        )


def _found(format: Format, example: str, candidates: Sequence[str]) -> list[str]:
    answer = write_examples(example, candidates) or ""
    return [format.read(answer[start:end]) for start, end, _ in format.find(answer, cut=False)]
