"""What identifies a run: its settings, and all that it is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from recipe.shape_grpo.common.files import file_hashes, read_stamp
from recipe.shape_grpo.common.run_folder import (
    BEGUN,
    LATEST_CHECKPOINT,
    MAX_RESPONSE_LENGTH,
    RunSettings,
    is_whole,
)

BESIDE_THE_TRAINING = (
    *("trainer.logger", "trainer.resume_mode", "trainer.default_local_dir"),
    "ray_kwargs",
)
"""Keys of the configuration that do not change what is trained."""


@dataclass(frozen=True)
class RunIdentity:
    """What identifies a run.

    Attributes:
        settings: Settings by which reports compare runs.
        made_from: All else that determines the run: its configuration, its data and its policy.
            Credit maps read ``shape_grpo``, ``norm_by_std`` and ``tokenizer``; `evaluate` reads
            ``max_response_length``.
        checkpoints: Folder of the checkpoints.
        resume_mode: verl's: ``auto`` looks for a checkpoint there; ``resume_path`` names one.
    """

    settings: RunSettings
    made_from: dict[str, Any]
    checkpoints: Path
    resume_mode: str

    @classmethod
    def of(cls, config: DictConfig, method: str) -> RunIdentity:
        """Return what identifies a run by ``method`` with this configuration."""
        settings = RunSettings(
            trainer="verl",
            task=config.dataset.name,
            method=method,
            candidates=config.dataset.candidates,
            seed=config.data.seed,
            learning_rate=config.actor_rollout_ref.actor.optim.lr,
            steps=config.trainer.total_training_steps,
        )
        checkpoints = Path(config.trainer.default_local_dir)
        return cls(settings, _made_from(config), checkpoints, config.trainer.resume_mode)

    @property
    def has_checkpoint(self) -> bool:
        """Whether a complete checkpoint was saved."""
        return (self.checkpoints / LATEST_CHECKPOINT).is_file()

    @property
    def resumes(self) -> bool:
        """Whether verl will find a checkpoint and resume from it."""
        is_named = self.resume_mode == "resume_path"
        return is_named or (self.resume_mode == "auto" and self.has_checkpoint)

    @property
    def begun(self) -> dict[str, Any]:
        """What ``begun.json`` holds."""
        return {**asdict(self.settings), **self.made_from}

    def is_whole(self, run: Path) -> bool:
        """Return whether the folder holds this run, finished."""
        return is_whole(run, self.settings, self.made_from)

    def check_begun(self, run: Path) -> None:
        """Check that the checkpoints in the folder belong to this run.

        A checkpoint that the user names may be another run's.

        Raises:
            ValueError: They have another configuration, task or policy.
        """
        if self.resume_mode == "resume_path":
            return
        found = read_stamp(run, BEGUN) or {}
        expected = json.loads(json.dumps(self.begun))
        changed = [name for name, value in expected.items() if found.get(name) != value]
        if changed:
            raise ValueError(
                f"{run} holds checkpoints of another run (what differs: {', '.join(changed)}), and "
                "verl would resume from them. Give another folder, remove this one, or write "
                "trainer.resume_mode=disable to start from step 0."
            )


def _made_from(config: DictConfig) -> dict[str, Any]:
    policy = config.actor_rollout_ref.model.path
    return {
        "config": _hash(config),
        "data": read_stamp(Path(config.dataset.folder)) or _custom_files(config),
        "extensions": _files(config.algorithm.shape_grpo.extensions),
        "made_policy": read_stamp(Path(policy)),
        "shape_grpo": OmegaConf.to_container(config.algorithm.shape_grpo),
        "norm_by_std": config.algorithm.norm_adv_by_std_in_grpo,
        "tokenizer": policy,
        MAX_RESPONSE_LENGTH: config.data.max_response_length,
    }


def _hash(config: DictConfig) -> str:
    config = config.copy()
    for key in BESIDE_THE_TRAINING:
        block, _, name = key.rpartition(".")
        with open_dict(config):
            (OmegaConf.select(config, block) if block else config).pop(name, None)
    text = OmegaConf.to_yaml(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _custom_files(config: DictConfig) -> dict[str, str]:
    """Return hashes of a custom task's data and reward function."""
    paths = (config.data.train_files, config.data.val_files)
    return _files([*paths, config.reward.custom_reward_function.path])


def _files(names: str | Sequence[Any]) -> dict[str, str]:
    """Return hashes of those names that are files."""
    names = [names] if isinstance(names, str) else names
    return file_hashes(path for path in map(Path, map(str, names)) if path.is_file())
