"""The tested and the installed version of verl, for messages; imports nothing heavy."""

import re
import warnings
from importlib.metadata import PackageNotFoundError, version

TESTED = "0.9.1"
NEXT = "0.10"
"""First version that nothing is known of. verl changes what this package needs in such steps;
releases between promise only mends."""


def installed(distribution: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def both() -> str:
    """Return a phrase with the versions of this package and verl."""
    ours, verls = installed("shape-grpo"), installed("verl")
    return f"shape-grpo {ours} (made for verl {TESTED}) beside verl {verls}"


def is_newer() -> bool:
    """Return whether verl is newer than what this package is expected to work with."""
    return _numbers(installed("verl")) >= _numbers(NEXT)


def warn_of_another_verl() -> None:
    """Warn unless verl is the tested version or one that is expected to work (below `NEXT`)."""
    verls = _numbers(installed("verl"))
    if _numbers(TESTED) <= verls < _numbers(NEXT):
        return
    known = "it lacks the trainers that this package extends (verl.trainer.ppo.v1)"
    if verls >= _numbers("0.9"):
        known = "one step ran with 0.9.0, and 4 contract tests fail (recipe/shape_grpo/README.md)"
    if verls >= _numbers(NEXT):
        known = (
            "a snapshot of 0.10 from August 2026 ran, later ones are unknown. `pytest "
            "tests/contract` in a clone names what has changed"
        )
    warnings.warn(
        f"{both()}: expected to work from {TESTED} on and below {NEXT}. Of this version: {known}. "
        f"Look at the first steps, or pip install verl=={TESTED}.",
        stacklevel=2,
    )


def _numbers(written: str) -> tuple[int, ...]:
    """Return the numbers a version begins with: (0, 10, 0) of 0.10.0.dev1."""
    start = re.match(r"[\d.]*", written)
    assert start is not None
    return tuple(int(part) for part in start[0].split(".") if part)
