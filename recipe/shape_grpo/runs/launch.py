"""Runs verl's trainer with a progress line and a log file, and reuses finished runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from recipe.shape_grpo.common.disk import full_disks
from recipe.shape_grpo.common.files import write_stamp
from recipe.shape_grpo.common.locks import end_with_parent, locked_run
from recipe.shape_grpo.common.overrides import override
from recipe.shape_grpo.common.run_folder import (
    BEGUN,
    CHECKPOINTS,
    LOG,
    METRICS,
    begin_run,
    end_run,
)
from recipe.shape_grpo.runs.check import check_run, compose_config
from recipe.shape_grpo.runs.identity import RunIdentity
from recipe.shape_grpo.runs.processes import SHARED_MEMORY, WholeSession
from recipe.shape_grpo.runs.progress import show_progress
from shape_grpo.verl.cpu import set_environment
from shape_grpo.verl.trackers import tracker_names

STARTING = {
    "cpu": "starting Ray, FSDP and vLLM (two to three minutes on two cores)",
    "cuda": "starting Ray, FSDP and vLLM",
}
"""Description of the time before the first step, per `trainer.device`."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class TrainingFailed(RuntimeError):
    """Error of verl's process; the message holds the end of its log."""


def cpu_environment(metrics: Path) -> dict[str, str]:
    """Return the environment of a CPU run that writes its metrics to the file ``metrics``.

    The user's variables are kept, except for the platform and the file.
    """
    defaults = {
        # Models and data are local; without this, an unreachable hub is asked repeatedly.
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray keeps 100,000 past tasks for its dashboard by default: 100 MiB after 500 steps.
        "RAY_task_events_max_num_task_in_gcs": "2000",
    }
    environment = {
        **defaults,
        **os.environ,
        "VERL_PLATFORM": "cpu",
        "VERL_FILE_LOGGER_PATH": str(metrics.resolve()),
    }
    set_environment(environment)
    return environment


def run_environment(device: str, run: Path) -> dict[str, str]:
    """Return the environment of a run in the folder ``run``, on the device that verl trains on."""
    metrics = (run / METRICS).resolve()
    chosen = cpu_environment(metrics) if device == "cpu" else dict(os.environ)
    chosen["VERL_FILE_LOGGER_PATH"] = str(metrics)
    # verl's default is the same for two runs in two folders.
    chosen.setdefault("TENSORBOARD_DIR", str((run / "tensorboard").resolve()))
    return chosen


def train(
    method: str,
    overrides: Sequence[str],
    run: Path,
    *,
    console: Console,
    verbose: bool = False,
) -> RunIdentity:
    """Train by a method through `main_shape_grpo`, unless the folder holds the same finished run.

    Args:
        method: A file of `shape_grpo/methods`.
        overrides: Hydra overrides, in addition to those for the method and the folder.
        run: The run's folder.
        console: Console for progress.
        verbose: Whether verl writes to the terminal instead of the log.

    Returns:
        What identifies the run.

    Raises:
        ValueError: The configuration is invalid, or another run is in the folder; nothing was
            started.
        TrainingFailed: The run ended with an error.
    """
    overrides = [f"+method={method}", *overrides]
    config = compose_run(overrides, run)
    identity = RunIdentity.of(config, method)
    if not identity.is_whole(run):
        check_run(config, run_environment(config.trainer.device, run))
        with locked_run(run, console) as lock:
            # Another command may have finished it by now.
            if not identity.is_whole(run):
                _train(identity, overrides, run, console=console, verbose=verbose, lock=lock)
                return identity
    console.print(f"{method}: reusing {run}")
    return identity


def _train(
    identity: RunIdentity,
    overrides: Sequence[str],
    run: Path,
    *,
    console: Console,
    verbose: bool,
    lock: int,
) -> None:
    """Train into the locked folder."""
    method = identity.settings.method
    if identity.resumes:
        identity.check_begun(run)
        console.print(f"{method}: resuming from the last checkpoint in {run}")
    write_stamp(run, identity.begun, BEGUN)
    launch(
        f"{identity.settings.task} by {method}",
        overrides,
        run,
        console=console,
        verbose=verbose,
        resume=identity.resumes,
        lock=lock,
    )
    end_run(run, identity.settings, identity.made_from)


def folder_overrides(overrides: Sequence[str], run: Path) -> list[str]:
    """Return the overrides of a run that keeps its files in its folder, ending with ``overrides``.

    An interrupted run resumes from its last checkpoint, also where a scale sets ``resume_mode``.
    """
    return [
        "trainer.logger=[file]",
        "trainer.resume_mode=auto",
        override("trainer.default_local_dir", run / CHECKPOINTS),
        *overrides,
    ]


def compose_run(overrides: Sequence[str], run: Path) -> DictConfig:
    """Return the configuration of a run that keeps its files in its folder.

    Raises:
        ValueError: As in `compose_config`.
    """
    return compose_config(folder_overrides(overrides, run))


def with_file_logger(config: DictConfig) -> str:
    """Return the override of the run's trackers: the configured ones, and the run's own file."""
    return f"trainer.logger=[{','.join(dict.fromkeys([*tracker_names(config), 'file']))}]"


def launch(
    name: str,
    overrides: Sequence[str],
    run: Path,
    *,
    console: Console,
    verbose: bool = False,
    resume: bool = False,
    lock: int | None = None,
) -> None:
    """Run `main_shape_grpo` until it ends.

    Args:
        name: Name of the run in the progress line.
        overrides: Hydra overrides, including the method's.
        run: Folder for the log, the metrics and Hydra's files.
        console: Console for progress.
        verbose: Whether verl writes to the terminal instead of the log.
        resume: Whether verl resumes from a checkpoint.
        lock: Descriptor of the folder's lock, which verl's process inherits.

    Raises:
        TrainingFailed: The run ended with an error.
    """
    config = compose_run(overrides, run)
    device, steps = config.trainer.device, config.trainer.total_training_steps
    begin_run(run, resume=resume)
    command = [
        *(sys.executable, "-m", "recipe.shape_grpo.main_shape_grpo"),
        *folder_overrides(overrides, run),
        with_file_logger(config),
        override("hydra.run.dir", run / "hydra"),
    ]
    with (run / LOG).open("a") as log:
        log.write(f"=== started {time.strftime('%Y-%m-%d %H:%M:%S %z')}, process {os.getpid()}\n")
        log.flush()
        start = log.tell()
        process = subprocess.Popen(
            command,
            env=run_environment(device, run),
            stdin=subprocess.DEVNULL,
            stdout=None if verbose else log,
            stderr=None if verbose else subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        with WholeSession(process):
            if verbose:
                process.wait()
            else:
                starting = STARTING.get(device, STARTING["cuda"])
                show_progress(process, run, name, starting, steps, console)
    if process.returncode != 0:
        tail = _end_of_log(run / LOG, start)
        if disks := full_disks(tail, run, Path(tempfile.gettempdir()), SHARED_MEMORY):
            raise TrainingFailed(f"{name} failed: {'; '.join(disks)}. The whole log: {run / LOG}")
        end = "" if verbose else f"{tail}\nThe whole log: {run / LOG}"
        raise TrainingFailed(f"{name} failed (exit {process.returncode}).\n{end}")


def _end_of_log(log: Path, start: int, lines: int = 25) -> str:
    """Return the last lines of a log after the byte ``start``."""
    text = _ANSI.sub("", log.read_bytes()[start:].decode(errors="replace"))
    return "\n".join(text.splitlines()[-lines:])
