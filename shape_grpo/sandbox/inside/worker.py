"""The process that runs untrusted code: it reads one job from descriptor 0, and replies to 1.

A reply proves nothing, because the code can write to the same descriptor.
"""

import contextlib
import json
import os
import pickle
import struct
import sys
import traceback
from pathlib import Path

import confine
import values

HEADER = struct.Struct(">cQ")


class Channel:
    """Frames to and from the process that started the run."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    def send(self, kind: bytes, payload: bytes) -> None:
        """Write one frame: its kind, its length in 8 bytes, its payload."""
        rest = memoryview(HEADER.pack(kind, len(payload)) + payload)
        while rest:
            rest = rest[os.write(self.outgoing, rest) :]

    def receive(self) -> bytes:
        """Return the payload of the next frame."""
        _, size = HEADER.unpack(self._read_exactly(HEADER.size))
        return self._read_exactly(size)

    def ask(self, payload: bytes) -> bytes:
        """Send bytes to the caller's `answer` and return its answer."""
        self.send(b"?", payload)
        return self.receive()

    def _read_exactly(self, size: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < size:
            chunk = os.read(self.incoming, size - len(chunks))
            if not chunk:
                raise EOFError("the caller has ended")
            chunks += chunk
        return bytes(chunks)


def serve(incoming: int, outgoing: int, *, limited: bool) -> None:
    """Report that the sandbox is ready, then run one job; `limited`: its limits are already set."""
    channel = Channel(incoming, outgoing)
    channel.send(b"+", b"")
    job = pickle.loads(channel.receive())
    if not limited:
        confine.limit_resources(job["limits"], own_account=True)
    try:
        scope = {"__name__": "__main__", **pickle.loads(job["inputs"])}
        if job["ask"]:
            scope["ask"] = channel.ask
        exec(compile(job["code"], "<code>", "exec"), scope)
        missing = [name for name in job["outputs"] if name not in scope]
        if missing:
            raise NameError(f"the code sets no variable {missing[0]!r}")
        reply = {name: values.encode(scope[name]) for name in job["outputs"]}
        kind, payload = b"=", json.dumps(reply).encode()
    except BaseException:
        kind, payload = b"x", traceback.format_exc()[-4000:].encode(errors="replace")
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    channel.send(kind, payload)


def main() -> None:
    """Serve one run on standard input and output, which the code itself does not get.

    The arguments are UID DISK under bubblewrap, and none under the keeper, which sets the limits.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    try:
        if sys.argv[1:]:
            uid, disk = map(int, sys.argv[1:])
            confine.enter_sandbox(disk, uid)
        else:
            confine.die_with_parent()
        serve(incoming, outgoing, limited=not sys.argv[1:])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)  # without atexit handlers, and without waiting for threads of the code


if __name__ == "__main__":
    main()
