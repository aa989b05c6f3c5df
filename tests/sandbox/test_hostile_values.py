"""Replies that attack their reader: small ones that decode to much data, or take for ever."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from shape_grpo.sandbox import Outcome
from shape_grpo.sandbox.inside.values import decode, encode

HUGE = 10**8
RANGE = {"is": "RangeIndex", "parts": [0, HUGE, 1], "name": None}
COLLIDING = [i * (2**61 - 1) for i in range(1, 20_000)]  # all with the hash 0


def array(dtype="<i8", shape=(0,), data=""):
    return {"is": "array", "dtype": dtype, "shape": list(shape), "data": data}


def sparse(form, shape, entries=1):
    parts = [encode(np.arange(entries)) for _ in range(3)]
    return {"is": "sparse", "parts": parts, "shape": shape, "format": form, "kind": "matrix"}


BOMBS = {
    "items of no size": array("<U0", [HUGE]),
    "bytes of no size": array("|S0", [HUGE]),
    "more items than bytes": array("<i8", [HUGE]),
    "a scalar for a column": {
        "is": "DataFrame", "columns": [1.5], "index": RANGE, "names": {**RANGE, "parts": [0, 1, 1]}
    },
    "a scalar for a series": {"is": "Series", "array": 1.5, "index": RANGE, "name": None},
    "one item for a series": {
        "is": "Series", "array": array("<i8", [1], "AQAAAAAAAAA="), "index": RANGE, "name": None
    },
    "a range for an array": {
        "is": "Series", "array": {"is": "range", "parts": [0, HUGE, 1]}, "index": RANGE,
        "name": None,
    },
    "a range for codes": {"is": "Categorical", "from": [RANGE, RANGE], "ordered": False},
    "a range for items": {
        "is": "extension", "items": {"is": "range", "parts": [0, HUGE, 1]}, "dtype": "Int64"
    },
    "a range for a matrix": {"is": "matrix", "array": {"is": "range", "parts": [0, HUGE, 1]}},
    "ranges for levels": {"is": "MultiIndex", "levels": [RANGE, RANGE], "names": [None, None]},
    "a range for an index": {
        "is": "Index", "array": {"is": "range", "parts": [0, HUGE, 1]}, "name": None, "freq": None
    },
    "many rows": sparse("csr", [HUGE, 1]),
    "many columns": sparse("csc", [1, HUGE]),
    "rows that are lists": sparse("lil", [1 << 20, 1]),
    "hashes of a set": {"is": "set", "items": COLLIDING},
    "hashes of a frozen set": {"is": "frozenset", "items": COLLIDING},
    "hashes of a dict": {"is": "dict", "items": [[key, 0] for key in COLLIDING]},
    "hashes of tuples": {
        "is": "set", "items": [{"is": "tuple", "items": [key, 1]} for key in COLLIDING[:5000]]
    },
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import libraries first: imports would count as memory of the decoding."""
    return pd, scipy.sparse


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_reply_stays_small(bomb):
    reply = json.dumps({"x": BOMBS[bomb]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            Outcome("done", reply=reply).values()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 << 20


def test_diagonals_of_one_entry_each_are_refused_before_they_are_laid_out():
    tree = sparse("dia", [1 << 20, 1 << 20], entries=1000)
    tree["parts"][2] = encode(np.zeros(1000, dtype=int))
    with pytest.raises(ValueError, match="too large for a sparse matrix"):
        decode(tree)


@pytest.mark.parametrize(
    "zone", ["dateutil//dev/watchdog", "dateutil/../../x", "/etc/passwd", "../x", "Europe/../x", ""]
)
def test_a_time_zone_opens_no_file(zone, monkeypatch):
    opened = []
    monkeypatch.setattr("dateutil.tz.gettz", lambda *a, **k: opened.append(a))
    stamp = {"is": "Timestamp", "value": 0, "tz": zone, "unit": "ns"}
    column = {"is": "extension", "items": [stamp], "dtype": f"datetime64[ns, {zone}]"}
    for tree in (stamp, {**column, "items": []}, {**column, "dtype": f"Sparse[{zone}]"}):
        with pytest.raises(ValueError):
            decode(tree)
    assert opened == []


def test_a_long_reply_is_no_work_for_the_caller():
    """32 MiB of brackets would be 800 MB of lists; the reply stays bytes."""
    outcome = Outcome("done", reply=b'{"x": [' + b"[]," * (8 << 20) + b"[]]}")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"decode it in another run .* values\(max_bytes=N\)"):
            outcome.values()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20


def test_a_long_reply_of_a_run_is_not_read_by_its_caller(sandbox, monkeypatch):
    reads = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **k: reads.append(len(text)) or loads(text))
    outcome = sandbox.run("x = [[]] * 200_000", outputs=["x"])
    assert outcome.status == "done"
    assert all(size < 10_000 for size in reads)  # bwrap's status alone
    assert len(outcome.values(max_bytes=1 << 21)["x"]) == 200_000
