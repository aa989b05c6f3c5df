"""Patch of verl's agent loop workers that passes a response's turns to the reward manager.

verl 0.9.1 passes no response mask to reward workers, so they cannot tell a tool's text from the
policy's. Special tokens do not help: each chat template marks turns differently. verl does pass the
``extra_fields`` of an agent loop's output, so the turns are stored there while it is scored.

`shape_grpo.plugin` loads this after verl's module in every process, and it replaces the method on
verl's class. A subclass, which ``agent_loop_manager_class`` could name, does not work: verl's
worker is a Ray actor, Ray sends classes by value, and the copy's ``super()`` then fails. The patch
can go once verl passes the mask; ``tests/contract`` fails when verl's method changes.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput, AgentLoopWorker

from shape_grpo.candidates import turns_of
from shape_grpo.verl.checks import REWARD_MANAGER, TURNS_KEY

verls_compute_score = AgentLoopWorker._compute_score


async def compute_score(
    self: AgentLoopWorker,
    outputs: list[AgentLoopOutput],
    kwargs: dict[str, Any],
) -> None:
    """Store the scored output's turns while verl's ``_compute_score`` runs."""
    if self.config.reward.reward_manager.name != REWARD_MANAGER:
        await verls_compute_score(self, outputs, kwargs)
        return
    scored = outputs[-1]
    scored.extra_fields[TURNS_KEY] = turns_of(scored.response_mask)
    await verls_compute_score(self, outputs, kwargs)
    del scored.extra_fields[TURNS_KEY]
    # verl copies this key if an agent loop scores its several outputs itself; the trainer then
    # reports the error.
    scored.extra_fields.setdefault("reward_extra_info", {})


AgentLoopWorker._compute_score = compute_score  # type: ignore[method-assign]
