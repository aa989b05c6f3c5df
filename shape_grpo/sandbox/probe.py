"""An attempt to escape, by which a backend is judged: that a program exists proves nothing."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from shape_grpo.sandbox.limits import Outcome, SandboxError

ATTEMPT = """
import os, socket
def succeeds(deed):
    try:
        deed()
    except BaseException:
        return False
    return True
def write():
    with open(folder + "/written", "w") as file:
        file.write("x")
deeds = {
    "reads files outside": lambda: open(folder + "/secret").read(),
    "writes files outside": write,
    "changes modes outside": lambda: os.chmod(folder + "/secret", 0o777),
    "signals its parent": lambda: os.kill(parent, 0),
    "reads its parent's memory": lambda: open(f"/proc/{parent}/maps").read(4096)[0],
    "reaches the network": lambda: socket.create_connection(("127.0.0.1", port), 5),
}
found = [name for name, deed in deeds.items() if succeeds(deed)]
"""


def escapes(run: Callable[..., Outcome]) -> str:
    """What the attempt achieves against this process, as text; empty if nothing.

    Raises:
        SandboxError: the attempt did not come to its end.
    """
    with (
        tempfile.TemporaryDirectory(prefix="probe-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret = Path(folder, "secret")
        secret.write_text("x")
        secret.chmod(0o600)
        outcome = run(
            ATTEMPT,
            inputs={"folder": folder, "parent": os.getpid(), "port": server.getsockname()[1]},
            outputs=["found"],
            seconds=60,
        )
        if outcome.status != "done":
            raise SandboxError(f"the probe ended with {outcome.status}: {outcome.detail[-500:]}")
        found = list(outcome.values()["found"])
        # In a namespace the same path may be another file; what counts is outside.
        if "writes files outside" in found and not Path(folder, "written").exists():
            found.remove("writes files outside")
    return ", ".join(found)
