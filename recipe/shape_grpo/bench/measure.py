"""Measures of the time and memory of calls, and the name of the processor."""

import ctypes
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer


def seconds(call: Callable[[], Any], *, at_least: float = 0.5) -> float:
    """Return the median time of a call on one thread, over about ``at_least`` seconds of calls."""
    timer = Timer("call()", globals={"call": call}, num_threads=1)
    return timer.blocked_autorange(min_run_time=at_least).median


def cpu_seconds_in_turn(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the least CPU time of each call, on one thread.

    The calls take turns, so that other work on the machine slows all of them alike.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [[_cpu_seconds(call) for call in calls] for _ in range(rounds)]
    torch.set_num_threads(threads)
    return [min(column) for column in zip(*times, strict=True)]


def _cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def processor() -> str:
    """Return name, family and model of the processor (Linux); many models may share a name."""
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    family, model = fields.get("cpu family"), fields.get("model")
    return f"{fields.get('model name', 'unknown processor')} (family {family}, model {model})"


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
