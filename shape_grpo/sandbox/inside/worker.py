"""The process in which untrusted code runs: one job from file descriptor 0, one reply to 1.

Its replies are claims, not facts: the code it runs can write to the same descriptor.
"""

import contextlib
import ctypes
import json
import os
import pickle
import resource
import struct
import sys
import traceback
from pathlib import Path
from typing import Any

import values

# linux/prctl.h, linux/capability.h
PR_CAPBSET_DROP, CAPABILITY_VERSION_3 = 24, 0x20080522
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
        """The payload of the next frame."""
        _, size = HEADER.unpack(self._exactly(HEADER.size))
        return self._exactly(size)

    def ask(self, payload: bytes) -> bytes:
        """Send bytes to the caller's `answer` and return what it answers."""
        self.send(b"?", payload)
        return self.receive()

    def _exactly(self, size: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < size:
            chunk = os.read(self.incoming, size - len(chunks))
            if not chunk:
                raise EOFError("the caller has gone")
            chunks += chunk
        return bytes(chunks)


def become_nobody(uid: int) -> None:
    """Give up root for an account of this run alone: RLIMIT_NPROC does not bind root."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def drop_capabilities() -> None:
    """Root without them is bound by permissions, and by the limits set below."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def limit_resources(limits: dict[str, Any], *, own_account: bool) -> None:
    """Limits of this process and its descendants; RLIMIT_NPROC counts all of the account's."""
    wanted = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: int(limits["seconds"]) + 1,
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    if own_account:
        wanted[resource.RLIMIT_NPROC] = limits["processes"]
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def serve(incoming: int, outgoing: int, *, limited: bool) -> None:
    """Say that the sandbox stands, then run the one job; `limited`: its limits are set already."""
    channel = Channel(incoming, outgoing)
    channel.send(b"+", b"")
    job = pickle.loads(channel.receive())
    if not limited:
        limit_resources(job["limits"], own_account=True)
    reply: dict[str, Any]
    try:
        scope = {"__name__": "__main__", **pickle.loads(job["inputs"])}
        if job["ask"]:
            scope["ask"] = channel.ask
        exec(compile(job["code"], "<code>", "exec"), scope)
        missing = [name for name in job["outputs"] if name not in scope]
        if missing:
            raise NameError(f"the code sets no variable {missing[0]!r}")
        reply = {"values": {name: values.encode(scope[name]) for name in job["outputs"]}}
        payload = json.dumps(reply)
    except BaseException:
        payload = json.dumps({"error": traceback.format_exc()[-4000:]})
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    channel.send(b"=", payload.encode())


def main() -> None:
    """Serve one run on standard input and output, which the program itself does not get."""
    incoming, outgoing = os.dup(0), os.dup(1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    try:
        uid = int(sys.argv[1])  # 0: under the keeper, which has set the limits
        if uid and os.getuid() == 0:
            become_nobody(uid)
        drop_capabilities()
        serve(incoming, outgoing, limited=not uid)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)  # atexit handlers and threads of the code have no say


if __name__ == "__main__":
    main()
