"""The user's own modules: files and packages, each imported once per process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import RLock
from traceback import extract_tb
from types import ModuleType

EXTERNAL_MODULES = "VERL_USE_EXTERNAL_MODULES"
"""Environment variable with the names of modules, which verl imports in each of its processes."""

_LOADING = RLock()
_TEXTS: dict[str, bytes] = {}
"""Name of a module to the text of the file that it was loaded from."""


def load_module(path: str) -> ModuleType:
    """Return the module of a file, or of a package as ``pkg://package.module``.

    A file is executed once per process, and again only after a change of its text. `sys.modules`
    holds it under a name that follows from its path, so that pickle and dataclasses find it. The
    paths are those of ``verl.utils.import_utils.load_module``.

    Raises:
        FileNotFoundError: There is no such file.
        Exception: What the file raises while it is imported.
    """
    if path.startswith("pkg://"):
        return import_module(path.removeprefix("pkg://").replace("/", "."))
    file = Path(os.path.abspath(path.removeprefix("file://")))
    if not file.exists():
        raise FileNotFoundError(path)
    name = f"own_file_{file.stem}_{sha256(os.fsencode(file)).hexdigest()[:8]}"
    with _LOADING:
        text = file.read_bytes()
        before = sys.modules.get(name)
        if before is not None and _TEXTS.get(name) == text:
            return before
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError("its name does not end in .py")
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            if isinstance(spec.loader, SourceLoader):
                # Not Python's byte code, which may be that of a text as long a moment ago.
                exec(spec.loader.source_to_code(text, str(file)), vars(module))
            else:
                spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name)
            if before is not None:
                sys.modules[name] = before
            raise
        _TEXTS[name] = text
        return module


def import_external_modules() -> None:
    """Import the modules that ``VERL_USE_EXTERNAL_MODULES`` names, as verl does.

    Raises:
        ValueError: One of the modules cannot be imported.
    """
    for name in filter(None, os.environ.get(EXTERNAL_MODULES, "").split(",")):
        try:
            import_module(name)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{EXTERNAL_MODULES}: {name} {_why(error)}") from error


def import_extensions(names: Sequence[str]) -> list[str]:
    """Import the modules that register utilities, allocators, advantages and formats of the user's.

    Args:
        names: Paths of .py files, and names of modules on the Python path.

    Returns:
        The same names, with absolute paths: another process may have another working directory.

    Raises:
        ValueError: A file does not exist, or a module cannot be imported, which includes that it
            registers a name that is taken.
    """
    imported = []
    for name in names:
        is_file = name.endswith(".py") or "/" in name
        file = os.path.expanduser(name.removeprefix("file://"))
        path = os.path.abspath(file) if is_file else name
        if is_file and not os.path.isfile(path):
            raise ValueError(
                f"extensions={name}: there is no file {path}. Write its path, from the folder that "
                "the command is run in, or the name of a module that can be imported."
            )
        try:
            load_module(path) if is_file else import_module(name)
        except (Exception, SystemExit) as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]:
                hint = " For a file write its path, as in extensions=[my_credit.py]."
            raise ValueError(f"extensions={name}: {_why(error, path)}.{hint}") from error
        imported.append(path)
    return imported


def _why(error: BaseException, path: str = "") -> str:
    """Return why a module cannot be imported, with the line of the file ``path`` that failed."""
    lines = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == path]
    where = f" in line {lines[-1]}" if lines else ""
    return f"cannot be imported ({type(error).__name__}{where}: {error})"
