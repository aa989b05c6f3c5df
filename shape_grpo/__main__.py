"""``python -m shape_grpo explain 5 4 3``: the credit of one set, as a table."""

import argparse
from typing import Any


def main() -> None:
    """Explain the credit of one set."""
    parser = argparse.ArgumentParser(prog="python -m shape_grpo")
    commands = parser.add_subparsers(dest="command", required=True)
    explain_parser = commands.add_parser("explain", help="the credit of one set, as a table")
    explain_parser.add_argument("rewards", type=float, nargs="+", help="one a candidate")
    explain_parser.add_argument("--texts", nargs="+", help="the candidates")
    explain_parser.add_argument("--utility", default="max")
    explain_parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the utility, as in --utility top_m --option m=2",
    )
    explain_parser.add_argument("--allocator", default="shapley")
    explain_parser.add_argument(
        "--allocator-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the allocator, as in --allocator attention "
        "--allocator-option looks=[0.5,0.3,0.2]",
    )
    explain_parser.add_argument(
        "--advantage", default="reweight", help="how shares become advantages"
    )
    arguments = parser.parse_args()

    from shape_grpo.advantage import explain
    from shape_grpo.credit import make_utility

    try:
        explain(
            arguments.rewards,
            arguments.texts,
            utility=make_utility(arguments.utility, **_options(arguments.option)),
            allocator=arguments.allocator,
            allocator_options=_options(arguments.allocator_option),
            advantage=arguments.advantage,
        )
    except ValueError as error:
        parser.error(str(error))


def _options(pairs: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    options = OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


if __name__ == "__main__":
    main()
