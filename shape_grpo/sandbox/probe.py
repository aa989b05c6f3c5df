"""An attempt to escape, which tests a backend: that its program is installed proves nothing."""

import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from shape_grpo.sandbox.limits import Outcome, SandboxError

# Its success is observed from outside or proved by the secret, because a namespace may have another
# file or process under the same path or process id.
ATTEMPT = """
import ctypes, os, signal, socket
proof = {}
def attempt(name, action):
    try:
        proof[name] = action()
    except BaseException:
        pass
def read(path):
    with open(path, "rb") as file:
        return file.read(4096)
def write():
    with open(folder + "/written", "w") as file:
        file.write("x")
attempt("reads files outside", lambda: read(folder + "/secret"))
attempt("writes files outside", write)
attempt("changes modes outside", lambda: os.chmod(folder + "/secret", 0o777))
attempt("reads the memory of others", lambda: read(f"/proc/{victim}/environ"))
if victim != os.getpid():
    attempt("signals others", lambda: os.kill(victim, signal.SIGKILL))
attempt("reaches the network", lambda: socket.create_connection(("127.0.0.1", port), 5) and None)
attempt("makes namespaces", lambda: ctypes.CDLL(None).unshare(0x10000000) == 0)
"""


def escapes(run: Callable[..., Outcome]) -> str:
    """Return what the attempt achieves on this machine, as text; empty if nothing.

    Raises:
        SandboxError: the attempt did not run to its end.
    """
    token = secrets.token_hex(16)
    idle = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    with (
        tempfile.TemporaryDirectory(prefix="probe-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(idle, stdin=subprocess.PIPE, env={"TOKEN": token}) as victim,
    ):
        secret = Path(folder, "secret")
        secret.write_text(token)
        secret.chmod(0o600)
        try:
            outcome = run(
                ATTEMPT,
                inputs={
                    "folder": folder,
                    "victim": victim.pid,
                    "port": server.getsockname()[1],
                },
                outputs=["proof"],
                seconds=60,
            )
            if outcome.status != "done":
                raise SandboxError(
                    f"the probe ended with {outcome.status}: {outcome.detail[-500:]}"
                )
            proof = outcome.values()["proof"]
            found = {
                "reads files outside": token.encode() in proof.get("reads files outside", b""),
                "writes files outside": Path(folder, "written").exists(),
                "changes modes outside": secret.stat().st_mode & 0o777 != 0o600,
                "reads the memory of others": (
                    token.encode() in proof.get("reads the memory of others", b"")
                ),
                "signals others": victim.poll() is not None,
                "reaches the network": "reaches the network" in proof,
                "makes namespaces": proof.get("makes namespaces", False),
            }
        finally:
            victim.kill()
    return ", ".join(name for name, achieved in found.items() if achieved)
