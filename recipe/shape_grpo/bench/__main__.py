"""``python -m recipe.shape_grpo.bench NAME``, of `BENCHMARKS`."""

import argparse

from recipe.shape_grpo.bench import (
    credit,
    long_run,
    pipeline,
    records,
    reward,
    sandbox,
    scatter,
    transfer,
)

BENCHMARKS = {
    "credit": credit,
    "scatter": scatter,
    "records": records,
    "pipeline": pipeline,
    "long_run": long_run,
    "transfer": transfer,
    "sandbox": sandbox,
    "reward": reward,
}


def main() -> None:
    """Run the named benchmark."""
    parser = argparse.ArgumentParser(prog="python -m recipe.shape_grpo.bench")
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        module.add_arguments(command)
    options = parser.parse_args()
    BENCHMARKS[options.benchmark].run(options)


if __name__ == "__main__":
    main()
