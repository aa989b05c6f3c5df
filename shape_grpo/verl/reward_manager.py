"""The reward manager ``multi_candidate``: one call of verl's ``compute_score`` per candidate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase
from verl.utils.reward_score import default_compute_score

from shape_grpo.advantage import CandidateRecord, stack_rewards
from shape_grpo.candidates import end_of_turn_ids, find_candidates
from shape_grpo.config import LARGEST, ShapeGRPOConfig
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    ScoredSet,
    candidate_arguments,
    load_reward_function,
    reward_kwargs,
)
from shape_grpo.verl.checks import RECORD_KEY, REWARD_MANAGER, STEP_KEY, TURNS_KEY


@register(REWARD_MANAGER)
class MultiCandidateRewardManager(RewardManagerBase):
    """Scores every candidate of a response, and the response by the utility of the set.

    The reward function is any ordinary verl ``compute_score``, sync or async. It is called as verl
    calls it, with one candidate's text as ``solution_str`` and two more keys in ``extra_info``:
    ``candidate_index`` (from 0) and ``num_candidates``. It returns a number, or for utilities
    of vectors a list of numbers, or a dict with either under ``score``. A true ``fallback`` in
    the dict says that the reward is a fallback (a judge did not answer), and is counted. The
    candidates of a response are scored concurrently (`shape_grpo.rewards.RewardFunction`).

    The dict's other numbers and strings travel on in ``reward_extra_info``, as from verl's
    ``naive``. They are those of the best candidate, the one that a user takes: a mean would
    describe no answer at all. Where a response has none, their keys have the value None, from the
    first candidate on that this worker has scored.

    verl ends a run where one response lacks the key of ``filter_groups.metric``, so that key, and
    ``acc``, are there where the best candidate has no such number: the lowest that was seen of the
    same data source and at most 0, or, if none was seen, the response's score. ``score`` is always
    the response's. Keys of this manager win over the function's, and ``reward`` is left out,
    because verl's validation writes it itself.

    A dict's ``identity`` says which candidates of a response are the same: the rule ``duplicate``
    goes by it.

    Only the policy's turns hold candidates (``turns``: its last one, or all); a tool's list is no
    answer. Reward workers see no response mask, so the agent loop worker says where the turns are
    (`shape_grpo.verl.agent_loop`).

    ``algorithm.shape_grpo`` (``ShapeGRPOConfig``) says what counts as a candidate, and what a
    failure costs. If every reward of a response fails, verl gets the floor (`Floor`) as its score,
    which only a stock estimator reads: ``shape_grpo`` leaves such a response out.
    """

    tokenizer: Any
    compute_score: Any

    def __init__(
        self,
        config: DictConfig,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        self.compute_score = compute_score or default_compute_score
        self.options = ShapeGRPOConfig.from_algorithm(config.algorithm)
        self.seed = (config.get("data") or {}).get("seed")
        rollout = config.actor_rollout_ref.rollout
        self.max_response_length: int = rollout.response_length
        # vLLM ends a response at either limit of prompt and response in all.
        lengths = [rollout.get("max_model_len"), rollout.prompt_length + rollout.response_length]
        self.max_length: int = min(length for length in lengths if length is not None)
        models = (getattr(tokenizer, "name_or_path", None), config.actor_rollout_ref.model.path)
        self.end_ids = end_of_turn_ids(tokenizer, models)
        self.filter_metric: str | None = (config.algorithm.get("filter_groups") or {}).get("metric")
        self.reward_model_arguments = (
            {}
            if reward_router_address is None
            else {
                "reward_router_address": reward_router_address,
                "reward_model_tokenizer": reward_model_tokenizer,
            }
        )
        function, keywords = self.compute_score, self.reward_model_arguments
        threads = None
        if self.options.reward_calls == "processes":
            # Each reward worker has its share of the CPUs.
            threads = max(1, (os.cpu_count() or 1) // config.reward.num_workers)
            if loaded := load_reward_function(config):
                # Without verl's wrapper, which would import verl in each process.
                function, keywords = loaded, {**keywords, **reward_kwargs(config)}
        # By data source and key: each has a reward function's branch, and curves, of its own.
        self._lowest: dict[tuple[str, str], float] = {}
        self._names = dict.fromkeys(self.options.reward_weights)
        self.reward_function = RewardFunction(function, self.options, keywords, threads=threads)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score one rollout; of several outputs the last, as verl's own managers do.

        Returns:
            ``reward_score``, the set's utility, and ``reward_extra_info``: numbers for verl's
            validation metrics and the record of the candidates.

        Raises:
            RuntimeError: A response has several turns, and it is unknown where they are.
        """
        item = data[-1]
        fields = item.non_tensor_batch
        length = _response_length(item)
        ids = item.batch["responses"][:length].tolist()
        find = partial(
            find_candidates,
            self.tokenizer,
            ids,
            self.options,
            cut=length > 0 and self._is_cut(item, ids),
            prompt_ids=_prompt_ids(item, length),
            turns=self._turns(fields, length),
        )
        try:
            found = await self.loop.run_in_executor(None, find)
        except Exception as error:  # of a format, on a text that a policy wrote
            record, scored = self.reward_function.failures.unread(error), ScoredSet()
        else:
            step = (fields.get("tool_extra_fields") or {}).get(STEP_KEY)
            # Not verl's uid, which is random.
            draw = f"{self.seed} {step} {_prompt_ids(item, length)}"
            arguments = partial(self._arguments, fields)
            scored = await self.reward_function.score_set(found, arguments, draw)
            record = scored.record
        self.reward_function.floor.settle([record])
        score = self.options.score(record)
        return {
            "reward_score": score,
            "reward_extra_info": self._extra_info(
                record, scored, score, str(fields.get("data_source"))
            ),
        }

    def _is_cut(self, item: Any, ids: list[int]) -> bool:
        """Return whether the response ended at its length limit, or at that of prompt and response.

        The mask's sum is the length of the prompt with the response.
        """
        full = len(ids) >= self.max_response_length
        full |= int(item.batch["attention_mask"].sum()) >= self.max_length
        return full and ids[-1] not in self.end_ids

    def _turns(self, fields: dict[str, Any], length: int) -> list[tuple[int, int]]:
        """Return ``(start, end)`` of the tokens of each of the policy's turns."""
        turns = (fields.get("tool_extra_fields") or {}).get(TURNS_KEY)
        if turns is not None:
            return [(start, end) for start, end in turns]
        # The prompt and one answer are two turns.
        if (fields.get("__num_turns__") or 2) > 2:
            raise RuntimeError(
                f"A response of several turns came without extra_fields[{TURNS_KEY!r}], so a "
                "tool's words could be taken for the policy's. Agent loop workers of your own must "
                "inherit _compute_score from verl's AgentLoopWorker."
            )
        return [(0, length)]

    def _arguments(
        self, fields: dict[str, Any], text: str, index: int, count: int
    ) -> dict[str, Any]:
        """Return the arguments of the reward function for one candidate."""
        tool_fields = dict(fields.get("tool_extra_fields") or {})
        for key in (TURNS_KEY, STEP_KEY):
            tool_fields.pop(key, None)
        return candidate_arguments(
            fields,
            text,
            index,
            count,
            turns=fields.get("__num_turns__"),
            tool_fields=tool_fields,
            rollout_scores=fields.get("reward_scores"),
        )

    def _extra_info(
        self,
        record: CandidateRecord,
        scored: ScoredSet,
        score: float,
        source: str,
    ) -> dict[str, Any]:
        """Return verl's ``reward_extra_info`` of a response."""
        utility = self.options.method.utility
        details = [each.details for each in scored.results if not isinstance(each.reward, Failure)]
        rewards = stack_rewards([record.known_rewards], vectors=utility.takes_vectors)
        ranking = utility.ranking(rewards)[0].tolist()
        beside = _numbers_and_strings(details[int(np.argmax(ranking))]) if ranking else {}
        # verl calculates with these, and needs them of each response.
        needed: dict[str, Any] = {}
        for key in dict.fromkeys(("acc", self.filter_metric or "acc")):
            needed[key] = beside.pop(key, None)
            place = source, key
            if isinstance(needed[key], int | float):
                self._lowest[place] = min(self._lowest.get(place, 0.0), float(needed[key]))
            else:
                needed[key] = self._lowest.get(place, score)
        # verl makes columns of these, so a response without a best candidate has the same keys.
        self._names.update(dict.fromkeys(beside))
        # A response without candidates is in verl's averages too.
        ranking = ranking or [score]
        info = {
            **self._names,
            **needed,
            **beside,
            "score": score,
            RECORD_KEY: record.to_json(),
            "num_candidates": len(scored.results),
            "distinct_candidates": scored.found.num_distinct,
            "best_candidate": max(ranking),
            "mean_candidate": fmean(ranking),
            "reward_errors": record.num_errors,
        }
        for key in ("reward", "identity"):
            info.pop(key, None)
        return info


def _prompt_ids(item: Any, response_length: int) -> list[int]:
    """Return the tokens of a prompt, which verl pads on the left, or on the right for scoring."""
    prompts, mask = item.batch["prompts"], item.batch["attention_mask"].bool()
    length = int(mask.sum()) - response_length
    own = mask[: len(prompts)]
    ids: list[int] = (prompts[own] if int(own.sum()) == length else prompts[:length]).tolist()
    return ids


def _response_length(item: Any) -> int:
    """Return the number of tokens of a response.

    verl pads whole sequences on the right where there are several outputs, and the mask's tail is
    then not the response's. Without verl's own count there is one output.
    """
    length = item.non_tensor_batch.get("response_len")
    if length is None:
        length = item.batch["attention_mask"][-item.batch["responses"].shape[-1] :].sum()
    return int(length)


def _numbers_and_strings(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what verl's metrics and files can hold, without types of NumPy and torch."""
    plain = {
        key: value.item()
        if isinstance(value, np.generic | np.ndarray | torch.Tensor) and value.ndim == 0
        else value
        for key, value in details.items()
    }
    return {
        key: value
        for key, value in plain.items()
        if isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST)
    }
