"""What is added to verl's replay buffer, where its trainer waits for responses (verl 0.9.1).

verl waits without asking whether anybody is left to write them. Methods are replaced on the one
buffer of a trainer, because its class is the user's to choose (``trainer.v1.sampler``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

Workers = Callable[[], Sequence[Any]]
"""Gives handles of Ray actors, which are there only once the trainer waits."""

NOTHING_CAME = "no materializable trajectories"
"""In verl's words for a step of which no response came."""
SECONDS_TO_ANSWER = 5
GO_ON = (
    "Started again with the same command, the run goes on from its last checkpoint, if it made one "
    "(trainer.save_freq; trainer.resume_mode=auto)."
)


class Pings:
    """Asks actors whether they are alive, without waiting for those that are busy."""

    def __init__(self) -> None:
        self._unanswered: dict[Any, ray.ObjectRef[Any]] = {}

    def find_dead(self, actors: Sequence[Any], seconds: float = 0) -> str | None:
        """Why the first dead actor died, in Ray's words; None: none is known to be dead.

        Args:
            actors: Handles of Ray actors.
            seconds: How long each may take to answer. Without any, a death is known at the next
                call.
        """
        for actor in actors:
            ping = self._unanswered.pop(actor, None) or actor.__ray_ready__.remote()
            if not ray.wait([ping], timeout=seconds)[0]:
                self._unanswered[actor] = ping
                continue
            try:
                ray.get(ping)
            except ray.exceptions.RayActorError as error:
                return " ".join(str(error).split())
        return None


def end_where_workers_died(buffer: Any, agent_loops: Workers, others: Workers) -> None:
    """Make a buffer end a wait for what will never come, and say why nothing came.

    Args:
        buffer: verl's replay buffer. Of its methods ``_wait_for_next_poll``, if it has it, and
            ``sample`` then raise a RuntimeError.
        agent_loops: The actors that write responses.
        others: The actors without which a response has no text, or no reward.
    """
    pings = Pings()
    if hasattr(buffer, "_wait_for_next_poll"):
        wait = buffer._wait_for_next_poll

        def wait_while_they_live(*arguments: Any) -> Any:
            if reason := pings.find_dead(agent_loops()):
                raise RuntimeError(
                    "An agent loop worker died, and verl would wait for its responses for ever. "
                    f"{GO_ON} Ray says: {reason}"
                )
            return wait(*arguments)

        buffer._wait_for_next_poll = wait_while_they_live
    sample = buffer.sample

    def sample_or_say_why_not(*arguments: Any, **options: Any) -> Any:
        try:
            return sample(*arguments, **options)
        except RuntimeError as error:
            if NOTHING_CAME not in str(error):
                raise
            reason = pings.find_dead(others(), seconds=SECONDS_TO_ANSWER)
            said = f"Ray says: {reason}" if reason else "verl logs why as: Error in _run_prompt"
            raise RuntimeError(f"No response of this step came. {GO_ON} {said}") from error

    buffer.sample = sample_or_say_why_not
