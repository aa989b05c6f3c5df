"""verl's V1 trainers with candidates passed to the estimator (verl 0.9.1).

Registered as ``shape_grpo`` (on verl's "sync"), ``shape_grpo_colocate_async`` and
``shape_grpo_separate_async``; chosen with ``trainer.v1.trainer_mode``. They also train any other
``adv_estimator``, which then gets the same rewards and metrics: the fair way to run a baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import get_trainer_cls, register_trainer

from shape_grpo.advantage import GROUP_COUNTS, CandidateRecord
from shape_grpo.advantage.metrics import COUNTS
from shape_grpo.rewards import AnswerWatch, DroppedGroups, ErrorBudget, StepMetrics
from shape_grpo.verl import cpu, trainers_logger
from shape_grpo.verl.checks import (
    RECORD_KEY,
    REWARD_MANAGER,
    ROLLOUTS_ESTIMATOR,
    TRAINER_MODES,
    check_trainer_config,
)
from shape_grpo.verl.context import CandidatesInContext, candidates_in_context
from shape_grpo.verl.details import one_type_per_key
from shape_grpo.verl.floors import CommonFloor
from shape_grpo.verl.lost_workers import explain_missing_responses, stopping_when_workers_die
from shape_grpo.verl.rollout_texts import ROW, RolloutShares
from shape_grpo.verl.samples import SampleLog, choose_samples, make_samples

logger = trainers_logger(__name__)


class CandidateTrainerMixin:
    """Reads the reward manager's records and puts them into the estimator's context."""

    verl_trainer_mode: str
    config: DictConfig
    global_steps: int
    parameter_sync_step: int
    tokenizer: Any
    _records: Mapping[str, CandidateRecord] = {}
    _records_to_write: Mapping[str, CandidateRecord] = {}
    _lost_responses: bool = False
    _details_left_out: bool = False

    def __init__(self, config: DictConfig) -> None:
        options = self.shape_grpo_config = check_trainer_config(config)
        self._error_budget = ErrorBudget(
            options.allowed_error_share,
            config.data.train_batch_size * config.actor_rollout_ref.rollout.n,
            options.error_window,
        )
        self._sample_log = SampleLog(config)
        self._answers = AnswerWatch(
            config.data.max_response_length,
            "data.max_response_length",
            f"Some of them are in {self._sample_log.path}.",
            logger.warning,
        )
        group_filter = config.algorithm.get("filter_groups") or {}
        self._drops = DroppedGroups(
            config.data.train_batch_size, group_filter.get("max_num_gen_batches") or 0
        )
        self._common_floor = CommonFloor(options)
        self._step_metrics = StepMetrics(options, "actor_rollout_ref.rollout.n", logger.warning)
        has_score = config.reward.reward_manager.name == REWARD_MANAGER
        if has_score and group_filter.get("metric") == "reward":
            # The same number, which verl knew under this name before 0.9.1 (#7792) too.
            config.algorithm.filter_groups.metric = "score"
        with open_dict(config):
            # For verl's trackers, because verl's own trainer logs the same mode.
            config.trainer.v1.registered_trainer = config.trainer.v1.trainer_mode
        # verl compares this string: with any but its own "sync" it would train synchronously from
        # the asynchronous replay buffer.
        config.trainer.v1.trainer_mode = self.verl_trainer_mode
        super().__init__(config)  # type: ignore[call-arg]

    @property
    def _has_records(self) -> bool:
        name: str = self.config.reward.reward_manager.name
        return name == REWARD_MANAGER

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        """One step of verl, of one update or several."""
        self._records = {}
        self._counts: Counter[str] = Counter()
        self._curves: dict[str, list[float]] = {}
        batch = super().step(metrics, timing_raw)  # type: ignore[misc]
        # verl has merged them over the updates: counts are sums, and a name may hold "max".
        metrics.update(self._counts)
        metrics.update({name: fmean(values) for name, values in self._curves.items()})
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        compute_advantage = super()._compute_advantage  # type: ignore[misc]
        if not self._has_records:
            with candidates_in_context(self._context(batch.keys, {})):
                return compute_advantage(batch, metrics)
        sampled = ("prompts", "responses") if self._is_sampling else ()
        columns = sampled if self._rollout_shares is None else (*sampled, *ROW)
        fields = _read_answers(batch.keys, batch.tags, batch.partition_id, *columns)
        answers = {key: _record(key, of_answer) for key, of_answer in fields.items()}
        self._drops.clear()
        self._common_floor(answers, batch.partition_id)
        rollout_shares = None
        if self._rollout_shares is not None:
            groups = _prompts(batch.keys)
            rollout_shares = self._rollout_shares(batch.keys, groups, answers, fields)
        self._error_budget.spend(answers.values(), "in training")
        context = self._context(batch.keys, answers)
        context.rollout_shares = rollout_shares
        kept = [row for row, key in enumerate(batch.keys) if key in answers]
        rows = torch.tensor(kept, dtype=torch.long)
        with candidates_in_context(context):
            batch = compute_advantage(batch, metrics)
        lengths = dict(zip(batch.keys, (tag["response_len"] for tag in batch.tags), strict=True))
        measured = self._step_metrics(
            list(answers.values()),
            _prompts(list(answers)),
            [lengths[key] for key in answers],
            context.candidates.select(rows),
            context.shares.select(rows),
        )
        self._answers.see([lengths[key] for key in answers], list(answers.values()))
        counts = {name: measured[name] for name in (*COUNTS, *GROUP_COUNTS) if name in measured}
        counts |= self._count_responses(len(answers))
        metrics.update(measured | counts)
        self._counts.update(counts)
        for name in measured:
            if name.startswith("shape_grpo/reward/"):
                self._curves.setdefault(name, []).append(measured[name])
        self._records = {**self._records, **answers}
        if sampled and answers:
            self._log_samples(batch.keys, fields, answers, context)
        return batch

    def _context(
        self, keys: Sequence[str], answers: Mapping[str, CandidateRecord]
    ) -> CandidatesInContext:
        """Return the context of a batch for the estimators; keys without a record hold none."""
        records = [answers.get(key, CandidateRecord()) for key in keys]
        return CandidatesInContext.of_records(
            records, _prompts(keys), self.shape_grpo_config, _final_rows(keys)
        )

    @cached_property
    def _rollout_shares(self) -> RolloutShares | None:
        if not self.shape_grpo_config.method.utility.takes_texts:
            return None
        is_of_rollouts = self.config.algorithm.adv_estimator == ROLLOUTS_ESTIMATOR
        return RolloutShares(self.config, self.shape_grpo_config) if is_of_rollouts else None

    @property
    def _is_sampling(self) -> bool:
        """Whether this update's responses are logged: the first of steps 1, 1 + n, 1 + 2n, ..."""
        every = self.shape_grpo_config.log_samples_every
        return every > 0 and self.global_steps % every == 1 % every and not self._records

    def _log_samples(
        self,
        keys: Sequence[str],
        fields: Mapping[str, Mapping[str, Any]],
        answers: Mapping[str, CandidateRecord],
        context: CandidatesInContext,
    ) -> None:
        chosen = choose_samples(answers, self.shape_grpo_config)
        rows = [keys.index(key) for key in chosen]
        prompt, samples = make_samples(
            chosen, rows, fields, answers, context, self.shape_grpo_config, self.tokenizer
        )
        self._sample_log.write(self.global_steps, prompt, samples)

    def _count_responses(self, answers: int) -> dict[str, float]:
        """Count an update's responses, and those expected by ``rollout.n``; log the first loss."""
        prompts = self.config.data.train_batch_size // self.parameter_sync_step
        expected = prompts * self.config.actor_rollout_ref.rollout.n
        if answers < expected and not self._lost_responses:
            self._lost_responses = True
            logger.warning(
                "Step %d has %d responses of %d: of the others the rollout failed, or the reward "
                "worker died (verl's log says which: Error in _run_prompt). verl goes on without "
                "them. Further losses are seen in shape_grpo/responses and not logged.",
                self.global_steps,
                answers,
                expected,
            )
        return {"shape_grpo/responses": answers, "shape_grpo/responses_expected": expected}

    def _build_replay_buffer(self) -> Any:
        """Build verl's buffer, and count failures in the groups that it drops before a step.

        With ``filter_groups`` it replaces groups of equal rewards by others. Rewards that all fail
        are equal, and so are those of a function that does not tell answers apart: it would replace
        them for ever.
        """
        buffer = super()._build_replay_buffer()  # type: ignore[misc]
        # A custom sampler need not have it.
        if self._has_records and hasattr(buffer, "_clear_groups"):
            clear_groups = buffer._clear_groups

            def count_and_clear_groups(partition: str, uids: set[str]) -> None:
                rows = buffer.partitions[partition]
                dropped = {key: tag for key, tag in rows.items() if key.split("_")[0] in uids}
                fields = _read_answers(list(dropped), list(dropped.values()), partition)
                self._error_budget.spend(
                    (_record(key, of_answer) for key, of_answer in fields.items()),
                    "in training, counting groups that verl dropped",
                )
                # Value of each group that verl found equal; None for others.
                equal = getattr(buffer, "_dapo_classification_cache", {}).get(partition, {})
                self._drops.see(value for uid in uids if (value := equal.get(uid)) is not None)
                clear_groups(partition, uids)

            buffer._clear_groups = count_and_clear_groups
        explain_missing_responses(buffer, self)
        return buffer

    def fit(self, agent_loop_manager: Any) -> None:
        """Train as verl does, but end if a worker dies that verl would wait for."""
        with stopping_when_workers_die(self):
            super().fit(agent_loop_manager)  # type: ignore[misc]

    def _val_metrics_update(
        self,
        data_sources: Sequence[str],
        sample_uids: Sequence[str],
        reward_extra_infos_dict: dict[str, list[Any]],
        *more: Any,
        **options: Any,
    ) -> dict[str, float]:
        texts = [text for text in reward_extra_infos_dict.get(RECORD_KEY, ()) if text is not None]
        budget = ErrorBudget(self.shape_grpo_config.allowed_error_share, len(texts))
        budget.spend(map(CandidateRecord.from_json, texts), "in validation")
        # A record is no detail, and later versions of verl average what it holds.
        details = {k: of for k, of in reward_extra_infos_dict.items() if k != RECORD_KEY}
        details, left_out = one_type_per_key(details)
        if left_out:
            self._say_left_out(left_out)
        if min((x for x in details.get("acc", ()) if isinstance(x, int | float)), default=0) < 0:
            # verl counts a session that was lost as 0, which is more than those that were not.
            options["expected_acc_counts"] = None
        metrics: dict[str, float] = super()._val_metrics_update(  # type: ignore[misc]
            data_sources, sample_uids, details, *more, **options
        )
        if left_out:
            metrics["val-aux/shape_grpo/details_left_out"] = float(left_out.total())
        return metrics

    def _say_left_out(self, left_out: Mapping[str, int]) -> None:
        if not self._details_left_out:
            self._details_left_out = True
            logger.warning(
                "Details of the reward function are left out of the averages of a validation: %s. "
                "verl averages finite numbers, and a name is for numbers or for texts. This is "
                "said once; val-aux/shape_grpo/details_left_out counts them.",
                ", ".join(f"{number} of {key}" for key, number in left_out.items()),
            )

    def _log_rollout_data(
        self, batch: KVBatchMeta, timing_raw: dict[str, float], rollout_data_dir: str
    ) -> None:
        """Write the step's responses as verl does, with the records of their candidates."""
        self._records_to_write = self._records
        super()._log_rollout_data(batch, timing_raw, rollout_data_dir)  # type: ignore[misc]
        self._records_to_write = {}

    def _dump_generations(
        self, *, reward_extra_infos_dict: dict[str, list[Any]], **fields: Any
    ) -> None:
        # verl 0.9.1 leaves reward_extra_info out of training rollouts, not out of validation's.
        if self._records_to_write:
            found = map(self._records_to_write.get, reward_extra_infos_dict["uid"])
            texts = [None if record is None else record.to_json() for record in found]
            reward_extra_infos_dict = {**reward_extra_infos_dict, RECORD_KEY: texts}
        super()._dump_generations(  # type: ignore[misc]
            reward_extra_infos_dict=reward_extra_infos_dict, **fields
        )


