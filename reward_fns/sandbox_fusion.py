"""Client that runs untrusted code on a Sandbox Fusion server instead of this machine.

verl's own client (`verl/utils/reward_score/sandbox_fusion`) scores a program 0 if the server fails.
This client separates failures of the server from failures of the program:

- If the server refuses the program (no connection, 429, 503, any 4xx), or cannot run it because its
  libraries cannot read the input, a `SandboxError` is raised, after retries with backoff.
- If the server fails while the program runs (500, no complete answer, its status "SandboxError"),
  the program is sent once more. If that fails too, the server gets another program: if it fails
  again, that is a `SandboxError`, else the program is the cause ("died").
- Any other failure after the line by which the program reports its start is the program's.

A run here sets only time and memory; all other limits are the server's. It cuts off output, and
with it a result, at 1 MiB (in its present version).

    https://bytedance.github.io/SandboxFusion
"""

import base64
import json
import pickle
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from shape_grpo.sandbox import Outcome, SandboxError
from shape_grpo.sandbox.inside import values

VALUES = Path(values.__file__).read_text()
# The program on the server. It reads its job from standard input and writes these lines: "started",
# "? " with a message to the caller, "= " with the values, or "! " with a traceback.
GUEST = """\
import base64, json, os, pickle, sys, traceback, types
job = pickle.loads(base64.b64decode(sys.stdin.buffer.read()))
values = types.ModuleType("values")
exec(compile(job["values"], "values.py", "exec"), values.__dict__)
sys.modules["values"] = values
scope = {"__name__": "__main__", **pickle.loads(job["inputs"])}
output, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(nothing, 1), os.dup2(nothing, 2)
def say(kind, text):
    rest = (kind + text + "\\n").encode()
    while rest:
        rest = rest[os.write(output, rest):]
def ask(message):
    say("? ", base64.b64encode(message).decode())
    return b""
scope["ask"] = ask
say("started", "")
try:
    exec(compile(job["code"], "<code>", "exec"), scope)
    reply = "= ", json.dumps({name: values.encode(scope[name]) for name in job["outputs"]})
except BaseException:
    reply = "! ", json.dumps(traceback.format_exc()[-4000:])
say(*reply)
os._exit(0)
"""
BUSY = (429, 503)
FAILED = (500, 502, 504)
# Seconds besides the program's own, for the network and the server's queue.
PATIENCE = 30.0
LARGEST = 8 << 20


class _ServerFailed(Exception):
    """Failure of the server while it ran the program."""


