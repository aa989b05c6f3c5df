"""What a spied run's notes must say, found by plain loops."""

import json
import statistics
from collections import defaultdict

import pytest
import torch

from tests.credit.oracles import all_orders


def read_updates(notes):
    """The rows that reached the actor, one list an update."""
    return [
        json.loads((notes / f"update-{k}").read_text())
        for k in range(len(list(notes.glob("update-*"))))
    ]


def worth_of_rewards(record):
    """The candidates that have rewards, as places in the record, and what a set of them is worth:
    the best reward."""
    rewards = record["rewards"]
    players = [k for k, reward in enumerate(rewards) if reward is not None]
    return players, lambda chosen: max(rewards[k] for k in chosen)


def check_advantages(updates, worth=worth_of_rewards):
    """The actor gets the advantages that the logged candidates imply, by the paper's formulas."""
    reweighted = 0
    for rows in updates:
        groups = defaultdict(list)
        for row in rows:
            row["record"] = json.loads(row["record"])
            known, value = worth(row["record"])
            assert row["score"] == pytest.approx(value(known) if known else 0.0)
            row["unknown"] = bool(row["record"]["rewards"]) and not known
            if not row["unknown"]:
                groups[row["uid"]].append(row["score"])
        for row in rows:
            scores = groups[row["uid"]]
            advantage = 0.0
            if len(scores) > 1 and not row["unknown"]:
                spread = statistics.stdev(scores) + 1e-6
                advantage = (row["score"] - statistics.mean(scores)) / spread
            expected = [advantage * keep for keep in row["mask"]]
            record = row["record"]
            scored, value = worth(record)
            for share, place in zip(all_orders(value, scored), scored, strict=True):
                weight = share * len(scored) / row["score"] if row["score"] > 0 else 1.0
                reweighted += abs(weight - 1) > 0.1 and abs(advantage) > 0.1
                for token in range(record["starts"][place], record["ends"][place]):
                    expected[token] = weight * advantage * row["mask"][token]
            assert row["advantages"] == pytest.approx(expected, abs=1e-4)
    assert reweighted > 5 * len(updates)


def check_weights(notes, syncs):
    """After every sync vLLM multiplies by the trainer's matrices, bit for bit; and they move."""
    merged = {
        "qkv_proj": ("q_proj", "k_proj", "v_proj"),
        "gate_up_proj": ("gate_proj", "up_proj"),
    }
    trained = [torch.load(notes / f"trainer-{sync}") for sync in range(syncs)]
    served = [torch.load(notes / f"vllm-{sync}") for sync in range(syncs)]
    for trainer, vllm in zip(trained, served, strict=True):
        compared = set()
        for name, matrix in vllm.items():
            last = name.rsplit(".", 1)[-1]
            parts = [name.replace(last, part) + ".weight" for part in merged.get(last, (last,))]
            if last == "lm_head" and parts[0] not in trainer:
                parts = ["model.embed_tokens.weight"]
            expected = torch.cat([trainer[part] for part in parts])
            assert matrix[: len(expected)].equal(expected), name
            compared.update(parts)
        assert compared >= set(trainer)
    moved = [not trained[0][name].equal(trained[-1][name]) for name in trained[0]]
    assert all(moved)
