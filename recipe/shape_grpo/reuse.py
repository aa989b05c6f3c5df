"""Whether the files of an earlier run can be used again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STAMP = "settings.json"


def is_current(folder: Path, settings: dict[str, Any], files: Iterable[str]) -> bool:
    """True if `folder` holds all `files`, written with exactly these `settings`."""
    stamp = folder / STAMP
    return (
        stamp.is_file()
        and json.loads(stamp.read_text()) == settings
        and all((folder / name).exists() for name in files)
    )


def begin(folder: Path) -> None:
    """Make the folder ready to be written; until `write_stamp`, it is not current."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)


def write_stamp(folder: Path, settings: dict[str, Any]) -> None:
    """Record the settings; call it after all files are written."""
    (folder / STAMP).write_text(json.dumps(settings, indent=2) + "\n")
