"""The real pipeline in verl's other modes, and a run whose rewards all fail."""

from pathlib import Path

import pytest
from plain_loops import check_advantages, check_weights, read_updates
from rich.console import Console

from recipe.shape_grpo.runs.folder import read_metrics
from recipe.shape_grpo.runs.launch import TrainingFailed, launch

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
# A server of its own, on a second device in Ray's book-keeping, and two updates a step.
SEPARATE = [
    "ray_kwargs.ray_init.num_gpus=2",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=1",
    "actor_rollout_ref.rollout.checkpoint_engine.backend=tcp_store",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "trainer.v1.separate_async.parameter_sync_step=2",
]
QUIET = Console(quiet=True)


def test_filter_groups_ends_where_every_reward_fails(overrides, tmp_path):
    """Without the budget it drops every group and asks for others, for ever."""
    broken = [
        *overrides,
        f"reward.custom_reward_function.path={HERE}/broken_reward.py",
        "algorithm.filter_groups.enable=true",
        "algorithm.filter_groups.metric=reward",
        "trainer.val_before_train=false",
    ]
    reason = r"(?s)max_error_share=0\.5.*ConnectionError: the judge is down"
    with pytest.raises(TrainingFailed, match=reason):
        launch("broken", broken, tmp_path / "run", steps=1, console=QUIET)


@pytest.mark.parametrize(
    ("mode", "more", "updates_a_step"),
    [
        pytest.param("shape_grpo_colocate_async", [], 1, id="colocate_async"),
        pytest.param("shape_grpo_separate_async", SEPARATE, 2, id="separate_async"),
    ],
)
def test_a_mode_trains_with_the_advantages_of_the_paper(spied, mode, more, updates_a_step):
    """And vLLM, which writes on while the policy changes, gets its weights after every step."""
    steps = 2
    run, notes = spied(
        mode, *more, f"trainer.total_training_steps={steps}", "trainer.val_before_train=false"
    )
    updates = read_updates(notes)
    assert len(updates) == steps * updates_a_step
    check_advantages(updates)
    check_weights(notes, steps + 1)
    metrics = read_metrics(run)
    for step in (1, 2):
        assert (
            metrics[step]["shape_grpo/responses"] == metrics[step]["shape_grpo/responses_expected"]
        )
