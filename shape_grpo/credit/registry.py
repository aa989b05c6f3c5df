"""Names that a config may use, each bound to a function or class by a decorator."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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
            raise ValueError(f"unknown {self.kind} {name!r}; use one of: {', '.join(sorted(self))}")
        return self[name]
