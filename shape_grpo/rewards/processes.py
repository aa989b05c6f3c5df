"""A reward function in a process of its own, which can be killed."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 300.0
"""Seconds for a process to start and to import the function's file."""


class RewardTimeout(TimeoutError):
    """The reward function did not return in time."""


class RewardCrash(RuntimeError):
    """The process of the reward function ended during a call."""


class FunctionInProcess:
    """Calls a function in the main thread of a process of its own, one call at a time.

    The process starts at the first call. It is killed, with those that it started, if a call does
    not return in time; the next call starts another. A function of a file or package is imported
    there; one of ``__main__`` is sent with what it uses. An async function runs on an event loop
    that lives as long as the process.

    The pools of other packages do not fit: that of ``concurrent.futures`` is broken by a crash and
    cannot end a call that hangs, and those of multiprocessing run the user's script in each process
    before the first call.

    On Linux the kernel kills the process when the thread that started it ends, as with SIGKILL of
    this process; elsewhere it ends at the end of its call.

    Args:
        function: The function, sync or async.
        timeout: Seconds per call.
    """

    def __init__(self, function: Callable[..., Any], timeout: float) -> None:
        self.function = function
        self.timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection

    def __call__(self, **arguments: Any) -> Any:
        """Return the function's result.

        Raises:
            RewardTimeout: It did not return in time.
            RewardCrash: Its process ended.
            TypeError: The function, its arguments or its result cannot be sent.
            BaseException: What it raised, with its traceback there as the cause.
        """
        message = _pickled(arguments, "The arguments of the reward function")
        if self._process is None or self._process.poll() is not None:
            self._start()
        return self._ask(
            message, self.timeout, f"return in reward_timeout={self.timeout:g} seconds"
        )

    def stop(self) -> int | None:
        """End the process and those that it started; return its exit code."""
        if self._process is None:
            return None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._process = None
        self._connection.close()
        return code

    def _start(self) -> None:
        self.stop()
        function = _pickled(self.function, "The reward function")
        self._connection, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            arguments = [str(descriptor), str(os.getpid()), json.dumps(_files_of(function))]
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(WORKER), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        try:
            self._connection.send_bytes(pickle.dumps(sys.path))
            self._ask(function, START_SECONDS, f"start in {START_SECONDS:g} seconds")
        except BaseException:
            self.stop()
            raise

    def _ask(self, message: bytes, seconds: float, what: str) -> Any:
        """Send a message and return what comes back."""
        assert self._process is not None
        deadline = monotonic() + seconds
        try:
            self._connection.send_bytes(message)
            while not self._connection.poll(min(1.0, max(0.0, deadline - monotonic()))):
                if monotonic() >= deadline:
                    self.stop()
                    raise RewardTimeout(f"The reward function did not {what}.")
                # Another process that it forked may hold the connection open.
                if self._process.poll() is not None:
                    raise EOFError
            result, error = pickle.loads(self._connection.recv_bytes())
        except RewardTimeout:
            raise
        except (EOFError, ConnectionError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)
            code = self.stop() or 0
            names = {number: f"the signal {number.name}" for number in signal.Signals}
            how = names.get(-code, f"exit code {code}")  # type: ignore[call-overload]
            raise RewardCrash(f"The process of the reward function ended by {how}.") from error
        if error is not None:
            raise error
        return result


def _pickled(value: Any, what: str) -> bytes:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(value)
        return pickled
    except Exception as error:
        raise TypeError(
            f"{what} cannot be sent to a process, as reward_calls=processes needs it: {error}"
        ) from error


def _files_of(pickled: bytes) -> dict[str, str]:
    """Return the files of the modules that a pickle names, and that were loaded from a file."""
    texts = {text for _, text, _ in pickletools.genops(pickled) if isinstance(text, str)}
    specs = {name: getattr(sys.modules.get(name), "__spec__", None) for name in texts}
    return {
        name: str(spec.origin)
        for name, spec in specs.items()
        if spec is not None and spec.has_location
    }