class SandboxFusion:
    """Client of a server that runs Python code. Threads may share one.

    Args:
        url: The full address, as http://HOST:8080/run_code.
        seconds: Time limit of a program, including the start of its interpreter.
        memory: Bytes of address space per program.
        max_concurrent: Concurrent requests; further ones wait.
        retries: Further attempts if the server is busy or unreachable, with exponential backoff of
            up to 8 seconds, or after the server's own delay of up to a minute.

    Raises:
        ValueError: The address is invalid.
    """

    def __init__(
        self, url: str, *, seconds: float, memory: int, max_concurrent: int = 64, retries: int = 5
    ) -> None:
        if not re.match("https?://[^/]", url):
            raise ValueError(
                f"the address of the Sandbox Fusion server is {url!r}: write it in full, as "
                "reward.sandbox_fusion.url=http://HOST:8080/run_code"
            )
        self.url = url
        self.seconds = seconds
        self.memory = memory
        retry = Retry(
            total=retries,
            read=0,  # the program may have caused a read to fail
            redirect=0,
            status_forcelist=(*BUSY, *FAILED),
            allowed_methods=None,  # POST too, because a program may run twice
            backoff_factor=0.5,
            backoff_max=8,
            backoff_jitter=0.5,
            retry_after_max=60,
            raise_on_status=False,
            raise_on_redirect=False,
        )
        timeout = urllib3.Timeout(connect=10, read=seconds + PATIENCE)
        self.pool = urllib3.PoolManager(
            maxsize=max_concurrent, block=True, retries=retry, timeout=timeout
        )

    def run(
        self,
        code: str,
        *,
        inputs: Mapping[str, Any] | bytes | None = None,
        outputs: Sequence[str] = (),
        answer: Callable[[bytes], Any] | None = None,
    ) -> Outcome:
        """Run code as `shape_grpo.sandbox.Sandbox.run` does, except that `ask` returns b"" at once.

        Args:
            code: A Python program, run as `__main__`.
            inputs: Its variables, or their pickle.
            outputs: Names of variables to return.
            answer: Function that gets, after the run, each message that the code sent by `ask`.

        Raises:
            SandboxError: The server did not run the code, or fails with every program.
        """
        pickled = inputs if isinstance(inputs, bytes) else pickle.dumps(dict(inputs or {}))
        job = {"code": code, "inputs": pickled, "outputs": list(outputs), "values": VALUES}
        for _ in range(2):
            try:
                printed, late = self._printed(job)
                return _outcome(printed, late, answer)
            except _ServerFailed as error:
                failure = error
        try:
            self._printed({"code": "", "inputs": pickle.dumps({}), "outputs": [], "values": VALUES})
        except _ServerFailed:
            raise SandboxError(f"{self.url} fails with every program: {failure}") from failure
        return Outcome("died", f"{self.url} fails with this program, not with others: {failure}")

    def _printed(self, job: dict[str, Any]) -> tuple[str, bool]:
        """Return a program's output, and whether it exceeded its time."""
        request = {
            "language": "python",
            "code": GUEST,
            "stdin": base64.b64encode(pickle.dumps(job)).decode(),
            "run_timeout": self.seconds,
            "compile_timeout": self.seconds,
            "memory_limit_MB": self.memory >> 20,
        }
        answer = self._post(request)
        try:
            reply = json.loads(answer)
            status, run = reply["status"], reply["run_result"]
            if status not in ("Success", "Failed") or run["status"] == "Error":
                raise ValueError(str(reply.get("message"))[-500:])
            late = run["status"] == "TimeLimitExceeded"
            printed, errors = str(run["stdout"] or ""), str(run.get("stderr") or "")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _ServerFailed(f"it answered {answer[:200]!r} ({error!r})") from None
        if not printed.startswith("started\n"):
            raise SandboxError(
                f"{self.url} could not start a program: {errors[-500:].strip() or 'too slow'}. Its "
                "Python needs the libraries of the problems, in versions that read this machine's "
                f"pickles, and time and memory for them ({self.seconds} s, {self.memory >> 20} MiB)"
            )
        return printed, late

    def _post(self, request: dict[str, Any]) -> bytes:
        deadline = time.monotonic() + self.seconds + 2 * PATIENCE
        body = bytearray()
        reply = None
        try:
            reply = self.pool.request("POST", self.url, json=request, preload_content=False)
            # Reads what has arrived: a full chunk could take too long if the server sends slowly.
            while chunk := reply.read1(1 << 16):
                body += chunk
                if len(body) > LARGEST or time.monotonic() > deadline:
                    raise _ServerFailed(f"its answer does not end, after {len(body)} bytes")
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, (ReadTimeoutError, ProtocolError)):
                raise _ServerFailed(repr(reason)) from error
            raise SandboxError(f"cannot reach {self.url}: {reason!r}") from error
        finally:
            if reply is not None:
                reply.close()
                reply.release_conn()  # else it would count against `max_concurrent` for ever
        if reply.status in FAILED:
            raise _ServerFailed(f"status {reply.status}: {bytes(body[:500])!r}")
        if reply.status != 200:
            raise SandboxError(f"{self.url} refuses: status {reply.status}, {bytes(body[:500])!r}")
        return bytes(body)


def _outcome(printed: str, late: bool, answer: Callable[[bytes], Any] | None) -> Outcome:
    """Return the outcome that the guest's lines report."""
    for line in printed.splitlines(keepends=True)[1:]:
        kind, text = line[:2], line[2:-1]
        if not line.endswith("\n"):
            return Outcome("output", "the server has cut off what the code returned")
        if kind == "= ":
            return Outcome("done", reply=text.encode())
        if kind == "! ":
            return Outcome("error", text)
        try:
            message = base64.b64decode(text if kind == "? " else line, validate=True)
        except ValueError:
            return Outcome("died", "the code wrote into the lines of its own run")
        if answer is not None:
            answer(message)
    if late:
        return Outcome("timeout", "it did not finish in time")
    return Outcome("died", "it ended without a reply")
