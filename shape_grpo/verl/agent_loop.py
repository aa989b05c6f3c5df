"""verl's agent loop workers tell the reward manager of a response's turns (verl 0.9.1): a patch.

verl passes no response mask to reward workers, so what a tool wrote looks like the policy's words.
Special tokens do not tell them apart either: each chat template writes its turns another way. What
verl does pass is the ``extra_fields`` of an agent loop's output. There the last turn is written
down for the time of the scoring.

The method is replaced on verl's class, after its module, in every process (`shape_grpo.plugin`). A
worker of our own, which ``agent_loop_manager_class`` could name, cannot be had by a subclass:
verl's is a Ray actor, Ray sends classes by value, and the copy's ``super()`` then fails. It can go
once verl passes the mask; ``tests/contract`` says when its method changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput, AgentLoopWorker

from shape_grpo.verl.checks import LAST_TURN_KEY, REWARD_MANAGER

verls_compute_score = AgentLoopWorker._compute_score


def last_turn(response_mask: Sequence[int]) -> tuple[int, int]:
    """``(start, end)`` of the last tokens in a row that the policy wrote; ``(0, 0)``: none.

    Args:
        response_mask: (T,) 1 where the policy wrote the token, 0 where a tool or the template did.
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
    """Verl's ``_compute_score``, which writes down the last turn of what is scored."""
    if self.config.reward.reward_manager.name != REWARD_MANAGER:
        await verls_compute_score(self, outputs, kwargs)
        return
    scored = outputs[-1]
    scored.extra_fields[LAST_TURN_KEY] = last_turn(scored.response_mask)
    await verls_compute_score(self, outputs, kwargs)
    del scored.extra_fields[LAST_TURN_KEY]
    # Where an agent loop scores itself and gives several outputs, verl copies what is not there.
    # The trainer says what is wrong.
    scored.extra_fields.setdefault("reward_extra_info", {})


AgentLoopWorker._compute_score = compute_score  # type: ignore[method-assign]
