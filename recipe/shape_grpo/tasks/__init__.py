"""The tasks: their prompts, the data of their rewards, and example answers.

A task is a module of this package, and its name is one of `TASKS`. The task's file in
`config/task` and its reward function in `reward_fns` have the same name. The module implements
`Task`; `common.py` helps with it. `movielens` and `netflix` are one task with two sources:
`films.py` prepares both, and `reward_fns/films.py` scores both.

`own.py` reads the folder of a custom task, and `new.py` writes a first one.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np

    from recipe.shape_grpo.tasks.common import Examples

TASKS = ("movielens", "netflix", "aclsum", "ds1000")


class Task(Protocol):
    """Interface of a task's module."""

    @property
    def TaskSettings(self) -> type[Any]:
        """A frozen dataclass of the task's settings, which are the options of its command.

        Its docstring explains the fields under "Attributes:". The field `candidates` is K. The
        property `dataset` is the name in `config/task`, and in outputs/{dataset}-k{candidates}.
        """

    def prepare(self, output: Path, settings: Any) -> None:
        """Write `train.parquet`, `test.parquet` and the data of rewards into the folder `output`,
        unless it holds the same task already.

        Errors are an OSError, a RuntimeError or a ValueError.
        """

    def example_answers(self, folder: Path, rng: np.random.Generator) -> Examples:
        """Return examples for a policy's warm start, from the task in `folder`."""


def load_task(name: str) -> Task:
    """Return the module of the task `name`, one of `TASKS`."""
    return cast(Task, import_module(f"{__name__}.{name}"))
