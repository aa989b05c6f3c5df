"""One job with one guest: say it, hear the reply, keep the limits of time, output and memory."""

import os
import select
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from shape_grpo.sandbox.guests import Guest
from shape_grpo.sandbox.limits import Outcome, SandboxError
from shape_grpo.sandbox.totals import SECONDS_BETWEEN_LOOKS

HEADER = struct.Struct(">cQ")
# A machine under load takes long to start an interpreter; this says nothing about the code.
START_SECONDS = 120.0
TOO_MUCH_MEMORY = "its processes together used more memory than the limit"


class Ended(Exception):
    """The guest's reply came to nothing, for the reason of an `Outcome`: status, detail."""


class Conversation:
    """One job with one guest, who may say anything, at any length, or nothing.

    Args:
        guest: who has not heard of the job yet.
        most: bytes printed, and bytes of a reply.

    Attributes:
        asked: whether the guest has been given an answer.
    """

    def __init__(self, guest: Guest, most: int) -> None:
        self.guest = guest
        self.most = most
        self.heard, self.printed = bytearray(), bytearray()
        self.deadline = 0.0
        self.asked = False

    def hold(self, job: bytes, seconds: float, answer: Callable[[bytes], bytes] | None) -> Outcome:
        """Hold it to its end, and end the guest.

        Raises:
            SandboxError: the guest did not start.
        """
        try:
            for pipe in (self.guest.job, self.guest.reply, self.guest.printed):
                os.set_blocking(pipe, False)
            self._await_start()
            self.guest.totals.begin()
            try:
                kind, payload = self._talk(job, seconds, answer)
            except Ended as ended:
                kind, payload = b"", b""
                status, detail = ended.args
                over_memory = self.guest.totals.killed()
            # First: a detached child may hold the pipes open, or keep writing.
            self.guest.end()
            text = self._text()
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

    def _talk(
        self, job: bytes, seconds: float, answer: Callable[[bytes], bytes] | None
    ) -> tuple[bytes, bytes]:
        self.deadline = time.monotonic() + seconds
        self._say(job)
        while True:
            kind, payload = self._frame()
            if kind in (b"=", b"x"):
                return kind, payload
            if kind != b"?" or answer is None:
                raise Ended("died", "the code wrote into the sandbox's own pipe")
            left = self.deadline - time.monotonic()
            self.asked = True
            reply = answer(payload)
            self.deadline = time.monotonic() + left
            self._say(reply)

    def _await_start(self) -> None:
        self.deadline = time.monotonic() + START_SECONDS
        try:
            kind, _ = self._frame()
        except Ended as ended:
            self.guest.end()
            raise SandboxError(
                f"the sandbox did not start ({ended.args[1]}): {self._text()[-500:]}"
            ) from None
        if kind != b"+":
            raise SandboxError(f"the sandbox started with {kind!r}")

    def _frame(self) -> tuple[bytes, bytes]:
        while len(self.heard) < HEADER.size:
            self._listen()
        kind, size = HEADER.unpack_from(self.heard)
        if size > self.most:
            raise Ended("output", f"the reply has {size} bytes, the limit is {self.most}")
        end = HEADER.size + size
        while len(self.heard) < end:
            self._listen()
        payload = bytes(self.heard[HEADER.size : end])
        del self.heard[:end]
        return kind, payload

    def _listen(self) -> None:
        for pipe in self._wait([self.guest.reply, self.guest.printed], []):
            chunk = os.read(pipe, 1 << 20)
            if pipe == self.guest.reply:
                if not chunk:
                    raise Ended("died", "it ended without a reply")
                self.heard += chunk
            elif not chunk:  # closed: nothing more to wait for there
                self.guest.printed = -1
                os.close(pipe)
            else:
                self.printed += chunk
                if len(self.printed) > self.most:
                    raise Ended("output", f"it printed more than {self.most} bytes")

    def _say(self, payload: bytes) -> None:
        rest = memoryview(HEADER.pack(b"!", len(payload)) + payload)
        while rest:
            self._wait([], [self.guest.job])
            try:
                rest = rest[os.write(self.guest.job, rest) :]
            except BrokenPipeError:
                raise Ended("died", "it stopped listening") from None

    def _wait(self, reading: list[int], writing: list[int]) -> list[int]:
        """Those of the pipes that are ready; one that always is does not stop the clock."""
        poll = select.poll()
        for pipe in reading:
            if pipe >= 0:
                poll.register(pipe, select.POLLIN)
        for pipe in writing:
            poll.register(pipe, select.POLLOUT)
        while (left := self.deadline - time.monotonic()) > 0:
            ready = poll.poll(1000 * min(left, SECONDS_BETWEEN_LOOKS))
            if self.guest.totals.exceeded():
                raise Ended("died", TOO_MUCH_MEMORY)
            if ready:
                return [pipe for pipe, _ in ready]
        raise Ended("timeout", "it did not finish in time")

    def _text(self) -> str:
        with suppress(OSError):
            while len(self.printed) < self.most and (chunk := os.read(self.guest.printed, 1 << 16)):
                self.printed += chunk
        return self.printed.decode(errors="replace")
