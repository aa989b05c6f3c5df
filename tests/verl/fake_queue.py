"""verl's TransferQueue as a dictionary in this process."""

import numpy as np
import torch
import transfer_queue
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from shape_grpo.advantage import CandidateRecord
from shape_grpo.verl.checks import RECORD_KEY

PROMPTS, SIZE = 4, 2
"""Of a step of the trainers in ``conftest.py``, and responses to each prompt."""


class Queue:
    """Keys to tags and fields, behind the functions of `transfer_queue` that verl calls."""

    def __init__(self, monkeypatch):
        self.tags, self.fields, self.reads = {}, {}, []
        for name in ("kv_list", "kv_clear", "kv_batch_get", "kv_batch_put"):
            monkeypatch.setattr(transfer_queue, name, getattr(self, name))

    def kv_list(self, partition_id=None):
        return {"train": self.tags}

    def kv_clear(self, keys, partition_id):
        for key in keys:
            del self.tags[key]
            self.fields.pop(key, None)

    def kv_batch_get(self, keys, partition_id, select_fields):
        self.reads += [(key, name) for key in keys for name in select_fields]
        rows = [
            {name: self.fields[key][name] for name in select_fields if name in self.fields[key]}
            for key in keys
        ]
        data = list_of_dict_to_tensordict(rows)
        for name, value in data.items():
            # Equal lengths are stacked there, and nested by verl's own queue.
            if isinstance(value, torch.Tensor) and not value.is_nested:
                data[name] = torch.nested.as_nested_tensor(list(value), layout=torch.jagged)
        return data

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None):
        if fields is not None:
            for name, column in fields.items():
                for key, value in zip(keys, column.unbind(), strict=True):
                    self.fields[key][name] = value
        return KVBatchMeta(partition_id="train", keys=keys, tags=[self.tags[key] for key in keys])

    def add_group(self, uid, records, status="finished"):
        """The answers of one prompt, as an agent loop leaves them: 4 tokens, and the score."""
        self.tags[uid] = {"is_prompt": True, "status": status, "global_steps": 1}
        for session, record in enumerate(records):
            key = f"{uid}_{session}_0"
            rewards = [float(np.sum(reward)) for reward in record.known_rewards]
            score = max(rewards, default=record.floor or 0.0)
            self.tags[key] = {"status": "success", "response_len": 4}
            self.fields[key] = {
                "uid": uid,
                "prompts": torch.tensor([1]),
                "responses": torch.tensor([1, 2, 3, 4]),
                "response_mask": torch.ones(4, dtype=torch.long),
                "rm_scores": torch.tensor([0.0, 0.0, 0.0, score]),
                "data_source": "",
                "reward_model": {"ground_truth": "abc"},
                "extra_info": {},
                "extra_fields": {
                    "reward_extra_info": {"score": score, RECORD_KEY: record.to_json()}
                },
            }


def scored(*rewards, texts=None):
    """The record of a response whose candidates have these rewards; None: its function failed.

    Each is a token; the first of them, token 1, is ``word1``.
    """
    starts = list(range(len(rewards)))
    ends = [start + 1 for start in starts]
    return CandidateRecord(
        list(rewards), starts, ends,
        error="Traceback: the judge is down" if None in rewards else None,
        texts=texts or [f"word{end}" for end in ends],
    )  # fmt: skip
