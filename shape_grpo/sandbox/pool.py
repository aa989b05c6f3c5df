"""A process under bubblewrap that has imported modules and forks one worker per run."""

import os
import select
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from shape_grpo.sandbox.guests import (
    Guest,
    bubblewrap,
    init_of,
    kill_namespace,
    popen,
    random_uid,
    worker_command,
)
from shape_grpo.sandbox.limits import Limits, SandboxError
from shape_grpo.sandbox.totals import Totals

START_SECONDS = 300


class WarmPool:
    """A zygote under bubblewrap, and the socket for requesting forks of it.

    Raises:
        SandboxError: the zygote does not start, or importing a module starts a thread.
    """

    def __init__(self, modules: Sequence[str], limits: Limits, extra: Sequence[str]) -> None:
        self.limits = limits
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status, status_end = os.pipe()
        try:
            command = bubblewrap(limits, extra, status=status_end)
            # As the namespace's first process, it takes all others with it when it ends.
            command.insert(1, "--as-pid-1")
            command += worker_command("zygote", random_uid(), str(theirs.fileno()), *modules)
            self.process = popen(command, [status_end, theirs.fileno()])
        except BaseException:
            os.close(status)
            self.control.close()
            raise
        finally:
            os.close(status_end)
            theirs.close()
        self.init = [init_of(status)[1]]
        self.control.settimeout(START_SECONDS)
        try:
            started = self.control.recv(16) == b"ready"
        except OSError:
            started = False
        if not started:
            kill_namespace(self.init)
            self.process.kill()
            assert self.process.stderr is not None
            printed = self.process.stderr.read().decode(errors="replace").strip()
            self.close()
            raise SandboxError(f"the warm pool did not start: {printed[-500:]}")

    def start(self) -> Guest:
        """Fork the zygote into new namespaces.

        Raises:
            SandboxError: the zygote has ended, or could not fork.
        """
        mine: list[int] = []
        given: list[int] = []
        totals = Totals(0, self.limits.memory + self.limits.disk)
        with ExitStack() as ours, ExitStack() as theirs:
            ours.callback(totals.close)
            for we_read in (False, True, True):  # the job, the reply, what is printed
                reading, writing = os.pipe()
                mine.append(reading if we_read else writing)
                given.append(writing if we_read else reading)
                ours.callback(os.close, mine[-1])
                theirs.callback(os.close, given[-1])
            hello, hello_end = socket.socketpair()
            ours.enter_context(hello)
            theirs.enter_context(hello_end)
            given.append(hello_end.fileno())
            for descriptor in totals.entrance():
                given.append(descriptor)
                theirs.callback(os.close, descriptor)
            try:
                with self.lock:
                    socket.send_fds(self.control, [str(self.limits.disk).encode()], given)
                theirs.close()
                hello.settimeout(60)
                entered, found, _, _ = socket.recv_fds(hello, 1, 1)
            except OSError as error:
                raise SandboxError(f"the warm pool has ended: {error}") from error
            if not found:
                reason = os.read(mine[2], 4096).decode(errors="replace")
                raise SandboxError(f"the warm pool's fork failed: {reason}")
            ours.pop_all()
        hello.close()
        totals.pid = pid_of(found[0])
        if entered != b"+":
            totals.close()
            totals.begin()

        def end() -> None:
            kill_namespace(found)
            totals.close()

        job, reply, printed = mine
        return Guest(job, reply, printed, totals, end)

    def alive(self) -> bool:
        """Return whether the zygote still runs; False before any of its forks is seen to end."""
        if self.control.fileno() < 0:
            return False
        hung_up = select.poll()
        hung_up.register(self.control, 0)  # POLLHUP is always reported
        return not hung_up.poll(0)

    def close(self) -> None:
        """End the pool and every process that it started."""
        self.control.close()
        kill_namespace(self.init)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def forget(self) -> None:
        """Close a forked caller's copies of the pool's descriptors; the pool stays the parent's."""
        self.control.close()
        for descriptor in self.init:
            os.close(descriptor)
        self.init = []


def pid_of(pidfd: int) -> int:
    """Return the process id here of a pidfd from another namespace; 0 if it has none."""
    with open(f"/proc/self/fdinfo/{pidfd}") as lines:
        found = [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
    return max([0, *found])
