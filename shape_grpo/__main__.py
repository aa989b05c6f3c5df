"""``python -m shape_grpo explain 5 4 3``: the credit of each candidate."""

import argparse
import sys

from shape_grpo.explain import command


def main(arguments: list[str] | None = None) -> None:
    """Run a command; default: the program's own arguments."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m shape_grpo")
    parser.add_argument(
        "command", choices=["explain"], help="the credit of a set, or of responses; explain --help"
    )
    parser.parse_args(arguments[:1])
    command.main(arguments[1:])


if __name__ == "__main__":
    main()
