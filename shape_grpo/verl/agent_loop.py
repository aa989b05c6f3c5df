"""Patch of verl's agent loop workers that passes a response's turns and step to the reward manager.

verl 0.9.1 passes no response mask to reward workers, so they cannot tell a tool's text from the
policy's. Special tokens do not help: each chat template marks turns differently. verl does pass the
``extra_fields`` of an agent loop's output, so the turns are stored there while it is scored; and
the step, which is none in a validation, so that its random draws are those of every validation.

`shape_grpo.plugin` loads this after verl's module in every process, and it replaces the method on
verl's class. A subclass, which ``agent_loop_manager_class`` could name, does not work: verl's
worker is a Ray actor, Ray sends classes by value, and the copy's ``super()`` then fails. The patch
can go once verl passes the mask; ``tests/contract`` fails when verl's method changes.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput, AgentLoopWorker

from shape_grpo.candidates import turns_of
from shape_grpo.verl.checks import REWARD_MANAGER, STEP_KEY, TURNS_KEY

verls_compute_score = AgentLoopWorker._compute_score
verls_run_agent_loop = AgentLoopWorker._run_agent_loop

_validates: ContextVar[bool] = ContextVar("validates", default=False)
"""Whether the response of this asyncio task is of a validation."""


async def run_agent_loop(
    self: AgentLoopWorker, sampling_params: Any, trajectory: dict[str, Any], **kwargs: Any
) -> Any:
    """Note for `compute_score` whether this is a validation; verl does not tell it."""
    _validates.set(trajectory["validate"])
    return await verls_run_agent_loop(self, sampling_params, trajectory, **kwargs)


async def compute_score(
    self: AgentLoopWorker,
    outputs: list[AgentLoopOutput],
    kwargs: dict[str, Any],
) -> None:
    """Store the scored output's turns and step while verl's ``_compute_score`` runs."""
    if self.config.reward.reward_manager.name != REWARD_MANAGER:
        await verls_compute_score(self, outputs, kwargs)
        return
    scored = outputs[-1]
    scored.extra_fields[TURNS_KEY] = turns_of(scored.response_mask)
    scored.extra_fields[STEP_KEY] = None if _validates.get() else kwargs.get("global_steps")
    await verls_compute_score(self, outputs, kwargs)
    del scored.extra_fields[TURNS_KEY], scored.extra_fields[STEP_KEY]
    # verl copies this key if an agent loop scores its several outputs itself; the trainer then
    # reports the error.
    scored.extra_fields.setdefault("reward_extra_info", {})


AgentLoopWorker._compute_score = compute_score  # type: ignore[method-assign]
AgentLoopWorker._run_agent_loop = run_agent_loop  # type: ignore[method-assign]
