"""Registries of the names that a configuration may use, and the errors for unknown ones."""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

CUSTOM = (
    " A custom one is registered by a file or module that extensions names, as in "
    "extensions=[my_credit.py]."
)


def closest(name: str, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the allowed name that is most similar to ``name``, or None.

    Args:
        name: Name that the user wrote.
        allowed: Existing names.
        cutoff: Least similarity, up to 1 (`difflib.SequenceMatcher.ratio`).
    """
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return a hint such as `` Did you mean shapley?``, or an empty string if no name is close."""
    close = closest(name, allowed)
    return f" Did you mean {close}?" if close else ""


def check_choice(setting: str, value: str, allowed: Iterable[str]) -> None:
    """Check a setting that takes one of a few values.

    Raises:
        ValueError: ``value`` is not allowed; the message names the setting and the allowed values.
    """
    names = list(allowed)
    if value not in names:
        close = did_you_mean(value, names)
        hint = CUSTOM if isinstance(allowed, Registry) and not close else ""
        raise ValueError(
            f"{setting}={value}: unknown value.{close} Allowed: {', '.join(names)}.{hint}"
        )


class Registry(dict[str, T]):
    """Dict from name to implementation, filled by ``@registry.register(name)``.

    Args:
        kind: Noun for the entries in error messages.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that binds ``name``.

        An entry that is defined anew replaces itself: a file that is imported under two names, or
        again after an error, and a cell of a notebook.

        Raises:
            ValueError: ``name`` is already bound to another entry.
        """

        def decorator(entry: T) -> T:
            bound = self.setdefault(name, entry)
            if bound is not entry and _origin(bound) != _origin(entry):
                raise ValueError(
                    f"{self.kind} {name!r} is already registered: {bound!r}; take another name"
                )
            self[name] = entry
            return entry

        return decorator

    def find(self, name: str) -> T:
        """Return the entry bound to ``name``.

        Raises:
            ValueError: The name is unknown; the message lists the allowed names.
        """
        if name not in self:
            raise ValueError(
                f"unknown {self.kind} {name!r}; use one of: {', '.join(sorted(self))}."
                f"{did_you_mean(name, self)}"
            )
        return self[name]


def _origin(entry: object) -> tuple[object, object]:
    """Return the file (or module) and the name that a class or function was defined under."""
    module = getattr(entry, "__module__", None)
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    return file or module, getattr(entry, "__qualname__", entry)


def build(registry: Registry[type[T]], name: str, options: Mapping[str, Any]) -> T:
    """Return an instance of the class registered as ``name``; its options are its dataclass fields.

    Raises:
        ValueError: The name is unknown, or an option is unknown, missing or not allowed.
    """
    kind = registry.find(name)
    known: tuple[Field[Any], ...] = fields(kind) if is_dataclass(kind) else ()
    names = [field.name for field in known]
    for option in options:
        if option not in names:
            allowed = f"it takes: {', '.join(names)}" if names else "it takes none"
            raise ValueError(f"{registry.kind} {name!r} has no option {option!r}; {allowed}")
    for field in known:
        if field.name not in options and field.default is field.default_factory is MISSING:
            raise ValueError(f"{registry.kind} {name!r} needs the option {field.name!r}")
        # Hydra reads ``no`` and ``off`` as texts, which Python takes for true.
        if str(field.type) in ("bool", str(bool)) and field.name in options:
            _check_type(field, options[field.name])
    try:
        return kind(**options)
    except TypeError as error:
        for field in known:
            if field.name in options:
                _check_type(field, options[field.name])
        raise ValueError(
            f"{registry.kind} {name!r}: an option has a wrong type ({error})"
        ) from error


def _check_type(field: Field[Any], value: Any) -> None:
    """Check an option that is a number, a text, or true or false.

    Raises:
        ValueError: The value is of another type.
    """
    names = str(getattr(field.type, "__name__", field.type)).split(" | ")
    allowed = [_TYPES[name] for name in names if name in _TYPES]
    if len(allowed) < len(names):
        return
    kinds = tuple(kind for kinds, _ in allowed for kind in kinds)
    is_bool_where_none_is = isinstance(value, bool) and bool not in kinds
    if not isinstance(value, kinds) or is_bool_where_none_is:
        words = " or ".join(word for _, word in allowed)
        raise ValueError(f"{field.name}={value!r}: must be {words}")


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text"),
    "None": ((type(None),), "null"),
}
"""Annotation of an option to the types of its values, and their name in messages."""
