"""The tasks: their prompts, what their rewards need, and example answers.

A task is a module of this package, and its name is one of `TASKS`. The task's file in
`config/task` and its reward function in `reward_fns` go by the same name. The module gives what
`Task` lists; `common.py` helps with it. `movielens` and `netflix` are one task with two sources:
`films.py` prepares both, and `reward_fns/films.py` scores both.

Beside them, `own.py` reads a folder of somebody's own prompts and examples, which `new.py` begins.
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
    """What the module of a task gives."""

    @property
    def TaskSettings(self) -> type[Any]:
        """A frozen dataclass of all that the task is made from, and the options of its command.

        Its fields are explained under "Attributes:". One is `candidates`, K. `dataset`, no field,
        is the name in the configuration: the folder is outputs/{dataset}-k{candidates}.
        """

    def prepare(self, output: Path, settings: Any) -> None:
        """Write `train.parquet`, `test.parquet` and what rewards need into the folder `output`,
        unless the same task is there already.

        What is wrong is an OSError, a RuntimeError or a ValueError.
        """

    def example_answers(self, folder: Path, rng: np.random.Generator) -> Examples:
        """Examples for a policy's warm start, from the task in `folder`."""


def load_task(name: str) -> Task:
    """The module of the task called `name`, one of `TASKS`."""
    return cast(Task, import_module(f"{__name__}.{name}"))
