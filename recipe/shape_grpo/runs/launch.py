"""Runs verl's trainer with a progress line and a log file, and reuses finished runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from recipe.shape_grpo.common.files import file_hashes, read_stamp, write_stamp
from recipe.shape_grpo.common.run_folder import (
    BEGUN,
    CHECKPOINTS,
    LATEST_CHECKPOINT,
    LOG,
    METRICS,
    RunSettings,
    begin_run,
    end_run,
    is_whole,
)
from recipe.shape_grpo.runs.check import check_run, compose_config
from recipe.shape_grpo.runs.processes import WholeSession
from recipe.shape_grpo.runs.progress import show_progress
from shape_grpo.verl.cpu import set_environment

BACKENDS = {"cpu": ["+backend=cpu"], "gpu": []}
"""Overrides that select each backend."""

STARTING = {
    "cpu": "starting Ray, FSDP and vLLM (two to three minutes on two cores)",
    "gpu": "starting Ray, FSDP and vLLM",
}
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


def run_environment(backend: str, run: Path) -> dict[str, str]:
    """Return the environment of a run in the folder ``run``."""
    metrics = run / METRICS
    if backend == "cpu":
        return cpu_environment(metrics)
    return {**os.environ, "VERL_FILE_LOGGER_PATH": str(metrics.resolve())}


def train(
    method: str,
    overrides: Sequence[str],
    run: Path,
    *,
    console: Console,
    backend: str = "cpu",
    verbose: bool = False,
) -> None:
    """Train by a method through `main_shape_grpo`, unless the folder holds the same finished run.

    Args:
        method: A file of `shape_grpo/methods`.
        overrides: Hydra overrides, in addition to those for the method, the backend and logging.
        run: The run's folder.
        console: Console for progress.
        backend: One of `BACKENDS`.
        verbose: Whether verl writes to the terminal instead of the log.

    Raises:
        ValueError: The configuration is invalid; nothing was started.
        TrainingFailed: The run ended with an error.
    """
    overrides = [f"+method={method}", *overrides]
    config = compose_config(command_overrides(overrides, run, backend))
    settings = RunSettings(
        trainer="verl",
        task=config.dataset.name,
        method=method,
        candidates=config.dataset.candidates,
        seed=config.data.seed,
        learning_rate=config.actor_rollout_ref.actor.optim.lr,
        steps=config.trainer.total_training_steps,
    )
    made_from = _causes(config)
    if is_whole(run, settings, made_from):
        console.print(f"{method}: reusing {run}")
        return
    check_run(config, run_environment(backend, run))
    begun = {**asdict(settings), **made_from}
    if resume := _will_resume(config):
        _check_begun(run, begun)
        console.print(f"{method}: resuming from the last checkpoint in {run}")
    run.mkdir(parents=True, exist_ok=True)
    write_stamp(run, begun, BEGUN)
    launch(
        f"{settings.task} by {method}",
        overrides,
        run,
        steps=settings.steps,
        console=console,
        backend=backend,
        verbose=verbose,
        resume=resume,
    )
    end_run(run, settings, made_from)


def _will_resume(config: DictConfig) -> bool:
    """Return whether verl will find a checkpoint and resume from it."""
    latest = Path(config.trainer.default_local_dir) / LATEST_CHECKPOINT
    return config.trainer.resume_mode == "auto" and latest.is_file()


def _check_begun(run: Path, settings: dict[str, Any]) -> None:
    """Check that the checkpoints in the folder belong to this run.

    Raises:
        ValueError: They have another configuration, task or policy.
    """
    begun = read_stamp(run, BEGUN) or {}
    settings = json.loads(json.dumps(settings))
    changed = [name for name, value in settings.items() if begun.get(name) != value]
    if changed:
        raise ValueError(
            f"{run} holds checkpoints of another run (with another {', '.join(changed)}), and verl "
            "would resume from them. Give another folder, remove this one, or write "
            "trainer.resume_mode=disable to start from step 0."
        )


def _causes(config: DictConfig) -> dict[str, Any]:
    """Return all else that determines a run: its configuration, its data and its policy.

    Credit maps read ``shape_grpo``, ``norm_by_std`` and ``tokenizer``.
    """
    text = OmegaConf.to_yaml(config, sort_keys=True)
    policy = config.actor_rollout_ref.model.path
    return {
        "config": hashlib.sha256(text.encode()).hexdigest(),
        "data": read_stamp(Path(config.dataset.folder)) or _custom_files(config),
        "extensions": _files(config.algorithm.shape_grpo.extensions),
        "made_policy": read_stamp(Path(policy)),
        "shape_grpo": OmegaConf.to_container(config.algorithm.shape_grpo),
        "norm_by_std": config.algorithm.norm_adv_by_std_in_grpo,
        "tokenizer": policy,
    }


def _custom_files(config: DictConfig) -> dict[str, str]:
    """Return hashes of a custom task's data and reward function."""
    paths = (config.data.train_files, config.data.val_files)
    return _files([*paths, config.reward.custom_reward_function.path])


def _files(names: str | Sequence[Any]) -> dict[str, str]:
    """Return hashes of those names that are files."""
    names = [names] if isinstance(names, str) else names
    return file_hashes(path for path in map(Path, map(str, names)) if path.is_file())


def command_overrides(overrides: Sequence[str], run: Path, backend: str) -> list[str]:
    """Return the overrides of a run that logs into its folder, ending with ``overrides``."""
    return [
        *BACKENDS[backend],
        "trainer.logger=[file]",
        f"trainer.default_local_dir={run / CHECKPOINTS}",
        *overrides,
    ]


def launch(
    name: str,
    overrides: Sequence[str],
    run: Path,
    *,
    steps: int,
    console: Console,
    backend: str = "cpu",
    verbose: bool = False,
    resume: bool = False,
) -> None:
    """Run `main_shape_grpo` until it ends.

    Args:
        name: Name of the run in the progress line.
        overrides: Hydra overrides, including the method's.
        run: Folder for the log, the metrics and Hydra's files.
        steps: Number of training steps that the overrides set.
        console: Console for progress.
        backend: One of `BACKENDS`.
        verbose: Whether verl writes to the terminal instead of the log.
        resume: Whether verl resumes from a checkpoint.

    Raises:
        TrainingFailed: The run ended with an error.
    """
    # SIGTERM too must end Ray with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begin_run(run, resume=resume)
    command = [
        *(sys.executable, "-m", "recipe.shape_grpo.main_shape_grpo"),
        *command_overrides(overrides, run, backend),
        f"hydra.run.dir={run / 'hydra'}",
    ]
    with (run / LOG).open("w") as log:
        process = subprocess.Popen(
            command,
            env=run_environment(backend, run),
            stdin=subprocess.DEVNULL,
            stdout=None if verbose else log,
            stderr=None if verbose else subprocess.STDOUT,
            start_new_session=True,
        )
        with WholeSession(process):
            if verbose:
                process.wait()
            else:
                show_progress(process, run, name, STARTING[backend], steps, console)
    if process.returncode != 0:
        tail = "" if verbose else _end_of_log(run / LOG)
        raise TrainingFailed(f"{name} failed (exit {process.returncode}).\n{tail}")


def _end_of_log(log: Path, lines: int = 25) -> str:
    text = _ANSI.sub("", log.read_text(errors="replace"))
    return "\n".join(text.splitlines()[-lines:]) + f"\nThe whole log: {log}"
