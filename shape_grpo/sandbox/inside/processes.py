"""The descendants of a process, as /proc shows them."""

from pathlib import Path


def descendants(ancestor: int) -> list[int]:
    """Return the ids of all descendants; those that start or end meanwhile may be missing."""
    found, frontier = [], [ancestor]
    while frontier:
        pid = frontier.pop()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                pids = [int(child) for child in children.read_text().split()]
            except OSError:
                continue
            found += pids
            frontier += pids
    return found
