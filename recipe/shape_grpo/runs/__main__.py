"""``python -m recipe.shape_grpo.runs [options] METHOD FOLDER [overrides]``: one quiet run."""

import sys
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.runs.launch import BACKENDS, train
from recipe.shape_grpo.runs.summary import print_summary
from shape_grpo.methods import METHODS

EPILOG = """\
The run takes the overrides of main_shape_grpo, such as +task=netflix data.seed=1. Its metrics, log
and settings go into FOLDER. If FOLDER holds the same run, a finished run is reused, and an
unfinished one resumes from its last checkpoint.
Options come before METHOD."""


def main(arguments: list[str] | None = None) -> None:
    """Train, with progress on the terminal and verl's own output in the run's log."""
    prog = "python -m recipe.shape_grpo.runs"
    parser = CommandParser(prog=prog, description=(__doc__ or "").strip(), epilog=EPILOG)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*", help="overrides for main_shape_grpo")
    parser.add_argument("--backend", choices=list(BACKENDS), default="gpu")
    parser.add_argument("--verbose", action="store_true", help="show all that verl prints")
    options = parser.parse_args(arguments)
    console = Console()
    with failing_in_one_line("runs"):
        train(
            options.method,
            options.overrides,
            options.folder,
            console=console,
            backend=options.backend,
            verbose=options.verbose,
        )
        print_summary(options.folder, console)


if __name__ == "__main__":
    main(sys.argv[1:])
