"""Format "function": candidates are what a function of the user finds."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from numbers import Integral
from pathlib import Path
from typing import Any

from shape_grpo.candidates.formats.examples import check_example, write_examples
from shape_grpo.candidates.formats.format import Format, Found, register_format


@register_format("function")
@dataclass(frozen=True)
class Function(Format):
    r"""Candidates that a function in a Python file finds: ``path: my_format.py``.

    The function takes the answer and yields, or returns a list of, pairs of offsets::

        def find_candidates(answer: str):
            for match in re.finditer("...", answer):
                yield match.span(1)

    - ``answer[start:end]`` is the candidate; surrounding white space goes.
    - Pairs are in order and do not overlap.
    - The last candidate is unclosed if the answer was cut off and the candidate reaches to its
      end. A function that knows better yields ``(start, end, closed)``.
    - The function must take time linear in the length of the answer. It has no time limit.
    - Special tokens at the end of the answer are cut off, as they end the model's turn. ``example``
      names those that are tags.

    Attributes:
        path: Python file, from the current directory on.
        name: Name of the function.
        example: One candidate as an answer has it, with ``{candidate}`` in its place:
            ``"- {candidate}\n"``. Needed only to write candidates.

    Raises:
        ValueError: There is no such file or function, the file cannot be imported, the function
            does not take one argument, or it does not find the candidates of ``example``.
    """

    path: str
    name: str = "find_candidates"
    example: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"path={self.path!r}: must be the path of a Python file")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name={self.name!r}: must be the name of a function")
        try:
            inspect.signature(self._function).bind("")
        except TypeError as error:
            raise ValueError(
                f"name={self.name}: must be called with one argument, the answer, and that fails "
                f"({error}). Write def {self.name}(answer: str)"
            ) from None
        check_example(self, self.example)

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the candidates as the function has them.

        Raises:
            ValueError: The function yields anything but offsets in order.
        """
        found = self._function(answer)
        if not isinstance(found, Iterable):
            raise ValueError(
                f"{self._where} returned {found!r}: must yield pairs of offsets (start, end)"
            )
        last_end = 0
        for item in found:
            start, end, closed = self._checked(item, last_end, len(answer))
            yield start, end, closed if closed is not None else not (cut and end == len(answer))
            last_end = end

    def write(self, candidates: Sequence[str]) -> str | None:
        """Return the candidates as the example has them; None without an example."""
        return write_examples(self.example, candidates)

    def _checked(self, item: Any, last_end: int, length: int) -> tuple[int, int, bool | None]:
        match item:
            case (start, end) | (start, end, bool()) if _is_offset(start) and _is_offset(end):
                if last_end <= start <= end <= length:
                    return int(start), int(end), item[2] if len(item) > 2 else None
                raise ValueError(
                    f"{self._where} yielded {item!r}: must lie between {last_end} (the end of the "
                    f"candidate before) and {length} (the end of the answer), start before end"
                )
        raise ValueError(
            f"{self._where} yielded {item!r}: must be two offsets, (start, end), or "
            "(start, end, closed)"
        )

    @property
    def _where(self) -> str:
        return f"{self.name} of {self.path}"

    @property
    def _function(self) -> Callable[[str], Any]:
        # Not an attribute of the instance: functions of such a module cannot be pickled.
        return _load(self.path, Path(self.path).resolve(), self.name)


def _is_offset(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


@cache
def _load(path: str, file: Path, name: str) -> Callable[[str], Any]:
    if not file.is_file():
        raise ValueError(f"path={path}: there is no such file ({file})")
    # Unlike a plain name, it hides no other module, and two files of one name do not collide.
    module_name = f"shape_grpo_format:{file}"
    spec = spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"path={path}: must end in .py")
    module = module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ValueError(
            f"path={path}: it cannot be imported ({type(error).__name__}: {error})"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"path={path}: it has no function {name}. Write def {name}(answer: str)")
    return function
