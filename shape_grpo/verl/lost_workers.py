"""Ends a run whose workers have died, where verl would wait for them for ever (verl 0.9.1).

verl's trainer waits for responses, and for vLLM to take weights, without asking whether anybody is
left to do so. A thread asks, and interrupts it. A reward worker's death is no reason to: beside
others verl goes on, and without any no response comes, and verl ends by itself; here it says why.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from shape_grpo.verl import trainers_logger

SECONDS_BETWEEN_LOOKS = 20
SECONDS_TO_ANSWER = 5
NOTHING_CAME = "no materializable trajectories"
"""In verl's words for a step of which no response came."""
GO_ON = (
    "Started again with the same command, the run goes on from its last checkpoint, if it made one "
    "(trainer.save_freq; trainer.resume_mode=auto)."
)
logger = trainers_logger(__name__)


def waited_for(trainer: Any) -> dict[str, Iterable[Any]]:
    """The Ray actors of a trainer of verl's for which it waits, under what they are called."""
    # verl 0.9.0 has no such list.
    managers: list[Any] = getattr(trainer, "_rollout_server_managers", list)()
    servers = [server for manager in managers for server in manager.server_handles]
    # A manager of one's own need not have any.
    agent_loops = getattr(getattr(trainer, "agent_loop_manager", None), "agent_loop_workers", ())
    return {"An agent loop worker": agent_loops, "An inference server": servers}


def find_dead(workers: Mapping[str, Iterable[Any]]) -> str | None:
    """Which worker died, and why in Ray's or vLLM's words; None: none is known to be dead.

    One that is busy and does not answer is not dead.

    Args:
        workers: What each is called to handles of Ray actors.
    """
    asked = {_ask(actor): name for name, actors in workers.items() for actor in actors}
    if not asked:
        return None
    answers, _ = ray.wait([*asked], num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    for answer in answers:
        try:
            ray.get(answer)
        except ray.exceptions.ActorUnavailableError:
            # Ray goes on trying to reach it.
            continue
        except ray.exceptions.RayActorError as error:
            return f"{asked[answer]} died: {' '.join(str(error).split())}"
        except ray.exceptions.RayTaskError as error:
            # Anything else says nothing of its life.
            if type(error.cause).__name__ == "EngineDeadError":
                return f"{asked[answer]} died: {error.cause!r}"
    return None


def _ask(actor: Any) -> ray.ObjectRef[Any]:
    # verl's vLLM servers live on when their engine has died; then any call of it fails at once.
    if hasattr(actor, "collective_rpc"):
        return actor.collective_rpc.remote("check_health")
    return actor.__ray_ready__.remote()


@contextmanager
def ended_where_workers_died(trainer: Any) -> Iterator[None]:
    """Raise RuntimeError in the block, whatever it waits for, once one is dead that is waited for.

    Only in a process's main thread, as verl's trainer is; elsewhere nothing is watched.
    """
    main = threading.current_thread()
    if main is not threading.main_thread():
        yield
        return
    reasons: list[str] = []
    ended = threading.Event()

    def interrupt(*_: object) -> None:
        # The one exception that Ray's calls let through from a signal.
        raise KeyboardInterrupt

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                reason = find_dead(waited_for(trainer))
            except Exception:
                logger.warning("The workers are no longer watched.", exc_info=True)
                return
            if reason and not ended.is_set():
                reasons.append(reason)
                # Again at the next look: an exception is lost where C calls Python.
                signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch, name="lost workers", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if not reasons:
            raise
        raise RuntimeError(f"{reasons[0]} verl would wait for ever. {GO_ON}") from None
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def say_why_nothing_came(buffer: Any, trainer: Any) -> None:
    """Make verl's replay buffer name a dead worker where a step has no response.

    Args:
        buffer: Its ``sample`` is replaced: its class is the user's (``trainer.v1.sampler``).
        trainer: verl's.
    """
    sample = buffer.sample

    def sample_or_say_why(*arguments: Any, **options: Any) -> Any:
        try:
            return sample(*arguments, **options)
        except RuntimeError as error:
            if NOTHING_CAME not in str(error):
                raise
            rewards = trainer.reward_loop_manager.reward_loop_worker_handles or ()
            reason = find_dead({**waited_for(trainer), "A reward worker": rewards})
            said = reason or "verl logs why as: Error in _run_prompt."
            raise RuntimeError(f"No response of this step came. {said} {GO_ON}") from error

    buffer.sample = sample_or_say_why
