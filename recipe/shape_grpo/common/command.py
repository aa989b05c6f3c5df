"""Options of the recipe's commands, and their one-line errors."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from recipe.shape_grpo.common.disk import FULL, full_disk, tells_of_full_disk


class CommandParser(ArgumentParser):
    """Parser that takes its help from the docstrings of settings classes.

    A wrong option ends the command with one line and exit code 2.
    """

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; a list that may be empty is not called required in the help."""
        if options.get("nargs") == "*":
            options.setdefault("default", [])
        return super().add_argument(*names, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and how to list all options, and exit."""
        print(f"{self.prog}: {' '.join(message.split())} (--help: all options)", file=sys.stderr)
        sys.exit(2)


def choose(
    prog: str, names: Sequence[str], description: str, arguments: list[str] | None
) -> tuple[str, list[str]]:
    """Return the first argument, which must be one of ``names``, and the arguments after it.

    Args:
        prog: Name of the command, the start of its messages.
        names: The allowed names.
        description: Description of the command for its help.
        arguments: Command-line arguments; None: those of the program.
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
    """Check that there are seeds, and that they differ.

    Raises:
        ValueError: There are none, or one occurs twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds are {list(seeds)}: use one or more, all different")


@contextmanager
def failing_in_one_line(prog: str, folder: Path = Path()) -> Iterator[None]:
    """End the command with the message of an expected error and exit code 1; 130 after Ctrl-C.

    Args:
        prog: Name of the command, the start of the message.
        folder: Folder that the command writes into, for the message of a full disk.
    """
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else folder
        sys.exit(f"{prog}: {full_disk(named) if error.errno in FULL else error}")
    except Exception as error:
        # Errors of torch and safetensors have no number.
        if tells_of_full_disk(str(error)):
            sys.exit(f"{prog}: {full_disk(folder)}")
        if not isinstance(error, RuntimeError | ValueError):
            raise
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        print(f"{prog}: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
