"""The descendants of a process, as /proc shows them."""

from pathlib import Path


def descendants(ancestor: int) -> list[int]:
    """Process ids of all children, and of theirs; of those that come and go meanwhile, some."""
    found, frontier = [], [ancestor]
    while frontier:
        pid = frontier.pop()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                some = [int(child) for child in children.read_text().split()]
            except OSError:
                continue
            found += some
            frontier += some
    return found
