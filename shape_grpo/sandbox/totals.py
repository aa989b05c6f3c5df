"""The memory of a run as a whole: limited by a cgroup where one can be made, else watched."""

import os
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from shape_grpo.sandbox.inside.processes import descendants

CGROUPS = Path("/sys/fs/cgroup")
# What limits memory, in version 2 and 1; swap, which must not add to it; end all or none.
LIMITS = ("memory.max", "memory.limit_in_bytes")
FURTHER = {"memory.swap.max": "0", "memory.memsw.limit_in_bytes": "", "memory.oom.group": "1"}
ENTRANCE = "tasks"
SECONDS_BETWEEN_LOOKS = 0.1


class Totals:
    """All processes of one run: a first one, and its descendants.

    Attributes:
        cgroup: the run's own, if there is one.
    """

    def __init__(self, pid: int, most: int) -> None:
        self.pid = pid
        self.most = most
        self.looked = time.monotonic()
        self.cgroup: Path | None = None

    def entrance(self) -> list[int]:
        """A descriptor of a new cgroup, where the first process enters it by writing "0".

        So it takes no time: to be put there by another, as `begin` does, waits 3 to 12 ms for the
        kernel's lock on all groups. Only version 1 has such a file.
        """
        with suppress(OSError):
            if (parent := cgroup_parent()) is not None and (parent / ENTRANCE).exists():
                self.cgroup = make_cgroup(parent, self.most)
                return [os.open(self.cgroup / ENTRANCE, os.O_WRONLY | os.O_CLOEXEC)]
        self.close()
        return []

    def begin(self) -> None:
        """Count from here on, if not yet; to be called before the code runs."""
        if self.cgroup is not None or self.pid <= 0 or (parent := cgroup_parent()) is None:
            return
        with suppress(OSError):
            self.cgroup = make_cgroup(parent, self.most)
            for pid in (self.pid, *descendants(self.pid)):
                (self.cgroup / "cgroup.procs").write_text(str(pid))
            return
        self.close()

    def exceeded(self) -> bool:
        """Whether the run uses, or has tried to use, too much; looks ten times a second."""
        if time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return False
        self.looked = time.monotonic()
        if self.cgroup is not None:
            return self.killed()
        pids = [self.pid, *descendants(self.pid)]
        # What forks share counts once, but that takes longer to find out.
        return sum(map(resident, pids)) > self.most and sum(map(proportional, pids)) > self.most

    def killed(self) -> bool:
        """Whether the cgroup's limit has killed a process."""
        if self.cgroup is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                lines = (self.cgroup / name).read_text().splitlines()
                return any(line.startswith("oom_kill ") and line[9:] != "0" for line in lines)
        return False

    def close(self) -> None:
        """Remove the cgroup, with any process that has outlived the run's end."""
        if self.cgroup is not None:
            remove_cgroup(self.cgroup)
            self.cgroup = None


def resident(pid: int) -> int:
    """Bytes of memory that a process uses, those that it shares included; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def proportional(pid: int) -> int:
    """Bytes of memory that a process uses, each shared page divided by those who share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return resident(pid)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def cgroup_folders(memberships: str) -> list[Path]:
    """Where cgroups that limit memory might be made: what /proc/self/cgroup says, nearest first."""
    folders: list[Path] = []
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folders.append(CGROUPS / "memory" / path.lstrip("/"))
        elif not controllers:  # version 2: a group with processes of its own hands on no limits
            own = CGROUPS / path.lstrip("/")
            folders += [own, *(p for p in own.parents if p.is_relative_to(CGROUPS))]
    return folders


@cache
def cgroup_parent() -> Path | None:
    """The nearest folder in which this process can make cgroups with a limit of memory."""
    try:
        folders = cgroup_folders(Path("/proc/self/cgroup").read_text())
    except OSError:
        return None
    for folder in folders:
        with suppress(OSError):
            remove_cgroup(make_cgroup(folder, 1 << 30))
            for left in folder.glob("sandbox-*"):  # by callers that were killed
                if not Path("/proc", left.name.split("-")[1]).exists():
                    with suppress(OSError):
                        left.rmdir()
            return folder
    return None


def make_cgroup(parent: Path, most: int) -> Path:
    """A cgroup of at most so many bytes.

    Raises:
        OSError: that cannot be done there.
    """
    cgroup = parent / f"sandbox-{os.getpid()}-{uuid4().hex}"
    cgroup.mkdir()
    try:
        for name in LIMITS:
            if (cgroup / name).exists():
                (cgroup / name).write_text(str(most))
                break
        else:
            raise OSError(f"{parent} hands on no limit of memory")
        for name, value in FURTHER.items():
            if (cgroup / name).exists():
                (cgroup / name).write_text(value or str(most))
    except OSError:
        cgroup.rmdir()
        raise
    return cgroup


def remove_cgroup(cgroup: Path) -> None:
    """Remove it, after killing what is in it still; the kernel may take a moment to see that."""
    for _ in range(10_000):
        try:
            return cgroup.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            listed = map(int, (cgroup / "cgroup.procs").read_text().split())
            for pid in filter(None, listed):  # 0: one that has no number here, but would mean us
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
