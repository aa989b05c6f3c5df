"""Train small policies in a world of hidden tastes, all seeds at once.

    python -m recipe.shape_grpo.catalogue --output OUTPUT [options]

Each seed writes a run folder, OUTPUT/seed-N.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.catalogue.training import CatalogueSettings, Metrics, train
from recipe.shape_grpo.common.command import CommandParser, add_settings, failing_in_one_line
from recipe.shape_grpo.common.locks import locked_run
from recipe.shape_grpo.common.methods import credit_options
from recipe.shape_grpo.common.run_folder import begin_run, end_run, write_metrics
from recipe.shape_grpo.common.seeds_table import print_seeds_table


def main(arguments: list[str] | None = None) -> None:
    """Train, write the runs and print their rewards."""
    parser = CommandParser(prog="catalogue", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the seeds' folders")
    add_settings(parser, CatalogueSettings)
    options = parser.parse_args(arguments)
    console = Console()
    with failing_in_one_line(parser.prog, options.output):
        if options.method:
            parser.set_defaults(credit_options(options.method))
            options = parser.parse_args(arguments)
        values = options.as_dict()
        output = values.pop("output")
        settings = CatalogueSettings(**values)
        history = train(settings, console)
        for seed, metrics in history.items():
            run = output / f"seed-{seed}"
            with locked_run(run, console):
                write_run(run, settings, seed, metrics)
    print_seeds_table(f"{settings.task}, {settings.name}", list(history.values()), console)
    console.print(f"Metrics: {output}/seed-*/", soft_wrap=True)


def write_run(run: Path, settings: CatalogueSettings, seed: int, metrics: Metrics) -> None:
    """Write the folder of one seed's run, in the place of an earlier one."""
    begin_run(run)
    for step, data in metrics.items():
        write_metrics(run, step, data)
    end_run(run, settings.run(seed), {"settings": asdict(settings)})


if __name__ == "__main__":
    main()
