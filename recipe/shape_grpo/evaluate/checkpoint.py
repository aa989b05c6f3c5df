"""verl's checkpoints (FSDP shards) as Hugging Face folders, by verl's own merger.

A run leaves CHECKPOINTS/global_step_N/actor, and in CHECKPOINTS/latest_checkpointed_iteration.txt
the newest step that is whole; CHECKPOINTS is ``trainer.default_local_dir``, in the folders of
`runs` and of a sweep RUN/checkpoints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.files import begin, is_current, read_stamp, write_stamp
from recipe.shape_grpo.common.run_folder import CHECKPOINTS, LATEST_CHECKPOINT

ACTOR = "actor"
MODEL = "huggingface"
"""Configuration and tokenizer, inside the actor's folder."""

SHARDS = "fsdp_config.json"
"""Says how many shards there are; written after them."""

FILES = ("config.json", "tokenizer_config.json")
SAVING = (
    "verl saves every `trainer.save_freq` steps, and not at all with -1, which the configurations "
    "for the CPU have"
)


def export(source: Path, output: Path, console: Console, step: int | None = None) -> None:
    """Write the policy of a checkpoint as transformers and vLLM load it, in bfloat16.

    Args:
        source: As `find_actor` takes it.
        output: The folder; an export of the same files that is there is left as it is.
        console: Where the result is said.
        step: As `find_actor` takes it.

    Raises:
        FileNotFoundError: There is no checkpoint, or it is not whole.
        ValueError: ``output`` holds something else.
        RuntimeError: verl's merger failed.
    """
    actor = find_actor(source, step)
    shards = _shards(actor)
    stamp = {
        "checkpoint": str(actor.resolve()),
        "shards": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in shards],
    }
    if is_current(output, stamp, FILES):
        console.print(f"export: reusing {output}", soft_wrap=True)
        return
    if output.is_dir() and any(output.iterdir()) and "shards" not in (read_stamp(output) or {}):
        raise ValueError(f"{output} is not empty, and no export of a checkpoint: name another")
    begin(output)
    _merge(actor, output)
    write_stamp(output, stamp)
    console.print(f"export: {actor} -> {output}", soft_wrap=True)


def find_actor(source: Path, step: int | None = None) -> Path:
    """The policy's folder in a checkpoint.

    Args:
        source: A run's folder, its folder of checkpoints, one global_step_N, or the actor's folder
            in it.
        step: N; None: that of ``source``, or the newest that verl has finished.

    Raises:
        FileNotFoundError: There is none; says what is there.
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
        there = ", ".join(map(str, steps))
        raise FileNotFoundError(f"no step {step} in {checkpoints}; there are {there}")
    return checkpoints / f"global_step_{step}" / ACTOR


def _latest(checkpoints: Path, steps: list[int]) -> int:
    latest = checkpoints / LATEST_CHECKPOINT
    text = latest.read_text().strip() if latest.is_file() else ""
    if not text.isdecimal():
        raise FileNotFoundError(
            f"{checkpoints} has no {LATEST_CHECKPOINT}, which verl writes once a checkpoint is "
            f"whole (not with async_save): choose one by --step, of {', '.join(map(str, steps))}"
        )
    return int(text)


def _shards(actor: Path) -> list[Path]:
    """The files of the policy's weights, all of them there."""
    config = actor / SHARDS
    if not config.is_file():
        hint = ": the run ended while it was saved, or verl saved it by another backend than FSDP"
        raise FileNotFoundError(f"{actor} is no whole checkpoint, it has no {SHARDS}{hint}")
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
            f"{actor} is no whole checkpoint, it has no {MODEL}/config.json, which the first "
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
