"""``python -m shape_grpo explain 5 4 3``: the credit of one set, as a table."""

import argparse


def main() -> None:
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
    arguments = parser.parse_args()

    from omegaconf import OmegaConf

    from shape_grpo.credit import explain, make_utility

    options = OmegaConf.from_dotlist(arguments.option)
    try:
        utility = make_utility(arguments.utility, **{str(k): v for k, v in options.items()})
        explain(arguments.rewards, arguments.texts, utility=utility, allocator=arguments.allocator)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
