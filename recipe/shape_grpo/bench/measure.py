"""Measures of the time and memory of one call."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.benchmark import Timer


def seconds(call: Callable[[], Any], *, at_least: float = 0.5) -> float:
    """Return the median time of a call on one thread, over about ``at_least`` seconds of calls."""
    timer = Timer("call()", globals={"call": call}, num_threads=1)
    return timer.blocked_autorange(min_run_time=at_least).median


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the growth of the process's memory in a call, including the result (Linux)."""
    call()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _kilobytes("VmRSS")
    result = call()
    peak = _kilobytes("VmHWM")
    del result
    return (peak - before) * 1024


def _kilobytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1))
