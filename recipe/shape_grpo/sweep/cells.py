"""What a sweep consists of: a specification, and the cells that it spans.

A specification is a file of `config/sweep`, or the path of another one. Its fields are those of
`Sweep`. Its overrides are those of the trainer's command: hydra overrides for ``verl``, options of
`python -m recipe.shape_grpo.in_process` for ``trl`` and of `recipe.shape_grpo.catalogue` for
``catalogue``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.files import STAMP, read_stamp
from recipe.shape_grpo.common.methods import CONFIG, METHODS
from recipe.shape_grpo.runs.launch import BACKENDS

SPECIFICATIONS = tuple(sorted(path.stem for path in (CONFIG / "sweep").glob("*.yaml")))
TRAINERS = ("verl", "trl", "catalogue")
MADE_BY = "cell.json"


@dataclass
class Sweep:
    """Methods x tasks x K x learning rates x seeds.

    Attributes:
        trainer: ``verl``, ``trl`` (in one process, without Ray and vLLM) or ``catalogue`` (a
            simulated world).
        tasks: Files of `config/task`; for ``catalogue``, names of the world.
        methods: Files of `config/method`.
        candidates: K.
        learning_rates: Learning rates of the policy.
        seeds: Seeds, one run each.
        method_learning_rates: Learning rates of single methods, instead of `learning_rates`.
        backend: verl's backend, ``cpu`` or ``gpu``.
        seeds_at_once: Whether one command trains all seeds of a cell (``trl`` and ``catalogue``).
        overrides: Overrides of every run.
        task_overrides: Further overrides per task; ``{data}`` is the task's folder.
        prepare: Commands of the recipe's rooms that make a task's data and policy, once per K;
            ``{data}`` and ``{candidates}`` are filled in. Without any, the task's data must be in
            its own folder, outputs/TASK-kK.
    """

    trainer: str
    tasks: list[str]
    methods: list[str]
    candidates: list[int]
    learning_rates: list[float]
    seeds: list[int]
    method_learning_rates: dict[str, list[float]] = field(default_factory=dict)
    backend: str = "gpu"
    seeds_at_once: bool = False
    overrides: list[str] = field(default_factory=list)
    task_overrides: dict[str, list[str]] = field(default_factory=dict)
    prepare: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One command of a sweep.

    Attributes:
        name: Its folder inside the sweep's, as in ``netflix-k3/grpo/lr-1e-06/seed-0``.
        data: Folder of the task's data; may not be there.
        command: What to run, less the Python in front.
        runs: Folders of the runs that it makes.
    """

    name: str
    data: Path
    command: tuple[str, ...]
    runs: tuple[Path, ...]

    def made_by(self) -> dict[str, Any]:
        """What the runs depend on: the command, the data and the policy in their folder."""
        stamps = {"data": read_stamp(self.data), "policy": read_stamp(self.data / "policy")}
        return {"command": list(self.command), **stamps}

    def is_done(self, output: Path) -> bool:
        """Whether the runs are there, whole, and made by just this."""
        record = output / self.name / MADE_BY
        return (
            record.is_file()
            and json.loads(record.read_text()) == self.made_by()
            and all((run / STAMP).is_file() for run in self.runs)
        )

    def mark_done(self, output: Path) -> None:
        """Record what made the runs."""
        (output / self.name / MADE_BY).write_text(json.dumps(self.made_by(), indent=2) + "\n")


def read_sweep(name: str, changes: Sequence[str] = ()) -> Sweep:
    """The specification of this name, or at this path.

    Args:
        name: One of `SPECIFICATIONS`, or a path.
        changes: What differs, as in ``methods=[grpo,shape_grpo]``.

    Raises:
        ValueError: There is none, or it holds a key or value that is not allowed.
    """
    path = CONFIG / "sweep" / f"{name}.yaml" if name in SPECIFICATIONS else Path(name)
    if not path.is_file():
        there_are = ", ".join(SPECIFICATIONS)
        raise ValueError(f"no sweep {name!r}; there are {there_are}, or give the path of a file")
    try:
        given = OmegaConf.load(path), OmegaConf.from_dotlist([*changes])
        merged = OmegaConf.merge(OmegaConf.structured(Sweep), *given)
        sweep = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        where = f"{path}: {error.full_key}: " if error.full_key else f"{path}: "
        raise ValueError(where + str(error).splitlines()[0]) from None
    assert isinstance(sweep, Sweep)
    for value, allowed, what in (
        *(
            (method, METHODS, "methods")
            for method in [*sweep.methods, *sweep.method_learning_rates]
        ),
        (sweep.trainer, TRAINERS, "trainer"),
        (sweep.backend, tuple(BACKENDS), "backend"),
    ):
        if value not in allowed:
            raise ValueError(f"{path}: {what}: {value!r} is none of {', '.join(allowed)}")
    if sweep.trainer == "verl" and sweep.seeds_at_once:
        raise ValueError(f"{path}: seeds_at_once: verl trains one seed per run; leave it out")
    return sweep


def cells(sweep: Sweep, output: Path) -> Iterator[Cell]:
    """The cells of a sweep whose results go to ``output``.

    A seed comes after all of the one before it: early cells compare all methods.
    """
    groups = [sweep.seeds] if sweep.seeds_at_once else [[seed] for seed in sweep.seeds]
    for seeds, task, k, method in itertools.product(
        groups, sweep.tasks, sweep.candidates, sweep.methods
    ):
        for rate in sweep.method_learning_rates.get(method, sweep.learning_rates):
            yield _cell(sweep, task, method, k, rate, seeds, output)


def _cell(
    sweep: Sweep, task: str, method: str, k: int, rate: float, seeds: list[int], output: Path
) -> Cell:
    name = f"{task}-k{k}/{method}/lr-{rate:g}"
    runs = tuple(output / name / f"seed-{seed}" for seed in seeds)
    data = data_folder(output, task, k)
    of_task = [text.format(data=data) for text in sweep.task_overrides.get(task, [])]
    shared = [f"--method={method}", f"--candidates={k}", f"--learning_rate={rate:g}"]
    shared += [f"--seeds={seeds}", f"--output={output / name}"]
    if sweep.trainer == "verl":
        arguments = [
            *("runs", f"--backend={sweep.backend}", method, str(runs[0])),
            *(f"+task={task}", f"dataset.candidates={k}", f"data.seed={seeds[0]}"),
            f"actor_rollout_ref.actor.optim.lr={rate:g}",
            *([f"dataset.folder={data}"] if task in sweep.prepare else []),
        ]
    elif sweep.trainer == "trl":
        if task not in sweep.prepare:
            data = Path("outputs") / f"{task}-k{k}"
        arguments = ["in_process", str(data), *shared]
    else:
        arguments = ["catalogue", f"--task={task}", *shared]
    room, *rest = arguments
    command = ("-m", f"recipe.shape_grpo.{room}", *rest, *sweep.overrides, *of_task)
    return Cell(name if sweep.seeds_at_once else f"{name}/seed-{seeds[0]}", data, command, runs)


def data_folder(output: Path, task: str, candidates: int) -> Path:
    """Where a sweep puts the data of a task that it prepares."""
    return output / "data" / f"{task}-k{candidates}"


def preparations(sweep: Sweep, output: Path) -> Iterator[tuple[str, ...]]:
    """The commands that make data and policies, less the Python in front."""
    for task, k in itertools.product(sweep.tasks, sweep.candidates):
        data = data_folder(output, task, k)
        for words in sweep.prepare.get(task, []):
            room, *rest = words.format(data=data, candidates=k).split()
            yield ("-m", f"recipe.shape_grpo.{room}", *rest)
