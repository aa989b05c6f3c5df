"""One job of one guest: send it, receive the reply, enforce the limits of time, output, memory."""

import os
import select
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from shape_grpo.sandbox.guests import Guest
from shape_grpo.sandbox.limits import Outcome, SandboxError
from shape_grpo.sandbox.totals import SECONDS_BETWEEN_CHECKS

HEADER = struct.Struct(">cQ")
# Generous, because a busy machine starts an interpreter slowly whatever the code is.
START_SECONDS = 120.0
TOO_MUCH_MEMORY = "its processes together used more memory than the limit"


class Ended(Exception):
    """End of a run without a reply; its arguments are an `Outcome`'s status and detail."""


class Conversation:
    """The exchange with one untrusted guest about one job.

    Args:
        guest: a guest without a job.
        limit: maximum number of bytes printed, and of bytes in a reply.

    Attributes:
        asked: whether the guest has been given an answer.
    """

    def __init__(self, guest: Guest, limit: int) -> None:
        self.guest = guest
        self.limit = limit
        self.received, self.printed = bytearray(), bytearray()
        self.deadline = 0.0
        self.asked = False

    def run(self, job: bytes, seconds: float, answer: Callable[[bytes], bytes] | None) -> Outcome:
        """Run the job and end the guest.

        Raises:
            SandboxError: the guest did not start.
        """
        try:
            for pipe in (self.guest.job, self.guest.reply, self.guest.printed):
                os.set_blocking(pipe, False)
            self._await_start()
            self.guest.totals.begin()
            try:
                kind, payload = self._exchange(job, seconds, answer)
            except Ended as ended:
                kind, payload = b"", b""
                status, detail = ended.args
                over_memory = self.guest.totals.killed()
            # Before reading the rest: a detached child may hold the pipes open, or keep writing.
            self.guest.end()
            text = self._all_printed()
        finally:
            self.guest.end()
            for pipe in (self.guest.job, self.guest.reply, self.guest.printed):
                with suppress(OSError):
                    os.close(pipe)
        if kind == b"=":
            return Outcome("done", "", text, payload)
        if kind == b"x":
            return Outcome("error", payload[-4000:].decode(errors="replace"), text)
        if over_memory and status == "died":
            detail = TOO_MUCH_MEMORY
        return Outcome(status, detail, text)

    def _exchange(
        self, job: bytes, seconds: float, answer: Callable[[bytes], bytes] | None
    ) -> tuple[bytes, bytes]:
        self.deadline = time.monotonic() + seconds
        self._send(job)
        while True:
            kind, payload = self._receive_frame()
            if kind in (b"=", b"x"):
                return kind, payload
            if kind != b"?" or answer is None:
                raise Ended("died", "the code wrote into the sandbox's own pipe")
            left = self.deadline - time.monotonic()
            self.asked = True
            reply = answer(payload)
            self.deadline = time.monotonic() + left
            self._send(reply)

    def _await_start(self) -> None:
        self.deadline = time.monotonic() + START_SECONDS
        try:
            kind, _ = self._receive_frame()
        except Ended as ended:
            self.guest.end()
            raise SandboxError(
                f"the sandbox did not start ({ended.args[1]}): {self._all_printed()[-500:]}"
            ) from None
        if kind != b"+":
            raise SandboxError(f"the sandbox started with {kind!r}")

    def _receive_frame(self) -> tuple[bytes, bytes]:
        while len(self.received) < HEADER.size:
            self._read_ready()
        kind, size = HEADER.unpack_from(self.received)
        if size > self.limit:
            raise Ended("output", f"the reply has {size} bytes, the limit is {self.limit}")
        end = HEADER.size + size
        while len(self.received) < end:
            self._read_ready()
        payload = bytes(self.received[HEADER.size : end])
        del self.received[:end]
        return kind, payload

    def _read_ready(self) -> None:
        for pipe in self._wait([self.guest.reply, self.guest.printed], []):
            chunk = os.read(pipe, 1 << 20)
            if pipe == self.guest.reply:
                if not chunk:
                    raise Ended("died", "it ended without a reply")
                self.received += chunk
            elif not chunk:  # the guest has closed it
                self.guest.printed = -1
                os.close(pipe)
            else:
                self.printed += chunk
                if len(self.printed) > self.limit:
                    raise Ended("output", f"it printed more than {self.limit} bytes")

    def _send(self, payload: bytes) -> None:
        rest = memoryview(HEADER.pack(b"!", len(payload)) + payload)
        while rest:
            self._wait([], [self.guest.job])
            try:
                rest = rest[os.write(self.guest.job, rest) :]
            except BrokenPipeError:
                raise Ended("died", "it stopped listening") from None

    def _wait(self, reading: list[int], writing: list[int]) -> list[int]:
        """Return the pipes that are ready; the deadline holds even if one always is."""
        poll = select.poll()
        for pipe in reading:
            if pipe >= 0:
                poll.register(pipe, select.POLLIN)
        for pipe in writing:
            poll.register(pipe, select.POLLOUT)
        while (left := self.deadline - time.monotonic()) > 0:
            ready = poll.poll(1000 * min(left, SECONDS_BETWEEN_CHECKS))
            if self.guest.totals.exceeded():
                raise Ended("died", TOO_MUCH_MEMORY)
            if ready:
                return [pipe for pipe, _ in ready]
        raise Ended("timeout", "it did not finish in time")

    def _all_printed(self) -> str:
        with suppress(OSError):
            while len(self.printed) < self.limit and (data := os.read(self.guest.printed, 1 << 16)):
                self.printed += data
        return self.printed.decode(errors="replace")
