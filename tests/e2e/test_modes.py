"""The real pipeline in verl's other modes, and a run whose rewards all fail."""

from pathlib import Path

import pytest
from rich.console import Console

from recipe.shape_grpo.runs.launch import TrainingFailed, launch

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
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
