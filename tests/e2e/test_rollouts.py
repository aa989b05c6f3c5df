"""Sets of rollouts in the real pipeline: verl's own trainer and its own reward manager."""

import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from shape_grpo.verl.checks import TRAINER_MODES
from tests.credit.oracles import by_sizes
from tests.e2e.plain_loops import read_updates

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent


def test_best_of_2_in_verls_own_trainer_with_its_own_reward_manager(spied):
    assert "sync" not in TRAINER_MODES
    _, notes = spied(
        "sync",
        "algorithm.adv_estimator=shape_grpo_rollouts",
        "algorithm.shape_grpo.allocator=best_of_k",
        "+algorithm.shape_grpo.allocator_options.k=2",
        "reward.reward_manager.name=naive",
        f"reward.custom_reward_function.path={HERE}/letters_reward.py",
        "trainer.total_training_steps=2",
        "trainer.val_before_train=false",
    )
    updates = read_updates(notes)
    assert len(updates) == 2
    large = 0
    for rows in updates:
        groups = defaultdict(list)
        for row in rows:
            groups[row["uid"]].append(row)
        assert [len(group) for group in groups.values()] == [4] * 4
        for group in groups.values():
            rewards = [row["score"] for row in group]
            shares = by_sizes(lambda n: [0, 1, 0, 0])(max, rewards)
            for row, share in zip(group, shares, strict=True):
                advantage = share - statistics.mean(shares)
                advantage /= statistics.stdev(rewards) + 1e-6
                expected = [advantage * keep for keep in row["mask"]]
                assert row["advantages"] == pytest.approx(expected, abs=1e-4)
                large += abs(advantage) > 0.1
    assert large > 16
