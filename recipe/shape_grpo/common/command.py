"""Settings of the recipe's commands, and their errors in one line."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser


class CommandParser(ArgumentParser):
    """Parser whose help comes from the docstrings of settings, by `add_class_arguments`.

    A wrong option ends the command with one line and exit code 2.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and how to list all options, and exit."""
        print(f"{self.prog}: {' '.join(message.split())} (--help: all options)", file=sys.stderr)
        sys.exit(2)


def choose(
    prog: str, names: Sequence[str], description: str, arguments: list[str] | None
) -> tuple[str, list[str]]:
    """Return the first argument, which must be one of ``names``, and the arguments after it.

    Args:
        prog: The command, with which its messages begin.
        names: The allowed names.
        description: Description of the command for its help.
        arguments: The arguments; None: those of the program.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = CommandParser(prog=prog, description=description)
    parser.add_argument("name", choices=names, help=f"`{prog} NAME --help` shows its options")
    return parser.parse_args(arguments[:1]).name, arguments[1:]


def add_settings(parser: CommandParser, settings: type, **defaults: Any) -> None:
    """Make every field of the dataclass ``settings`` an option; ``defaults`` replace its own."""
    parser.add_class_arguments(settings, as_group=False)
    parser.set_defaults(defaults)


@contextmanager
def failing_in_one_line(prog: str) -> Iterator[None]:
    """End the command with exit code 1 and the message of an expected error.

    After Ctrl-C, the exit code is the shell's, 130, with one line.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        print(f"{prog}: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
