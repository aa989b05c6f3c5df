"""One floor for all reward workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import transfer_queue as tq
from tensordict import TensorDict

from shape_grpo.advantage import CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import Floor


class CommonFloor:
    """Gives responses the lowest floor of all reward workers, before advantages.

    Under ``floor_reward: lowest`` each worker knows what it has scored itself. Two empty answers of
    a group would differ, or two with the same repeat, and in the first step one could be worth more
    than a response that another worker scored.

    Args:
        config: The settings.
    """

    def __init__(self, config: ShapeGRPOConfig) -> None:
        self.floor = Floor(config)

    def __call__(self, answers: Mapping[str, CandidateRecord], partition: str) -> None:
        """Lower the floors of a batch in its records, and in the scores that verl reads.

        Args:
            answers: Key to record.
            partition: Partition of the queue.
        """
        paid = {
            k: each for k, each in answers.items() if each.floor is not None or each.floor_places
        }
        scores_of_paid = partial(self.floor.config.scores, list(paid.values()))
        before = scores_of_paid()
        self.floor.agree(list(answers.values()))
        changes = zip(paid, before, scores_of_paid(), strict=True)
        lowered = {key: new - old for key, old, new in changes if new < old}
        if not lowered:
            return
        keys = list(lowered)
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=["rm_scores"])
        rows = [row.clone() for row in data["rm_scores"].unbind()]
        for row, key in zip(rows, keys, strict=True):
            row[-1] += lowered[key]
        scores = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        fields = TensorDict({"rm_scores": scores}, batch_size=len(keys))
        tq.kv_batch_put(keys=keys, partition_id=partition, fields=fields)
