"""Train by a method in one command: quiet, with progress, a folder and a closing table.

python -m recipe.shape_grpo.runs METHOD FOLDER [--dry-run] [--verbose] [overrides]
"""

import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.common.overrides import is_override, key_of
from recipe.shape_grpo.runs import check
from recipe.shape_grpo.runs.identity import RunIdentity
from recipe.shape_grpo.runs.launch import compose_run, train
from recipe.shape_grpo.runs.summary import print_summary
from shape_grpo.methods import METHODS

PROG = "python -m recipe.shape_grpo.runs"
EPILOG = """\
Overrides are those of verl's configuration and this project's, such as +task=own data.seed=1;
+backend=cpu trains without a GPU. The metrics, the log, the checkpoints and the settings go into
FOLDER. If FOLDER holds the same run, a finished run is reused, and an unfinished one resumes from
its last checkpoint (trainer.save_freq sets how often one is saved)."""


def main(arguments: list[str] | None = None) -> None:
    """Train, with progress on the terminal and verl's own output in the run's log."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = CommandParser(prog=PROG, description=(__doc__ or "").splitlines()[0], epilog=EPILOG)
    parser.add_argument("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("folder", type=_folder, metavar="FOLDER", help="folder of the run")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as +task=own")
    parser.add_argument(
        "--dry-run", action="store_true", help="check the command, and start nothing"
    )
    parser.add_argument("--verbose", action="store_true", help="show all that verl prints")
    # So that --dry-run may stand anywhere in the line.
    options = sorted(arguments, key=lambda argument: not argument.startswith("-"))
    if wrong := _what_is_wrong(options):
        parser.error(wrong)
    chosen = parser.parse_args(options)
    console = Console()
    with failing_in_one_line("runs", chosen.folder):
        if chosen.dry_run:
            words = [*PROG.split(), chosen.method, str(chosen.folder), *chosen.overrides]
            check.main([f"+method={chosen.method}", *chosen.overrides], words)
            console.print(folder_state(chosen.method, chosen.overrides, chosen.folder))
            return
        identity = train(
            chosen.method, chosen.overrides, chosen.folder, console=console, verbose=chosen.verbose
        )
        print_summary(chosen.folder, console)
        if not identity.has_checkpoint:
            console.print(NO_CHECKPOINT)


NO_CHECKPOINT = (
    "No checkpoint was saved, so there is no policy to export: write trainer.save_freq=N in the "
    "command to save one every N steps and at the end."
)


def _folder(text: str | Path) -> Path:
    if not str(text).strip():
        # An unset variable; the current folder would be taken.
        raise ArgumentTypeError("is empty: write the folder of the run")
    return Path(text)


def _what_is_wrong(arguments: Sequence[str]) -> str | None:
    """Return what to write instead of a command line of another form."""
    if any(argument.startswith("--backend") for argument in arguments):
        return "--backend is an override: write +backend=cpu after FOLDER, or nothing for GPUs"
    words = [argument for argument in arguments if not argument.startswith("-")]
    overrides = [word for word in words if is_override(word)]
    chosen = next((word for word in overrides if key_of(word) == "method"), None)
    if chosen is None and not any(map(is_override, words[:2])):
        return None
    places = [word for word in words if word not in overrides]
    method = chosen.partition("=")[2] if chosen else next(iter(places), "METHOD")
    folder = next((word for word in places if word not in METHODS), "FOLDER")
    line = [method, folder, *(word for word in overrides if word != chosen)]
    return (
        "METHOD and FOLDER are the first two words, and +method= is left out: "
        f"{PROG} {shlex.join(line)}"
    )


def folder_state(method: str, overrides: Sequence[str], run: Path) -> str:
    """Return what the command would do with the folder.

    Raises:
        ValueError: The folder holds checkpoints of another run.
    """
    identity = RunIdentity.of(compose_run([f"+method={method}", *overrides], run), method)
    if identity.is_whole(run):
        return f"{run} holds this run, finished: the command would print its table."
    if identity.resumes:
        identity.check_begun(run)
        return f"{run} holds a checkpoint of this run: the command would resume from it."
    return f"The command would start this run at step 0, in {run}."


if __name__ == "__main__":
    main(sys.argv[1:])
