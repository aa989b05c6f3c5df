"""Process that calls one reward function: a script, so that it imports nothing but what it needs.

Its arguments are a file descriptor, the parent's process id, and a JSON object of the files of
modules that no import finds. The parent sends ``sys.path``, the function and the arguments of each
call; the process sends ``(result, error)`` for the function and for each call.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from inspect import isawaitable
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class FilesByName:
    """Finds modules by the files that the parent loaded them from."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module, as importlib asks for it."""
        return spec_from_file_location(name, self.files[name]) if name in self.files else None


def main(descriptor: int, parent: int) -> None:
    """Call the function until the parent has gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    loop = asyncio.new_event_loop()
    function = None
    try:
        sys.path[:] = pickle.loads(connection.recv_bytes())
        while True:
            message = connection.recv_bytes()
            try:
                received = pickle.loads(message)
                result = None
                if function is None:
                    function = received
                else:
                    result = function(**received)
                    if isawaitable(result):
                        result = loop.run_until_complete(_wait(result))
                    if isinstance(result, Iterator):
                        result = list(result)
                reply = _pickled(result, None)
            except BaseException as error:
                reply = _pickled(None, error)
            connection.send_bytes(reply)
    except (EOFError, OSError):
        return


async def _wait(result: Any) -> Any:
    return await result


def _pickled(result: Any, error: BaseException | None) -> bytes:
    import cloudpickle

    if error is None:
        try:
            return cloudpickle.dumps((result, None))
        except Exception as reason:
            error = TypeError(
                f"The reward function returned a {type(result).__name__}, which cannot be sent "
                f"from its process: {reason}"
            )
    try:
        reply: bytes = cloudpickle.dumps((None, ExceptionWithTraceback(error, error.__traceback__)))
        pickle.loads(reply)  # Some exceptions cannot be made again from their arguments.
        return reply
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        return pickle.dumps((None, ExceptionWithTraceback(plain, error.__traceback__)))


if __name__ in ("__main__", "__mp_main__"):
    # As __mp_main__, it is imported by processes that the function starts by multiprocessing.
    sys.meta_path.append(FilesByName(json.loads(sys.argv[3])))
if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