def _final_rows(keys: Sequence[str]) -> torch.Tensor:
    """(B,) int64: the row of the last output of each row's rollout.

    Keys are verl's ``{uid}_{session}_{output}``.
    """
    last: dict[str, tuple[int, int]] = {}
    for row, key in enumerate(keys):
        rollout, _, output = key.rpartition("_")
        last[rollout] = max(last.get(rollout, (-1, -1)), (int(output), row))
    return torch.tensor([last[key.rpartition("_")[0]][1] for key in keys])


def _prompts(keys: Sequence[str]) -> list[str]:
    """Return verl's uid of the prompt of each key."""
    return [key.rsplit("_", 2)[0] for key in keys]


def _answers(keys: Sequence[str], tags: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of the rollouts' last outputs, without verl's padding rows."""
    rows = zip(keys, tags, _final_rows(keys).tolist(), strict=True)
    return [
        key
        for row, (key, tag, final) in enumerate(rows)
        if final == row and not tag.get("is_padding", False)
    ]


def _read_answers(
    keys: Sequence[str], tags: Sequence[Mapping[str, Any]], partition: str, *more: str
) -> dict[str, dict[str, Any]]:
    """Read ``extra_fields`` and ``more`` of the rollouts' answers; other rows have no record."""
    answers = _answers(keys, tags)
    if not answers:
        return {}
    names = ["extra_fields", *more]
    data = tq.kv_batch_get(keys=answers, partition_id=partition, select_fields=names)
    values = (data[name] for name in names)
    columns = [each.unbind() if isinstance(each, torch.Tensor) else list(each) for each in values]
    return {
        key: dict(zip(names, values, strict=True))
        for key, *values in zip(answers, *columns, strict=True)
    }


def _record(key: str, fields: Mapping[str, Any]) -> CandidateRecord:
    """Return the record of an answer.

    Raises:
        RuntimeError: It has none, because it was not scored by the reward manager.
    """
    record = (fields["extra_fields"].get("reward_extra_info") or {}).get(RECORD_KEY)
    if record is None:
        raise RuntimeError(
            f"Response {key} has a score and no candidates: it was not scored by the reward "
            f"manager {REWARD_MANAGER}, but by an agent loop that sets reward_score, or by a "
            "reward model on the trainer's own GPUs. Leave reward_score unset, write "
            "reward.reward_model.enable_resource_pool=true, or, for verl's own estimators, "
            "take another reward.reward_manager.name."
        )
    return CandidateRecord.from_json(record)


def _register(name: str, verl_mode: str) -> None:
    bases: tuple[type, ...] = (CandidateTrainerMixin, get_trainer_cls(verl_mode))
    if cpu.is_enabled():
        from shape_grpo.verl.cpu import worker

        separate = verl_mode == "separate_async"
        mixin = worker.CPUSeparateTrainerMixin if separate else worker.CPUTrainerMixin
        bases = (bases[0], mixin, bases[1])
    members = {"__module__": __name__, "verl_trainer_mode": verl_mode}
    register_trainer(name)(type(f"CandidateTrainer_{verl_mode}", bases, members))


for _name, _verl_mode in TRAINER_MODES.items():
    _register(_name, _verl_mode)
