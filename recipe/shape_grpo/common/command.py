"""How the commands of the recipe take their settings, and how they fail: in one line."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser


class CommandParser(ArgumentParser):
    """Options with help from the docstrings of settings, by `add_class_arguments`.

    A wrong option ends the command with one line and exit code 2.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, and where the options are explained."""
        print(f"{self.prog}: {' '.join(message.split())} (--help: all options)", file=sys.stderr)
        sys.exit(2)


def choose(
    prog: str, names: Sequence[str], description: str, arguments: list[str] | None
) -> tuple[str, list[str]]:
    """The first argument, which must be one of ``names``, and the arguments that follow it.

    Args:
        prog: The command, as its messages begin.
        names: What there is to choose from.
        description: Of the command, for its help.
        arguments: None: the program's own.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = CommandParser(prog=prog, description=description)
    parser.add_argument("name", choices=names, help=f"`{prog} NAME --help` shows its options")
    return parser.parse_args(arguments[:1]).name, arguments[1:]


def add_settings(parser: CommandParser, settings: type, **defaults: Any) -> None:
    """Make every field of the dataclass ``settings`` an option; ``defaults`` replace its own."""
    parser.add_class_arguments(settings, as_group=False)
    parser.set_defaults(defaults)


def require_positive(settings: Any, *names: str) -> None:
    """Check that fields of the settings are 1 or more: the named ones, or all that hold an int.

    Raises:
        ValueError: One of them is below 1.
    """
    for name in names or vars(settings):
        value = getattr(settings, name)
        if type(value) is int and value < 1:
            raise ValueError(f"{name} is {value}: use 1 or more")


def require_seeds(seeds: Sequence[int]) -> None:
    """Check that there are seeds, none of them twice.

    Raises:
        ValueError: There are none, or one occurs twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds are {list(seeds)}; use one or more, each once")


@contextmanager
def failing_in_one_line(prog: str) -> Iterator[None]:
    """End the command with exit code 1 and the error's own words, where it knows what is wrong.

    With the shell's exit code, 130, and a line where somebody pressed Ctrl-C.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        print(f"{prog}: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
