"""verl's V1 trainers with candidates passed to the estimator (verl 0.9.1).

Registered as ``shape_grpo`` (on verl's "sync"), ``shape_grpo_colocate_async`` and
``shape_grpo_separate_async``; chosen with ``trainer.v1.trainer_mode``. They also train any other
``adv_estimator``, which then gets the same rewards and metrics: the fair way to run a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import get_trainer_cls, register_trainer

from shape_grpo.advantage import CandidateBatch, CandidateRecord, candidate_metrics
from shape_grpo.verl import cpu
from shape_grpo.verl.checks import (
    AGENT_LOOP_MANAGER,
    RECORD_KEY,
    REWARD_MANAGER,
    TRAINER_MODES,
    check_trainer_config,
)
from shape_grpo.verl.estimator import candidates_in_context


class CandidateTrainerMixin:
    """Reads what the reward manager recorded and lends it to the estimator."""

    verl_trainer_mode: str
    config: DictConfig
    _records_to_write: Mapping[str, str | None] = {}

    def __init__(self, config: DictConfig) -> None:
        self.shape_grpo_config = check_trainer_config(config)
        # verl compares this string: with any but its own "sync" it would train synchronously from
        # the asynchronous replay buffer.
        config.trainer.v1.trainer_mode = self.verl_trainer_mode
        agent = config.actor_rollout_ref.rollout.agent
        ours = config.reward.reward_manager.name == REWARD_MANAGER
        if ours and agent.get("agent_loop_manager_class") is None:
            with open_dict(agent):
                agent.agent_loop_manager_class = AGENT_LOOP_MANAGER
        super().__init__(config)  # type: ignore[call-arg]

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        compute_advantage = super()._compute_advantage  # type: ignore[misc]
        if self.config.reward.reward_manager.name != REWARD_MANAGER:
            return compute_advantage(batch, metrics)
        final_rows = _final_rows(batch.keys)
        records = self._read_records(batch, final_rows)
        candidates = CandidateBatch.collate(
            records, vectors=self.shape_grpo_config.game.takes_vectors
        )
        with candidates_in_context(candidates, final_rows, self.shape_grpo_config):
            batch = compute_advantage(batch, metrics)
        answers = [row for row in range(len(records)) if _is_answer(batch, final_rows, row)]
        metrics.update(
            candidate_metrics(
                [records[row] for row in answers],
                [batch.tags[row]["response_len"] for row in answers],
                utility=self.shape_grpo_config.game,
                allocator=self.shape_grpo_config.allocator,
                allocator_options=self.shape_grpo_config.allocator_options,
            )
        )
        return batch

    def _read_records(self, batch: KVBatchMeta, final_rows: torch.Tensor) -> list[CandidateRecord]:
        """One record a row; rows that hold no answer (padding, earlier outputs) get an empty one.

        Raises:
            RuntimeError: ``on_error=raise`` and a reward function failed, or a response was not
                scored by the reward manager.
        """
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
        )
        records = []
        for row, fields in enumerate(list(data["extra_fields"])):
            if not _is_answer(batch, final_rows, row):
                records.append(CandidateRecord())
                continue
            record = _record(fields)
            if record.error is not None and self.shape_grpo_config.on_error == "raise":
                raise RuntimeError(
                    "The reward function failed and algorithm.shape_grpo.on_error=raise; "
                    f"its traceback:\n{record.error}"
                )
            records.append(record)
        return records

    def _log_rollout_data(
        self, batch: KVBatchMeta, timing_raw: dict[str, float], rollout_data_dir: str
    ) -> None:
        """Write the step's responses as verl does, with the records of their candidates."""
        if self.config.reward.reward_manager.name == REWARD_MANAGER:
            final_rows = _final_rows(batch.keys)
            records = self._read_records(batch, final_rows)
            self._records_to_write = {
                key: record.to_json() if _is_answer(batch, final_rows, row) else None
                for row, (key, record) in enumerate(zip(batch.keys, records, strict=True))
            }
        super()._log_rollout_data(batch, timing_raw, rollout_data_dir)  # type: ignore[misc]
        self._records_to_write = {}

    def _dump_generations(
        self, *, reward_extra_infos_dict: dict[str, list[Any]], **fields: Any
    ) -> None:
        # verl 0.9.1 leaves reward_extra_info out of training rollouts, not out of validation's.
        if self._records_to_write:
            records = [self._records_to_write[key] for key in reward_extra_infos_dict["uid"]]
            reward_extra_infos_dict = {**reward_extra_infos_dict, RECORD_KEY: records}
        super()._dump_generations(  # type: ignore[misc]
            reward_extra_infos_dict=reward_extra_infos_dict, **fields
        )


def _record(extra_fields: Mapping[str, Any]) -> CandidateRecord:
    info = extra_fields.get("reward_extra_info") or {}
    if RECORD_KEY not in info:
        raise RuntimeError(
            "A response came without the rewards of its candidates: its agent loop set "
            f"reward_score itself, so reward.reward_manager.name={REWARD_MANAGER} was not asked. "
            "Leave reward_score unset, or train with adv_estimator=grpo and "
            "reward.reward_manager.name=naive."
        )
    return CandidateRecord.from_json(info[RECORD_KEY])


def _final_rows(keys: list[str]) -> torch.Tensor:
    """(B,) int64: the row of the last output of each row's rollout.

    Keys are verl's ``{uid}_{session}_{output}``.
    """
    last: dict[str, tuple[int, int]] = {}
    for row, key in enumerate(keys):
        rollout, _, output = key.rpartition("_")
        last[rollout] = max(last.get(rollout, (-1, -1)), (int(output), row))
    return torch.tensor([last[key.rpartition("_")[0]][1] for key in keys])


def _is_answer(batch: KVBatchMeta, final_rows: torch.Tensor, row: int) -> bool:
    """Whether a row holds a rollout's last output, and not padding that verl added."""
    return bool(final_rows[row] == row) and not batch.tags[row].get("is_padding", False)


def _register(name: str, verl_mode: str) -> None:
    bases: tuple[type, ...] = (CandidateTrainerMixin, get_trainer_cls(verl_mode))
    if cpu.is_enabled():
        from shape_grpo.verl.cpu.worker import CPUTrainerMixin

        bases = (bases[0], CPUTrainerMixin, bases[1])
    members = {"__module__": __name__, "verl_trainer_mode": verl_mode}
    register_trainer(name)(type(f"CandidateTrainer_{verl_mode}", bases, members))


for _name, _verl_mode in TRAINER_MODES.items():
    _register(_name, _verl_mode)
