"""Which verl this package is tested with, and which is installed; light, for messages."""

import warnings
from importlib.metadata import PackageNotFoundError, version

TESTED = "0.9.1"


def installed(distribution: str) -> str:
    """The version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def both() -> str:
    """This package and verl, with their versions."""
    ours, verls = installed("shape-grpo"), installed("verl")
    return f"shape-grpo {ours} (made for verl {TESTED}) beside verl {verls}"


def warn_of_another_verl() -> None:
    """Warn where verl is not the one that this package is tested with."""
    if installed("verl") != TESTED:
        warnings.warn(
            f"{both()}: untested together. Look at the first steps, or pip install verl=={TESTED}.",
            stacklevel=2,
        )
