"""Stop a run whose workers have died and for which verl would wait for ever (verl 0.9.1).

verl's trainer waits for responses, and for vLLM to take weights, even if its workers are dead. A
thread checks them and interrupts the trainer. A dead reward worker does not stop the run: verl goes
on with the others; if none is left, it ends without responses, and this module adds the reason.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from shape_grpo.verl import trainers_logger

SECONDS_BETWEEN_CHECKS = 20
SECONDS_TO_ANSWER = 5
NO_RESPONSE = "no materializable trajectories"
"""Part of verl's message for a step without any response."""
RESUME = (
    "The same command continues the run from its last checkpoint, if there is one "
    "(trainer.save_freq; trainer.resume_mode=auto)."
)
logger = trainers_logger(__name__)


def waited_for(trainer: Any) -> dict[str, Iterable[Any]]:
    """Return the Ray actors for which a trainer of verl's waits, by the name used in messages."""
    # verl 0.9.0 has no such list.
    managers: list[Any] = getattr(trainer, "_rollout_server_managers", list)()
    servers = [server for manager in managers for server in manager.server_handles]
    # A custom manager need not have any.
    agent_loops = getattr(getattr(trainer, "agent_loop_manager", None), "agent_loop_workers", ())
    return {"An agent loop worker": agent_loops, "An inference server": servers}


def find_dead(workers: Mapping[str, Iterable[Any]]) -> str | None:
    """Return which worker died, and Ray's or vLLM's reason; None if none is known to be dead.

    A worker that is busy and does not answer is not dead.

    Args:
        workers: Handles of Ray actors by the name used in messages.
    """
    asked = {_ask(actor): name for name, actors in workers.items() for actor in actors}
    if not asked:
        return None
    answers, _ = ray.wait([*asked], num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    for answer in answers:
        try:
            ray.get(answer)
        except ray.exceptions.ActorUnavailableError:
            # Ray is still trying to reach it.
            continue
        except ray.exceptions.RayActorError as error:
            return f"{asked[answer]} died: {' '.join(str(error).split())}"
        except ray.exceptions.RayTaskError as error:
            # No other error means that the worker is dead.
            if type(error.cause).__name__ == "EngineDeadError":
                return f"{asked[answer]} died: {error.cause!r}"
    return None


def _ask(actor: Any) -> ray.ObjectRef[Any]:
    # verl's vLLM servers outlive their engine; then every call of the engine fails at once.
    if hasattr(actor, "collective_rpc"):
        return actor.collective_rpc.remote("check_health")
    return actor.__ray_ready__.remote()


@contextmanager
def stopping_when_workers_die(trainer: Any) -> Iterator[None]:
    """Raise RuntimeError in the block, whatever it waits for, once one of these workers is dead.

    Works only in a process's main thread, where verl's trainer runs; in others it does nothing.
    """
    main = threading.current_thread()
    if main is not threading.main_thread():
        yield
        return
    reasons: list[str] = []
    ended = threading.Event()

    def interrupt(*_: object) -> None:
        # Ray's calls let no other exception of a signal handler through.
        raise KeyboardInterrupt

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_CHECKS):
            try:
                reason = find_dead(waited_for(trainer))
            except Exception:
                logger.warning("The workers are no longer watched.", exc_info=True)
                return
            if reason and not ended.is_set():
                reasons.append(reason)
                # Repeated at the next check: an exception is lost where C calls Python.
                signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch, name="lost workers", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if not reasons:
            raise
        raise RuntimeError(f"{reasons[0]} verl would wait for ever. {RESUME}") from None
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def explain_missing_responses(buffer: Any, trainer: Any) -> None:
    """Make verl's replay buffer name the dead worker if a step has no response.

    Args:
        buffer: Replay buffer whose ``sample`` is replaced; ``trainer.v1.sampler`` sets its class.
        trainer: verl's trainer.
    """
    sample = buffer.sample

    def sample_with_reason(*arguments: Any, **options: Any) -> Any:
        try:
            return sample(*arguments, **options)
        except RuntimeError as error:
            if NO_RESPONSE not in str(error):
                raise
            rewards = trainer.reward_loop_manager.reward_loop_worker_handles or ()
            reason = find_dead({**waited_for(trainer), "A reward worker": rewards})
            reason = reason or "verl's log has the reason: Error in _run_prompt."
            raise RuntimeError(f"No response of this step came. {reason} {RESUME}") from error

    buffer.sample = sample_with_reason
