"""For maintainers: ``python -m recipe.shape_grpo.bench NAME`` runs one of `BENCHMARKS`."""

from typing import Any

from jsonargparse import auto_cli

from recipe.shape_grpo.bench import (
    credit,
    long_run,
    pipeline,
    records,
    reward,
    sandbox,
    scatter,
    vectors,
)
from recipe.shape_grpo.common.command import CommandParser

BENCHMARKS: dict[str, Any] = {
    "credit": credit.run,
    "scatter": scatter.run,
    "records": records.run,
    "pipeline": pipeline.run,
    "long_run": long_run.run,
    "sandbox": sandbox.run,
    "reward": reward.run,
    "vectors": vectors.run,
}

if __name__ == "__main__":
    auto_cli(BENCHMARKS, prog="python -m recipe.shape_grpo.bench", parser_class=CommandParser)
