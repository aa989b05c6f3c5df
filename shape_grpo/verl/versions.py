"""The tested and the installed version of verl, for messages; imports nothing heavy."""

import warnings
from importlib.metadata import PackageNotFoundError, version

TESTED = "0.9.1"


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


def warn_of_another_verl() -> None:
    """Warn if the installed verl is not the tested version."""
    if installed("verl") != TESTED:
        warnings.warn(
            f"{both()}: untested together. Look at the first steps, or pip install verl=={TESTED}.",
            stacklevel=2,
        )
