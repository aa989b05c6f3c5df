"""Patch of verl's agent loop workers that passes a response's last turn to the reward manager.

verl 0.9.1 passes no response mask to reward workers, so they cannot tell a tool's text from the
policy's. Special tokens do not help: each chat template marks turns differently. verl does pass the
``extra_fields`` of an agent loop's output, so the last turn is stored there while it is scored.

`shape_grpo.plugin` loads this after verl's module in every process, and it replaces the method on
verl's class. A subclass, which ``agent_loop_manager_class`` could name, does not work: verl's
worker is a Ray actor, Ray sends classes by value, and the copy's ``super()`` then fails. The patch
can go once verl passes the mask; ``tests/contract`` fails when verl's method changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput, AgentLoopWorker

from shape_grpo.verl.checks import LAST_TURN_KEY, REWARD_MANAGER

verls_compute_score = AgentLoopWorker._compute_score


def last_turn(response_mask: Sequence[int]) -> tuple[int, int]:
    """Return ``(start, end)`` of the last run of tokens that the policy wrote; ``(0, 0)`` if none.

    Args:
        response_mask: (T,) 1 for tokens of the policy, 0 for tokens of a tool or the template.
    """
    end = len(response_mask)
    while end and not response_mask[end - 1]:
        end -= 1
    start = end
    while start and response_mask[start - 1]:
        start -= 1
    return start, end


async def compute_score(
    self: AgentLoopWorker,
    outputs: list[AgentLoopOutput],
    kwargs: dict[str, Any],
) -> None:
    """Store the scored output's last turn while verl's ``_compute_score`` runs."""
    if self.config.reward.reward_manager.name != REWARD_MANAGER:
        await verls_compute_score(self, outputs, kwargs)
        return
    scored = outputs[-1]
    scored.extra_fields[LAST_TURN_KEY] = last_turn(scored.response_mask)
    await verls_compute_score(self, outputs, kwargs)
    del scored.extra_fields[LAST_TURN_KEY]
    # verl copies this key if an agent loop scores its several outputs itself; the trainer then
    # reports the error.
    scored.extra_fields.setdefault("reward_extra_info", {})


AgentLoopWorker._compute_score = compute_score  # type: ignore[method-assign]
