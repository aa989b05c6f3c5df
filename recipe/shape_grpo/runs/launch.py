"""Runs verl's trainer: quiet, with progress, its log in a file, and a run that is there reused."""

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
"""Name to the overrides that choose it."""

STARTING = {
    "cpu": "starting Ray, FSDP and vLLM (two to three minutes on two cores)",
    "gpu": "starting Ray, FSDP and vLLM",
}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class TrainingFailed(RuntimeError):
    """verl ended with an error; the message holds the end of its log."""


def cpu_environment(metrics: Path) -> dict[str, str]:
    """The environment of a CPU run whose metrics go to the file ``metrics``.

    What the user has set stays, but for the platform and the file.
    """
    defaults = {
        # Models and data are on this machine; a hub out of reach would be asked again and again.
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Past tasks that Ray keeps for its dashboard: 100,000 else, a hundred MiB in 500 steps.
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
    """The environment of a run in this folder."""
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
    """Train by a method through `main_shape_grpo`, unless that very run is in the folder already.

    Args:
        method: A file of `config/method`.
        overrides: Hydra overrides beside those for the method, the backend and logging.
        run: The run's folder.
        console: Where progress goes.
        backend: One of `BACKENDS`.
        verbose: Let verl write to the terminal instead of the log.

    Raises:
        ValueError: The configuration is refused; nothing was started.
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
    if goes_on := _will_resume(config):
        _check_begun(run, begun)
        console.print(f"{method}: going on from the last checkpoint in {run}")
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
        goes_on=goes_on,
    )
    end_run(run, settings, made_from)


def _will_resume(config: DictConfig) -> bool:
    """Whether verl will go on from a checkpoint that it finds."""
    latest = Path(config.trainer.default_local_dir) / LATEST_CHECKPOINT
    return config.trainer.resume_mode == "auto" and latest.is_file()


def _check_begun(run: Path, wanted: dict[str, Any]) -> None:
    """Refuse to go on with another run than was begun.

    Raises:
        ValueError: The checkpoints are of another configuration, task or policy.
    """
    begun = read_stamp(run, BEGUN) or {}
    wanted = json.loads(json.dumps(wanted))
    changed = [name for name, value in wanted.items() if begun.get(name) != value]
    if changed:
        raise ValueError(
            f"{run} holds checkpoints of another run (another {', '.join(changed)}), and verl "
            "would go on from them. Give another folder, or remove this one, or write "
            "trainer.resume_mode=disable to begin anew over it."
        )


def _causes(config: DictConfig) -> dict[str, Any]:
    """Return what else a run was made from: the configuration, the data, and the policy's folder.

    Credit maps read ``shape_grpo``, ``norm_by_std`` and ``tokenizer``.
    """
    text = OmegaConf.to_yaml(config, sort_keys=True)
    policy = config.actor_rollout_ref.model.path
    return {
        "config": hashlib.sha256(text.encode()).hexdigest(),
        "data": read_stamp(Path(config.dataset.folder)) or _own_files(config),
        "made_policy": read_stamp(Path(policy)),
        "shape_grpo": OmegaConf.to_container(config.algorithm.shape_grpo),
        "norm_by_std": config.algorithm.norm_adv_by_std_in_grpo,
        "tokenizer": policy,
    }


def _own_files(config: DictConfig) -> dict[str, str]:
    """Hashes of the data and the reward function, where nobody here prepared them."""
    paths = (config.data.train_files, config.data.val_files)
    files = [*map(str, paths), str(config.reward.custom_reward_function.path)]
    return file_hashes(path for path in map(Path, files) if path.is_file())


def command_overrides(overrides: Sequence[str], run: Path, backend: str) -> list[str]:
    """The overrides of a run that logs into its folder; those given come last."""
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
    goes_on: bool = False,
) -> None:
    """Run `main_shape_grpo` until it ends.

    Args:
        name: What the progress line calls the run.
        overrides: As `train`, the method included.
        run: Folder for the log, the metrics and hydra's own files.
        steps: Training steps that the overrides ask for.
        console: Where progress goes.
        backend: One of `BACKENDS`.
        verbose: Let verl write to the terminal instead of the log.
        goes_on: verl goes on from a checkpoint.

    Raises:
        TrainingFailed: The run ended with an error.
    """
    # Also when this process is asked to end: Ray must not train on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begin_run(run, goes_on=goes_on)
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
