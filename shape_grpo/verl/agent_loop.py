"""verl's agent loop workers, which tell the reward manager of a response's turns (verl 0.9.1).

verl passes no response mask to reward workers, so what a tool wrote looks like the policy's words.
Special tokens do not tell them apart either: each chat template writes its turns another way. What
verl does pass is the ``extra_fields`` of an agent loop's output. There the last turn is written
down for the time of the scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, AgentLoopWorkerTQ

from shape_grpo.verl.checks import LAST_TURN_KEY


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


class CandidateAgentLoopWorker(AgentLoopWorkerTQ.__ray_actor_class__):  # type: ignore[name-defined]
    """Writes down the last turn of what is scored."""

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        scored = outputs[-1]
        scored.extra_fields[LAST_TURN_KEY] = last_turn(scored.response_mask)
        await super()._compute_score(outputs, kwargs)
        del scored.extra_fields[LAST_TURN_KEY]
        # Where an agent loop scores itself and gives several outputs, verl copies what is not
        # there. The trainer says what is wrong.
        scored.extra_fields.setdefault("reward_extra_info", {})


class CandidateAgentLoopManager(AgentLoopManagerTQ):
    """Starts these workers in the place of verl's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(CandidateAgentLoopWorker)
