"""Calls of a reward function that may never return."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from functools import cached_property
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any
from weakref import WeakKeyDictionary

from shape_grpo.rewards.processes import FunctionInProcess, RewardTimeout

_Outcome = tuple[Any, BaseException | None]
"""Result of a call, and the exception that it raised."""

IDLE_SECONDS = 600.0
"""Seconds after which a process that is asked nothing ends."""

PING_SECONDS = 1.0
"""Seconds within which an event loop that no call blocks answers."""

MOST_HANGING = 256
"""Threads that may be left behind. Each holds about 0.1 MB; a machine allows thousands."""

_OF_THREADS = ("main thread", "event loop in thread", "n't pickle", "not pickle", "process pool")
"""Parts of the messages of what works in processes and not in threads."""


_LEFT_BEHIND = (
    "Its thread is left behind, because no thread can be stopped; with reward_calls=processes a "
    "process that hangs is killed."
)


_BLOCKED = (
    "A call blocks the event loop of the async reward function instead of awaiting (requests, "
    "time.sleep, a computation), and the calls beside it wait with it. That loop is left behind, "
    "and later calls have another. Await an async client, or give what blocks a timeout of its "
    "own; with reward_calls=processes a process that hangs is killed."
)


class EveryThreadHangs(RewardTimeout):
    """The reward function was not called: too many calls hang."""


def background_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return an event loop that runs in a daemon thread of its own."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name=name, daemon=True).start()
    return loop


class RewardCalls:
    """Calls a sync or async function and waits for each call no longer than the timeout.

    Neither kind runs on the caller's event loop, and all threads are daemons: a function that hangs
    stops neither the loop nor the end of the process.

    - A sync function runs in at most ``threads`` threads, and its time begins when it has one. No
      thread can be stopped, so a thread that hangs is left behind and replaced. While
      ``most_hanging`` of them hang, further calls fail at once.
    - An async function runs on an event loop in its own thread, all its calls at once. It is
      cancelled at its timeout, which includes time that it spends in its own queues. If it blocks
      its loop instead of awaiting, the calls beside it time out too, and that loop is left behind
      with its thread: later calls have another.
    - A sync function may return an awaitable, as a decorated async function or an object with an
      async ``__call__`` does. It is awaited on that event loop, in the time that is left.
    - With ``processes`` each thread hands its calls to a process (`FunctionInProcess`): no call
      outlives its timeout, and an async function has one call per process at once.

    Args:
        function: The reward function.
        timeout: Seconds per call.
        threads: Number of threads; None: that of asyncio's default executor, or one process per CPU
            core.
        processes: Whether each thread has a process, where the function is called.
        most_hanging: Number of threads that may be left behind, beside ``threads``; and of event
            loops.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        timeout: float,
        threads: int | None = None,
        *,
        processes: bool = False,
        most_hanging: int = MOST_HANGING,
    ) -> None:
        self.function = function
        self.timeout = timeout
        self.processes = processes
        self.most_hanging = most_hanging
        cores = os.cpu_count() or 1
        self.threads = threads or (cores if processes else min(32, cores + 4))
        self._is_async = inspect.iscoroutinefunction(function) and not processes
        # A semaphore belongs to the event loop that first waited for it.
        self._free_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )
        self._calls: SimpleQueue[tuple[Future[_Outcome], dict[str, Any]]] = SimpleQueue()
        self._hanging: set[Future[_Outcome]] = set()
        self._num_blocked_loops = 0
        self._num_threads = 0
        self._lock = Lock()

    async def __call__(self, **arguments: Any) -> Any:
        """Return the function's result.

        Raises:
            RewardTimeout: It did not return in time, or was not called because too many calls hang.
            RewardCrash: Its process ended.
            RuntimeError: It raised an exception that would end this process, such as
                ``SystemExit``.
            Exception: Any other exception that it raised.
        """
        loop = asyncio.get_running_loop()
        if self._is_async:
            return await self._awaited(self.function(**arguments), loop.time() + self.timeout)
        async with self._free_threads.setdefault(loop, asyncio.Semaphore(self.threads)):
            if len(self._hanging) >= self.most_hanging:
                raise EveryThreadHangs(
                    f"{len(self._hanging)} calls of the reward function did not return in "
                    f"reward_timeout={self.timeout:g} seconds and hold their threads; no further "
                    "candidate is scored until one of them returns. Give what the function waits "
                    "for (a request, a lock, a process) a timeout of its own, or write "
                    "reward_calls=processes: a process that hangs is killed."
                )
            # A process is killed at its timeout, which begins when it has started.
            deadline = math.inf if self.processes else loop.time() + self.timeout
            result = await self._result(call := self._start(arguments), deadline, call)
        return await self._awaited(result, deadline) if inspect.isawaitable(result) else result

    async def _awaited(self, result: Awaitable[Any], deadline: float) -> Any:
        loop = self._own_loop
        started = asyncio.run_coroutine_threadsafe(_outcome_of(result), loop)
        try:
            return await self._result(started, deadline)
        except RewardTimeout as error:
            if await _answers(loop):
                raise
            self._leave_loop(loop)
            raise RewardTimeout(f"{error} {_BLOCKED}") from None

    def _leave_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            # The calls beside the one that blocks come here too.
            if self._own_loop is loop and self._num_blocked_loops < self.most_hanging:
                self._num_blocked_loops += 1
                del self._own_loop

    async def _result(
        self, started: Future[_Outcome], deadline: float, call: Future[_Outcome] | None = None
    ) -> Any:
        waiting = asyncio.wrap_future(started)
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait({waiting}, timeout=left if left < math.inf else None)
        if not done:
            waiting.cancel()
            if call is not None:
                self._leave_behind(call)
            raise RewardTimeout(
                f"The reward function did not return in reward_timeout={self.timeout:g} seconds."
                + ("" if call is None else f" {_LEFT_BEHIND}")
            )
        result, error = waiting.result()
        if error is None:
            return result
        if isinstance(error, Exception):
            if not self.processes and any(part in str(error) for part in _OF_THREADS):
                error.add_note(
                    "The function is called in a thread: reward_calls=processes calls it in the "
                    "main thread of a process of its own."
                )
            raise error
        raise RuntimeError(f"The reward function raised {type(error).__name__}.") from error

    def _leave_behind(self, call: Future[_Outcome]) -> None:
        self._hanging.add(call)
        if call.done():
            self._hanging.discard(call)

    def _start(self, arguments: dict[str, Any]) -> Future[_Outcome]:
        call: Future[_Outcome] = Future()
        # From here on it cannot be cancelled.
        call.set_running_or_notify_cancel()
        self._calls.put((call, arguments))
        with self._lock:
            if self._num_threads - len(self._hanging) < self.threads:
                self._num_threads += 1
                Thread(target=self._work, name="reward function", daemon=True).start()
        return call

    def _work(self) -> None:
        process = FunctionInProcess(self.function, self.timeout) if self.processes else None
        while True:
            try:
                call, arguments = self._calls.get(timeout=IDLE_SECONDS if process else None)
            except Empty:
                assert process is not None
                process.stop()
                continue
            call.set_result(_outcome(process or self.function, arguments))
            self._hanging.discard(call)
            del call, arguments
            with self._lock:
                # After a late return there is a thread too many.
                if self._num_threads - len(self._hanging) > self.threads:
                    self._num_threads -= 1
                    return

    @cached_property
    def _own_loop(self) -> asyncio.AbstractEventLoop:
        return background_loop("async reward function")


async def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether an event loop of another thread runs what it is given."""
    ping = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
    done, _ = await asyncio.wait({asyncio.wrap_future(ping)}, timeout=PING_SECONDS)
    return bool(done)


def _outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> _Outcome:
    try:
        return _read(function(**arguments)), None
    except BaseException as error:
        return None, error


async def _outcome_of(result: Awaitable[Any]) -> _Outcome:
    try:
        return _read(await result), None
    except BaseException as error:
        return None, error


def _read(result: Any) -> Any:
    """Return a result; of a generator or another iterator the list, whose code has to run too."""
    return list(result) if isinstance(result, Iterator) else result
