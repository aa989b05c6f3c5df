"""The specification of a sweep, and the cells that it consists of.

A specification is a file of `config/sweep`, or another file, with the fields of `Sweep`.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.files import STAMP, read_stamp
from recipe.shape_grpo.common.methods import CONFIG
from recipe.shape_grpo.common.overrides import override
from shape_grpo.methods import METHODS

SPECIFICATIONS = tuple(sorted(path.stem for path in (CONFIG / "sweep").glob("*.yaml")))
TRAINERS = ("verl", "trl", "catalogue")
BACKENDS = {"cpu": ["+backend=cpu"], "gpu": []}
"""Overrides that select each backend of verl."""

MADE_BY = "cell.json"


@dataclass
class Sweep:
    """Methods x tasks x K x learning rates x seeds.

    Attributes:
        trainer: ``verl``, ``trl`` (in one process, without Ray and vLLM) or ``catalogue`` (a
            simulated world).
        tasks: Files of `config/task`; for ``catalogue``, names of the world.
        methods: Files of `shape_grpo/methods`.
        candidates: Values of K.
        learning_rates: Learning rates of the policy.
        seeds: Seeds, one run each.
        method_learning_rates: Learning rates of single methods, instead of `learning_rates`.
        backend: verl's backend, ``cpu`` or ``gpu``.
        seeds_at_once: Whether one command trains all seeds of a cell (``trl`` and ``catalogue``).
        overrides: Overrides of every run: Hydra overrides for ``verl``, options of
            `recipe.shape_grpo.in_process` for ``trl``, of `recipe.shape_grpo.catalogue` for
            ``catalogue``.
        task_overrides: Further overrides per task; ``{data}`` is the task's folder.
        prepare: Commands of the recipe's rooms that make a task's data and policy, once per K;
            ``{data}`` and ``{candidates}`` are filled in. Without any, the task's data must be in
            the folder of its file in `config/task`, by default outputs/TASK-kK.
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
        name: Folder inside the sweep's, such as ``netflix-k3/grpo/lr-1e-06/seed-0``.
        data: Folder of the task's data; it may not exist.
        command: Arguments of Python.
        runs: Folders of the runs that the command makes.
    """

    name: str
    data: Path
    command: tuple[str, ...]
    runs: tuple[Path, ...]

    def made_by(self) -> dict[str, Any]:
        """Return all that determines the runs: the command, the data and the policy."""
        stamps = {"data": read_stamp(self.data), "policy": read_stamp(self.data / "policy")}
        return {"command": list(self.command), **stamps}

    def is_done(self, output: Path) -> bool:
        """Return whether the runs are finished, and made from the same command and data."""
        record = output / self.name / MADE_BY
        return (
            record.is_file()
            and json.loads(record.read_text()) == self.made_by()
            and all((run / STAMP).is_file() for run in self.runs)
        )

    def mark_done(self, output: Path) -> None:
        """Record how the runs were made."""
        (output / self.name / MADE_BY).write_text(json.dumps(self.made_by(), indent=2) + "\n")


def read_sweep(name: str, changes: Sequence[str] = ()) -> Sweep:
    """Read a specification.

    Args:
        name: One of `SPECIFICATIONS`, or the path of a file.
        changes: Changed fields, such as ``methods=[grpo,shape_grpo]``.

    Raises:
        ValueError: It does not exist, or holds an unknown key or value.
    """
    path = CONFIG / "sweep" / f"{name}.yaml" if name in SPECIFICATIONS else Path(name)
    if not path.is_file():
        known = ", ".join(SPECIFICATIONS)
        raise ValueError(f"no sweep {name!r}: use one of {known}, or the path of a file")
    try:
        given = OmegaConf.load(path), OmegaConf.from_dotlist([*changes])
        merged = OmegaConf.merge(OmegaConf.structured(Sweep), *given)
        sweep = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        where = f"{path}: {error.full_key}: " if error.full_key else f"{path}: "
        raise ValueError(where + str(error).splitlines()[0]) from None
    assert isinstance(sweep, Sweep)
    methods = [*sweep.methods, *sweep.method_learning_rates]
    for key, values, allowed in (
        ("methods", methods, METHODS),
        ("trainer", [sweep.trainer], TRAINERS),
        ("backend", [sweep.backend], tuple(BACKENDS)),
    ):
        for value in values:
            if value not in allowed:
                raise ValueError(f"{path}: {key}: {value!r} is not one of {', '.join(allowed)}")
    if sweep.trainer == "verl" and sweep.seeds_at_once:
        raise ValueError(f"{path}: seeds_at_once: verl trains one seed per run; leave it out")
    if sweep.trainer != "verl":
        _check_for_other_trainers(path, sweep)
    return sweep


def _check_for_other_trainers(path: Path, sweep: Sweep) -> None:
    """Check for tasks and overrides that are verl's alone.

    Raises:
        ValueError: There is one; the message says what to write.
    """
    for text in itertools.chain(sweep.overrides, *sweep.task_overrides.values()):
        if not text.startswith("-"):
            raise ValueError(
                f"{path}: overrides: {text} is for trainer: verl; {sweep.trainer} takes the "
                "options of its own command, as --steps=60"
            )
    for task in sweep.tasks:
        if sweep.trainer == "catalogue" and (CONFIG / "task" / f"{task}.yaml").is_file():
            raise ValueError(
                f"{path}: tasks: {task} is a task of config/task, and catalogue trains in a "
                "simulated world without it: write trainer: verl, or trainer: trl"
            )


def cells(sweep: Sweep, output: Path) -> Iterator[Cell]:
    """Yield the cells of a sweep into ``output``, one seed after another."""
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
    is_verl = sweep.trainer == "verl"
    task_overrides = [
        _with_data(text, data, quoted=is_verl) for text in sweep.task_overrides.get(task, [])
    ]
    shared = [f"--method={method}", f"--candidates={k}", f"--learning_rate={rate:g}"]
    shared += [f"--seeds={seeds}", f"--output={output / name}"]
    if is_verl:
        arguments = [
            *("runs", method, str(runs[0]), *BACKENDS[sweep.backend]),
            *(f"+task={task}", f"dataset.candidates={k}", f"data.seed={seeds[0]}"),
            f"actor_rollout_ref.actor.optim.lr={rate:g}",
            *([override("dataset.folder", data)] if task in sweep.prepare else []),
        ]
    elif sweep.trainer == "trl":
        if task not in sweep.prepare:
            data = _folder(task, k)
        arguments = ["in_process", str(data), *shared]
    else:
        arguments = ["catalogue", f"--task={task}", *shared]
    room, *options = arguments
    command = ("-m", f"recipe.shape_grpo.{room}", *options, *sweep.overrides, *task_overrides)
    return Cell(name if sweep.seeds_at_once else f"{name}/seed-{seeds[0]}", data, command, runs)


def _folder(task: str, candidates: int) -> Path:
    """Return the folder of a task that is prepared already; that of `tasks new` is in its file."""
    file = CONFIG / "task" / f"{task}.yaml"
    folder = OmegaConf.select(OmegaConf.load(file), "dataset.folder") if file.is_file() else None
    return Path(folder or f"outputs/{task}-k{candidates}")


def _with_data(text: str, data: Path, *, quoted: bool) -> str:
    """Fill in ``{data}``; quote it for Hydra if it begins the value of an override."""
    key, _, value = text.partition("=")
    if quoted and value.startswith("{data}"):
        return override(key, value.format(data=data))
    return text.format(data=data)


def data_folder(output: Path, task: str, candidates: int) -> Path:
    """Return the folder of the data that a sweep prepares for a task."""
    return output / "data" / f"{task}-k{candidates}"


def preparations(sweep: Sweep, output: Path) -> Iterator[tuple[str, ...]]:
    """Yield the commands that make data and policies, as arguments of Python."""
    for task, k in itertools.product(sweep.tasks, sweep.candidates):
        data = data_folder(output, task, k)
        for words in sweep.prepare.get(task, []):
            # Split first: the folder's name may hold spaces.
            room, *options = (word.format(data=data, candidates=k) for word in shlex.split(words))
            yield ("-m", f"recipe.shape_grpo.{room}", *options)
