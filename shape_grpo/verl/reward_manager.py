"""The reward manager ``multi_candidate``: one call of verl's ``compute_score`` a candidate."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from functools import partial
from statistics import fmean
from typing import Any

from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase
from verl.utils.reward_score import default_compute_score

from shape_grpo.advantage import CandidateRecord, Reward, stack_rewards
from shape_grpo.candidates import CandidateSet, find_candidates
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.failures import FailureLog
from shape_grpo.verl.checks import RECORD_KEY, REWARD_MANAGER


@register(REWARD_MANAGER)
class MultiCandidateRewardManager(RewardManagerBase):
    """Scores every candidate of a response, and the response by the utility of the set.

    The reward function is any ordinary verl ``compute_score``, sync or async. It is called as verl
    calls it, with one candidate's text as ``solution_str`` and two more keys in ``extra_info``:
    ``candidate_index`` (from 0) and ``num_candidates``. It returns a number, or for the utility
    ``coverage`` a list of them, or a dict with that under ``score``. A true ``fallback`` in
    the dict says that the reward is a makeshift (a judge did not answer), and is counted; its other
    keys go no further. The candidates of a response are scored concurrently, a sync function in
    threads.

    What counts as a candidate, and what a failure costs, is set in ``algorithm.shape_grpo``
    (``ShapeGRPOConfig``). If every reward of a response fails, verl is told ``floor_reward`` as its
    score, which only a stock estimator reads: ``shape_grpo`` leaves such a response out.
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
        self.max_response_length: int = config.actor_rollout_ref.rollout.response_length
        self.reward_model_arguments = (
            {}
            if reward_router_address is None
            else {
                "reward_router_address": reward_router_address,
                "reward_model_tokenizer": reward_model_tokenizer,
            }
        )
        self.failures = FailureLog(self.options.on_error)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score one rollout; of several outputs the last, as verl's own managers do.

        Returns:
            ``reward_score``, the set's utility, and ``reward_extra_info``: the same keys for every
            response, numbers for verl's validation metrics and the record of the candidates.
        """
        item = data[-1:][0]
        responses = item.batch["responses"]
        valid = int(item.batch["attention_mask"][-responses.shape[-1] :].sum())
        ids = responses[:valid].tolist()
        cut = valid >= self.max_response_length and ids[-1] != self.tokenizer.eos_token_id
        found = await self.loop.run_in_executor(
            None, partial(find_candidates, self.tokenizer, ids, self.options, cut=cut)
        )
        arguments = self._arguments(item.non_tensor_batch)
        handled = found.handled.copy()
        results = await asyncio.gather(
            *(
                self._reward(text, index, len(found.texts), arguments, handled)
                for index, text in enumerate(found.texts)
            )
        )
        record = CandidateRecord.from_results(found, results, handled)
        return {
            "reward_score": self.options.set_score(record.known_rewards),
            "reward_extra_info": self._extra_info(record, found),
        }

    def _arguments(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What verl's own managers pass to ``compute_score``, less the solution."""
        extra_info = dict(fields.get("extra_info") or {})
        extra_info.update(fields.get("tool_extra_fields") or {})
        extra_info["num_turns"] = fields.get("__num_turns__")
        extra_info["rollout_reward_scores"] = fields.get("reward_scores", {})
        return {
            "data_source": fields["data_source"],
            "ground_truth": fields["reward_model"]["ground_truth"],
            "extra_info": extra_info,
            **self.reward_model_arguments,
        }

    async def _reward(
        self,
        text: str | None,
        index: int,
        count: int,
        arguments: dict[str, Any],
        handled: Counter[str],
    ) -> Reward | str:
        """A candidate's reward, or the traceback of its reward function's failure."""
        if text is None:
            return self.options.floor
        extra_info = {
            **arguments["extra_info"],
            "candidate_index": index,
            "num_candidates": count,
        }
        arguments = {**arguments, "solution_str": text, "extra_info": extra_info}
        try:
            if inspect.iscoroutinefunction(self.compute_score):
                result = await self.compute_score(**arguments)
            else:
                result = await self.loop.run_in_executor(
                    None, lambda: self.compute_score(**arguments)
                )
            details = result if isinstance(result, dict) else {"score": result}
            reward = self.options.checked_reward(details["score"], text)
            if details.get("fallback"):
                handled["fallback"] += 1
            return reward
        except Exception as error:
            return self.failures.traceback(error)

    def _extra_info(self, record: CandidateRecord, found: CandidateSet) -> dict[str, Any]:
        utility = self.options.game
        rewards = stack_rewards([record.known_rewards], vectors=utility.takes_vectors)
        # A response without candidates is in verl's averages too.
        ranking = utility.ranking(rewards)[0].tolist() or [self.options.floor_reward]
        return {
            RECORD_KEY: record.to_json(),
            "num_candidates": len(found.texts),
            "distinct_candidates": found.num_distinct,
            "best_candidate": max(ranking),
            "mean_candidate": fmean(ranking),
            "reward_errors": record.num_errors,
        }
