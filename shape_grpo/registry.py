"""Names that a config may use, each bound to a function or class, and what is said of others."""

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def closest(name: str, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The allowed name that is most like this one; None if none is.

    Args:
        name: What was written.
        allowed: What there is.
        cutoff: How alike they must be, up to 1 (`difflib.SequenceMatcher.ratio`).
    """
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`` Did you mean shapley?``, the allowed name that is closest; empty if none is close."""
    close = closest(name, allowed)
    return f" Did you mean {close}?" if close else ""


def check_choice(setting: str, value: str, allowed: Iterable[str]) -> None:
    """Check the value of a setting that has a few.

    Raises:
        ValueError: ``value`` is none of ``allowed``; the message names the setting and lists them.
    """
    names = list(allowed)
    if value not in names:
        raise ValueError(
            f"{setting}={value}: unknown value.{did_you_mean(value, names)} "
            f"Allowed: {', '.join(names)}."
        )


class Registry(dict[str, T]):
    """A dict from name to implementation, filled by ``@registry.register(name)``.

    Args:
        kind: What the names name; used in error messages.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that binds ``name``.

        Raises:
            ValueError: ``name`` is already bound to something else.
        """

        def decorator(entry: T) -> T:
            if self.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.kind} {name!r} is already registered: {self[name]!r}")
            return entry

        return decorator

    def find(self, name: str) -> T:
        """The entry bound to ``name``.

        Raises:
            ValueError: Nothing is; the message lists the allowed names.
        """
        if name not in self:
            raise ValueError(
                f"unknown {self.kind} {name!r}; use one of: {', '.join(sorted(self))}."
                f"{did_you_mean(name, self)}"
            )
        return self[name]
