"""Untrusted code on a Sandbox Fusion server instead of this machine, as `Sandbox.run` runs it.

verl's own client (`verl/utils/reward_score/sandbox_fusion`) gives a program 0 where the server
fails. Here the two are told apart:

- What the server refuses to run (no connection, 429, 503, any 4xx), or cannot run because its
  libraries do not read the input, is a `SandboxError`, after retries with backoff.
- A program with which the server fails while it runs it (500, no or half an answer, its status
  "SandboxError") is sent once more. Then the server is given another program: it fails with that
  too (`SandboxError`), or the program is at fault ("died").
- All else that follows the line by which the program says that it starts, is the program's doing.

The server's `Limits` are its own; of a run here are its time and memory. Its output, and with it a
result, is cut off by the server (1 MiB in its present version).

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
# Reads its job from standard input. Its own lines on standard output are: "started", "? " and what
# it tells the caller, "= " and the values, or "! " and a traceback.
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
# Beside the program's own seconds: the way there and back, and a queue at the server.
PATIENCE = 30.0
LARGEST = 8 << 20


class _ServerFailed(Exception):
    """The server tried the program, and failed."""


class SandboxFusion:
    """A server that runs Python code. Threads may share one.

    Args:
        url: The whole address, as http://HOST:8080/run_code.
        seconds: Of a program, with the start of its interpreter.
        memory: Bytes of address space of a program.
        max_concurrent: Requests at a time; further ones wait.
        retries: Further attempts where the server is busy or gone, with exponential backoff of up
            to 8 seconds, or after as long as it says, up to a minute.

    Raises:
        ValueError: The address is none.
    """

    def __init__(
        self, url: str, *, seconds: float, memory: int, max_concurrent: int = 64, retries: int = 5
    ) -> None:
        if not re.match("https?://[^/]", url):
            raise ValueError(
                f"the address of the Sandbox Fusion server is {url!r}: write the whole of it, as "
                "reward.sandbox_fusion.url=http://HOST:8080/run_code"
            )
        self.url = url
        self.seconds = seconds
        self.memory = memory
        retry = Retry(
            total=retries,
            read=0,  # a read that fails may be the program's doing
            redirect=0,
            status_forcelist=(*BUSY, *FAILED),
            allowed_methods=None,  # POST too: a program may well run twice
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
        """As `shape_grpo.sandbox.Sandbox.run`, but that `ask` returns b"" at once.

        Args:
            code: A Python program; it runs as `__main__`.
            inputs: Its variables, or their pickle.
            outputs: Names of variables to return.
            answer: Hears, when all is over, what the code told by `ask`.

        Raises:
            SandboxError: The server did not run the code, or fails with any.
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
        """What a program printed, and whether its time was over."""
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
                f"{self.url} could not start a program: {errors[-500:].strip() or 'in time'}. Its "
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
            # Not until so many bytes have come: the server may let them drip.
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
                reply.release_conn()  # else its place among `max_concurrent` would be lost
        if reply.status in FAILED:
            raise _ServerFailed(f"status {reply.status}: {bytes(body[:500])!r}")
        if reply.status != 200:
            raise SandboxError(f"{self.url} refuses: status {reply.status}, {bytes(body[:500])!r}")
        return bytes(body)


def _outcome(printed: str, late: bool, answer: Callable[[bytes], Any] | None) -> Outcome:
    """What the guest's own lines say, up to the one that ends them."""
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
