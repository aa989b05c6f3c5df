"""TRL's `GRPOTrainer` with one reward per candidate and one advantage per token (TRL 1.16)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from shape_grpo.advantage import (
    CandidateBatch,
    CandidateRecord,
    token_advantages,
)
from shape_grpo.candidates import CandidateSet, find_candidates, turns_of
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Shares
from shape_grpo.rewards import AnswerWatch, ErrorBudget, StepMetrics
from shape_grpo.trl.checks import check_options
from shape_grpo.trl.rewards import CandidateRewards

logger = logging.getLogger(__name__)

UTILITY = "set_utility"
"""Name of the one reward that TRL knows of, in its logs."""


class ShapEGRPOTrainer(GRPOTrainer):
    """TRL's GRPO trainer for answers that hold a set of candidates.

    Reward functions are TRL's, sync or async. They are called with the candidates of all responses,
    or of one response (``per_response``), as completions, in threads or processes
    (``reward_calls``), no longer than ``reward_timeout``: ``prompts`` and the dataset's columns are
    repeated for each candidate, ``completion_ids`` holds its tokens, and ``candidate_index`` (from
    0) and ``num_candidates`` (of its response) are added; ``environments``, as TRL passes them, are
    repeated too. ``log_extra``, which takes one value per completion, is not passed. A candidate's
    reward is the sum of the functions, weighted by ``reward_weights``. A response's reward, in
    TRL's logs too, is the utility of its set.

    The metrics of `shape_grpo.rewards.StepMetrics` are in TRL's logs. Its tables of
    completions show TRL's own advantages of responses.

    Args:
        model: As `GRPOTrainer`.
        reward_funcs: One function, or several. A reward model goes into a function.
        args: TRL's settings; `shape_grpo.trl.checks` says which are refused.
        shape_grpo: Settings of this package. Its ``norm_by_std`` follows from ``scale_rewards``.
            The default ``epsilon`` is verl's, 1e-6; with 1e-4 the allocator ``uniform`` gives TRL's
            own advantages.
        **options: As `GRPOTrainer`.

    Raises:
        ValueError: With this setting credit would not reach the tokens.
    """

    _tag_names: ClassVar = ["trl", "shape-grpo"]
    _name = "ShapE-GRPO"
    _paper: ClassVar = {
        "title": "ShapE-GRPO: Shapley-Enhanced Reward Allocation for Multi-Candidate LLM Training",
        "id": "2603.29871",
    }
    reward_weights: Tensor
    _candidates: CandidateBatch
    _shares: Shares
    _credited: Sequence[CandidateRecord]
    _prompt_ids: list[list[int]]
    _turns: list[list[tuple[int, int]]] | None

    def __init__(
        self,
        model: Any,
        reward_funcs: Callable[..., Any] | list[Callable[..., Any]],
        args: GRPOConfig | None = None,
        *,
        shape_grpo: ShapeGRPOConfig | None = None,
        **options: Any,
    ) -> None:
        check_options(reward_funcs, args)
        given = len(reward_funcs) if isinstance(reward_funcs, list) else 1
        super().__init__(model, reward_funcs, args, **options)
        if len(self.reward_funcs) > given:
            raise ValueError(
                "environment_factory: get_reward scores a whole rollout, and credit needs a reward "
                "per candidate. Remove it, and write a reward function that takes environments: "
                "def reward(completions, environments, **columns) -> list[float]."
            )
        by_std = self.scale_rewards == "group"
        self.shape_grpo = replace(shape_grpo or ShapeGRPOConfig(), norm_by_std=by_std)
        self._reward_candidates = CandidateRewards(
            self.reward_funcs,
            self.reward_weights.tolist(),
            self.shape_grpo,
        )
        self.reward_func_names = [UTILITY]
        self.reward_weights = torch.ones(1)
        self.records: list[CandidateRecord] = []
        self._answers = AnswerWatch(
            self.max_completion_length,
            "max_completion_length",
            "GRPOConfig(log_completions=True) prints some.",
            logger.warning,
        )
        self._step_metrics = StepMetrics(
            self.shape_grpo,
            "num_generations",
            logger.warning if self.accelerator.is_main_process else logger.debug,
        )
        self._error_budgets = {
            mode: ErrorBudget(
                self.shape_grpo.allowed_error_share,
                self.args.generation_batch_size,
                self.shape_grpo.error_window,
            )
            for mode in ("train", "eval")
        }

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """Generate as TRL does, and keep how prompts end and which tokens the policy wrote."""
        output: tuple[Any, ...] = super()._generate(prompts)
        self._prompt_ids, _, masks = output[:3]
        # Tokens of tools and environments have the mask 0.
        self._turns = None if masks is None else [turns_of(mask) for mask in masks]
        return output

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        """Return the scores of the responses of all processes, (N, 1) float32, as TRL gathers them.

        Keeps the records of their candidates for the advantages.

        Raises:
            RuntimeError: More rewards failed than ``max_error_share`` allows.
        """
        records = self._score_candidates(inputs, prompts, completions, completion_ids_list)
        # Groups may be spread over processes.
        self.records = gather_object(records)
        self._reward_candidates.floor.agree(self.records)
        self._credited = self.shape_grpo.training_records(self.records, self._groups)
        lengths = gather_object([len(ids) for ids in completion_ids_list])
        where = "in training" if self._mode == "train" else "in evaluation"
        self._error_budgets[self._mode].spend(self.records, where)
        if self._mode == "train" and self.accelerator.is_main_process:
            self._answers.see(lengths, self.records)
        method = self.shape_grpo.method
        self._candidates = CandidateBatch.collate(
            self._credited, vectors=method.utility.takes_vectors
        ).to(self.accelerator.device)
        self._shares = self._candidates.compute_shares(method)
        metrics = self._step_metrics(
            self.records,
            self._groups,
            lengths,
            self._candidates,
            self._shares,
            in_training=self._mode == "train",
        )
        for name, value in metrics.items():
            self._metrics[self._mode][name].append(value)
        return self._scores(self.records).unsqueeze(1)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"]
        if "tool_mask" in output:
            mask = mask * output["tool_mask"]
        output["advantages"] = self._token_advantages(mask)
        return output

    def _score_candidates(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]],
    ) -> list[CandidateRecord]:
        """Find and score the candidates of this process's responses."""
        found = [self._find(number, ids) for number, ids in enumerate(completion_ids)]
        if self.environments is not None:
            pairs = zip(inputs, self.environments, strict=True)
            inputs = [{**row, "environments": environment} for row, environment in pairs]
        examples = zip(inputs, prompts, completions, completion_ids, strict=True)
        step = self.state.global_step if self._mode == "train" else None
        return self._reward_candidates(
            found,
            list(examples),
            f"{self.args.seed} {step}",
            trainer_state=self.state,
            log_metric=self._log_metric,
        )

    def _find(self, number: int, ids: list[int]) -> CandidateSet | Exception:
        """Find the candidates of a response; return the error of a format that failed on it."""
        cut = len(ids) >= self.max_completion_length and ids[-1] not in self.eos_token_ids
        try:
            return find_candidates(
                self._tokenizer,
                ids,
                self.shape_grpo,
                cut=cut,
                prompt_ids=self._prompt_ids[number],
                turns=None if self._turns is None else self._turns[number],
            )
        except Exception as error:
            return error

    @property
    def _groups(self) -> Tensor:
        """Group numbers (N,) of the responses of all processes."""
        size = self.num_generations if self._mode == "train" else self.num_generations_eval
        return torch.arange(len(self.records)) // size

    def _scores(self, records: Sequence[CandidateRecord]) -> Tensor:
        """Return (N,) float32 on the trainer's device; NaN where no candidate could be scored."""
        scores = torch.tensor(self.shape_grpo.scores(records))
        scores[[record.is_unknown for record in records]] = torch.nan
        return scores.to(self.accelerator.device)

    def _token_advantages(self, completion_mask: Tensor) -> Tensor:
        """Return the advantages (B, T) of this process's tokens, float32; the mask is (B, T)."""
        first = self.accelerator.process_index * len(completion_mask)
        tokens, _ = token_advantages(
            self._candidates,
            self._shares,
            self._scores(self._credited),
            completion_mask,
            self._groups,
            self.shape_grpo.method,
            rows=slice(first, first + len(completion_mask)),
        )
        return tokens

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"
