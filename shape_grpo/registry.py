"""Registries of the names that a configuration may use, and the errors for unknown ones."""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")

EXTERNAL_MODULES = "VERL_USE_EXTERNAL_MODULES"
CUSTOM = (
    f" A custom one is registered by a module in {EXTERNAL_MODULES}, or with TRL by a module that "
    "your script imports."
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


def import_external_modules() -> None:
    """Import the modules that register custom utilities, allocators and formats, as verl does.

    Raises:
        ValueError: One of the modules cannot be imported.
    """
    for module in filter(None, os.environ.get(EXTERNAL_MODULES, "").split(",")):
        try:
            import_module(module)
        except Exception as error:
            raise ValueError(
                f"{EXTERNAL_MODULES}: {module} cannot be imported ({type(error).__name__}: {error})"
            ) from error


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

        Raises:
            ValueError: ``name`` is already bound to another entry.
        """

        def decorator(entry: T) -> T:
            if self.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.kind} {name!r} is already registered: {self[name]!r}")
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
