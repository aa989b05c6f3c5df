"""Reward of candidates under the rule ``floor``, and score of responses without candidates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from shape_grpo.advantage import CandidateRecord, Reward
from shape_grpo.config import ShapeGRPOConfig


class Floor:
    """The floor reward: a fixed number, or the lowest that was seen so far, and at most 0.

    A utility may make a set worth less than each of its candidates (``sum`` of negative rewards),
    so the lowest score of a set is remembered beside the lowest reward.

    Attributes:
        reward: Reward under the rule ``floor``. Where the utility takes vectors, an empty one, or
            under ``lowest`` the lowest of each component if one was below 0.
        score: Score of a response for which no reward was returned.

    Args:
        config: Says which, and what a set is worth.
    """

    def __init__(self, config: ShapeGRPOConfig) -> None:
        self.config = config
        self.score = config.fixed_floor or 0.0
        self.reward: Reward = [] if config.method.utility.takes_vectors else self.score

    def see(self, rewards: Iterable[Reward]) -> None:
        """Remember rewards that the reward function returned."""
        if self.config.fixed_floor is not None:
            return
        for reward in rewards:
            if isinstance(reward, int | float):
                self.reward = min(self.reward, reward)
                self.score = min(self.score, reward)
            elif min(reward, default=0.0) < 0:
                pairs = zip_longest(self.reward, reward, fillvalue=0.0)  # type: ignore[arg-type]
                self.reward = [min(0.0, *pair) for pair in pairs]

    def settle(self, records: Sequence[CandidateRecord]) -> None:
        """Remember the scores of responses, and give those without a returned reward the floor.

        A set of candidates under the rule ``floor`` alone is one of these: a utility such as
        ``sum`` would make it worth more than sets that the reward function scored.
        """
        without = [not each.returned_rewards for each in records]
        pairs = list(zip(records, without, strict=True))
        if self.config.fixed_floor is None:
            scores = self.config.scores([each for each, is_without in pairs if not is_without])
            self.score = min([self.score, *scores])
        for record, is_without in pairs:
            if is_without:
                record.floor = self.score

    def agree(self, records: Sequence[CandidateRecord]) -> None:
        """Settle responses that several processes scored, each with a floor of its own.

        A utility that reads texts has split its sets already, and their rewards stay.
        """
        if self.config.fixed_floor is not None:
            return
        for record in records:
            self.see(record.known_rewards)
            self.score = min(self.score, record.floor or 0.0)
        # Where nothing below 0 was seen, all floors are the same.
        if self.reward and not self.config.method.utility.takes_texts:
            for record in records:
                for place in record.floor_places:
                    record.rewards[place] = self.reward
        self.settle(records)
