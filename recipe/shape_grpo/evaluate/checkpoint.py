"""Export of verl's checkpoints (FSDP shards) as Hugging Face models, by verl's merger.

A run writes CHECKPOINTS/global_step_N/actor, and the newest complete step N into
CHECKPOINTS/latest_checkpointed_iteration.txt. CHECKPOINTS is ``trainer.default_local_dir``, which
`runs` and `sweep` set to RUN/checkpoints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from recipe.shape_grpo.common.files import begin, is_current, read_stamp, write_stamp
from recipe.shape_grpo.common.run_folder import (
    BEGUN,
    CHECKPOINTS,
    LATEST_CHECKPOINT,
    MAX_RESPONSE_LENGTH,
    WRITTEN,
)

ACTOR = "actor"
MODEL = "huggingface"
"""Folder of the configuration and the tokenizer, inside the actor's folder."""

SHARDS = "fsdp_config.json"
"""File with the number of shards, written after them."""

FILES = ("config.json", "tokenizer_config.json")
SAVING = (
    "the run saved no checkpoint (trainer.save_freq=-1, as in the scales for the CPU). Train again "
    "with trainer.save_freq=N, which saves the policy every N steps and at the end"
)


def export(source: Path, output: Path, console: Console, step: int | None = None) -> None:
    """Write the policy of a checkpoint in the format of transformers and vLLM, in bfloat16.

    Args:
        source: As in `find_actor`.
        output: The model's folder; if it holds an export of the same checkpoint, it is kept.
        console: Console for the result.
        step: As in `find_actor`.

    Raises:
        FileNotFoundError: There is no checkpoint, or it is incomplete.
        ValueError: ``output`` is not empty, and holds no export.
        RuntimeError: verl's merger failed.
    """
    actor = find_actor(source, step)
    shards = _shards(actor)
    trained = _trained_with(actor)
    block = trained.get("shape_grpo", {})
    stamp = {
        "checkpoint": str(actor.resolve()),
        MAX_RESPONSE_LENGTH: trained.get(MAX_RESPONSE_LENGTH),
        **{name: block[name] for name in WRITTEN if name in block},
        "shards": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in shards],
    }
    if is_current(output, stamp, FILES):
        console.print(f"export: reusing {output}", soft_wrap=True)
        return
    if output.is_dir() and any(output.iterdir()) and "shards" not in (read_stamp(output) or {}):
        raise ValueError(f"{output} holds other files than an export: name another folder")
    begin(output)
    _merge(actor, output)
    write_stamp(output, stamp)
    console.print(f"export: {actor} -> {output}", soft_wrap=True)


def find_actor(source: Path, step: int | None = None) -> Path:
    """Return the policy's folder in a checkpoint.

    Args:
        source: Folder of a run, of its checkpoints, of one global_step_N, or of the actor in it.
        step: N; None: that of ``source``, or the newest complete one.

    Raises:
        FileNotFoundError: There is none; the message lists the existing steps.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if source.name == ACTOR or source.name.startswith("global_step_"):
        folder = source.parent if source.name == ACTOR else source
        if step is not None and folder.name != f"global_step_{step}":
            raise FileNotFoundError(f"{source} is not of step {step}; name the run's folder")
        return folder / ACTOR
    checkpoints = source / CHECKPOINTS if (source / CHECKPOINTS).is_dir() else source
    steps = sorted(
        int(number)
        for path in checkpoints.glob("global_step_*")
        if (number := path.name.removeprefix("global_step_")).isdecimal()
    )
    if not steps:
        raise FileNotFoundError(f"no global_step_N in {checkpoints}: {SAVING}")
    if step is None:
        step = _latest(checkpoints, steps)
    if step not in steps:
        existing = ", ".join(map(str, steps))
        raise FileNotFoundError(f"no step {step} in {checkpoints}; there are {existing}")
    return checkpoints / f"global_step_{step}" / ACTOR


def _trained_with(actor: Path) -> dict[str, Any]:
    """Return the settings of the run that saved a checkpoint; none if they are unknown."""
    # RUN/checkpoints/global_step_N/actor
    runs = (folder for folder in actor.resolve().parents if (folder / BEGUN).is_file())
    run = next(runs, None)
    return (run and read_stamp(run, BEGUN)) or {}


def _latest(checkpoints: Path, steps: list[int]) -> int:
    latest = checkpoints / LATEST_CHECKPOINT
    text = latest.read_text().strip() if latest.is_file() else ""
    if not text.isdecimal():
        raise FileNotFoundError(
            f"{checkpoints} has no {LATEST_CHECKPOINT}, which verl writes after each complete "
            f"checkpoint (not with async_save): set --step to one of {', '.join(map(str, steps))}"
        )
    return int(text)


def _shards(actor: Path) -> list[Path]:
    """Return the files of the policy's weights, and check that none is missing."""
    config = actor / SHARDS
    if not config.is_file():
        hint = ": the run ended while saving it, or verl saved it by a backend other than FSDP"
        raise FileNotFoundError(f"{actor} is an incomplete checkpoint without {SHARDS}{hint}")
    world_size = json.loads(config.read_text())["world_size"]
    names = [f"model_world_size_{world_size}_rank_{rank}.pt" for rank in range(world_size)]
    missing = [name for name in names if not (actor / name).is_file()]
    if missing:
        message = f"{actor} lacks {', '.join(missing)}: "
        if list((actor / MODEL).glob("*.safetensors")):
            raise FileNotFoundError(f"{message}{actor / MODEL} is a Hugging Face model already")
        raise FileNotFoundError(
            f"{message}copy the shards of all machines into one folder, or train with 'model' in "
            "actor_rollout_ref.actor.checkpoint.save_contents"
        )
    if not (actor / MODEL / "config.json").is_file():
        raise FileNotFoundError(
            f"{actor} is an incomplete checkpoint without {MODEL}/config.json, which the first "
            "machine writes beside its shards"
        )
    return [actor / name for name in names]


def _merge(actor: Path, output: Path) -> None:
    command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    command += ["--local_dir", str(actor), "--target_dir", str(output)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        end = "\n".join(result.stdout.strip().splitlines()[-5:])
        raise RuntimeError(f"verl's merger failed on {actor}:\n{end}")
