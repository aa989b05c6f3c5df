"""The message of a full disk."""

import errno
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
MARKS = (
    *("No space left on device", "Disk quota exceeded", "iostream error"),
    "PytorchStreamWriter failed",
)
"""Parts of the messages of Python, torch and others about a full disk."""

LITTLE = 8 * 2**20
"""Free bytes below which a disk counts as full."""


def full_disk(folder: Path) -> str:
    """Return a sentence that names the full disk's folder and its free space, and what to do."""
    return (
        f"the disk of {folder} is full ({_free(folder) / 1e6:.1f} MB free): free some space there, "
        "or write another folder"
    )


def tells_of_full_disk(text: str) -> bool:
    """Return whether an error or a log names a full disk."""
    return any(mark in text for mark in MARKS)


def full_disks(log: str, *folders: Path) -> list[str]:
    """Return a sentence per disk that is full, after a command failed.

    Args:
        log: The end of the command's log. A file that did not fit may be gone, so where the log
            tells of a full disk, the first folder's disk counts as full.
        folders: Folders that the command wrote into.
    """
    full = [folder for folder in folders if folder.is_dir() and _free(folder) < LITTLE]
    if not full and tells_of_full_disk(log):
        full = list(folders[:1])
    return list(map(full_disk, full))


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
