"""Values that one sandbox passes to another: they arrive equal, or are refused."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from shape_grpo.sandbox.inside.values import decode, encode

PLAIN = [
    None, True, 3, 10**30, -0.5, float("inf"), 1 + 2j, "é", b"\x00", [1, [2]], (1, (2,)), {1, 2},
    frozenset("a"), {1: "a", (2, 3): None}, slice(1, None, 2), range(3), dt.date(2024, 2, 29),
    dt.datetime(2024, 1, 1, 2, 3, 4, 5), dt.time(1, 2), dt.timedelta(days=-1, microseconds=3),
    np.dtype("<f4"), pd.NaT, pd.NA, pd.Timestamp("2024-01-01 01:02:03.000000004"),
    pd.Timestamp("2024-07-01", tz="Europe/Berlin"), pd.Timedelta("-3ns"), pd.Period("2024-02", "M"),
    pd.Interval(0, 1, closed="left"),
]  # fmt: skip
ARRAYS = [
    np.arange(6).reshape(2, 3), np.array(3.5), np.zeros((0, 4)), np.array(["a", "bcd"]),
    np.array([b"a"]), np.array(["2024-01-01", "NaT"], "datetime64[D]"), np.array([True]),
    np.arange(6).reshape(2, 3).T, np.array([1, "a", None, [2]], dtype=object), np.zeros(3, ">i2"),
    np.float32(1.5), np.int8(-3), np.str_("x"), np.datetime64("2024-01-01"), np.asmatrix([[1, 2]]),
    np.array([1 + 2j]), np.array(["", ""]),
]  # fmt: skip
DAYS = pd.date_range("2024-01-01", periods=3)
INDEXES = [
    pd.Index([3, 1]), pd.Index(["a", None]), pd.RangeIndex(1, 9, 3, name="r"), DAYS, DAYS[[2, 0]],
    DAYS.tz_localize("Asia/Tokyo"), pd.timedelta_range("1D", periods=2),
    pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
    pd.CategoricalIndex(list("aba")), pd.period_range("2024", periods=2, freq="Q"),
    pd.interval_range(0, 3), pd.Index([], dtype=float),
]  # fmt: skip
COLUMNS = [
    [1.5, np.nan], [1, "a"], DAYS[:2], DAYS[:2].tz_localize("UTC"), pd.Categorical(["b", "a"]),
    pd.Categorical(["b", "a"], ["b", "a"], ordered=True), pd.array([1, None], "Int64"),
    pd.array(["a", None], "string"), pd.array([True, None], "boolean"), [[1], {2: 3}],
    pd.period_range("2024", periods=2, freq="D"), pd.arrays.SparseArray([0, 1]),
]  # fmt: skip


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values(value):
    back = there_and_back(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("value", ARRAYS, ids=repr)
def test_arrays_and_scalars(value):
    back = there_and_back(value)
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize("value", INDEXES, ids=lambda index: type(index).__name__)
def test_indexes(value):
    pd.testing.assert_index_equal(there_and_back(value), value, exact=True)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(getattr(column, "dtype", "")))
def test_series_and_frames(column):
    series = pd.Series(column, index=["x", "y"], name=("a", 1))
    pd.testing.assert_series_equal(there_and_back(series), series)
    frame = pd.DataFrame({0: series, 1: series})
    frame.columns = ["twin", "twin"]
    pd.testing.assert_frame_equal(there_and_back(frame), frame)


def test_frames_without_rows_or_columns():
    for frame in (pd.DataFrame(), pd.DataFrame(index=[1, 2]), pd.DataFrame({"a": []})):
        pd.testing.assert_frame_equal(there_and_back(frame), frame)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_matrices(form, make):
    value = make([[0, 1.5], [2, 0]]).asformat(form)
    back = there_and_back(value)
    assert (type(back), back.dtype) == (type(value), value.dtype)
    np.testing.assert_array_equal(back.toarray(), value.toarray())


def test_tensors():
    value = torch.tensor([[1.5, 2]], requires_grad=True)
    assert torch.equal(there_and_back(value), value.detach())


class Deceiver(pd.DataFrame):
    def equals(self, other):
        return True


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: 1, "a function"),
        (iter([1]), "an iterator"),
        (object(), "any object"),
        (Deceiver({"a": [1]}), "a subclass with its own equals"),
        (type("Str", (str,), {"__eq__": lambda a, b: True})("x"), "a subclass of str"),
        (type("List", (list,), {})([1]), "a subclass of list"),
        (np.array([1, object()], dtype=object), "an array that holds any object"),
        (np.zeros(1, [("a", int)]), "a structured array"),
        (np.ma.masked_all(2), "masked entries, which numpy.testing takes for right"),
        ({"a": [1, (2, print)]}, "a function deep inside"),
    ],
)
def test_what_is_not_plain_data_is_refused(value, reason):
    with pytest.raises(TypeError, match="cannot be handed over"):
        encode(value)


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"is": "os.system", "items": ["true"]}, "an unknown type"),
        ({"is": ["array"]}, "a type that is no string"),
        ({}, "no type"),
        ({"is": "array", "dtype": "O", "shape": [1], "data": ""}, "objects from bytes"),
        ({"is": "array", "dtype": "i4,O", "shape": [1], "data": "AAAA"}, "a structured dtype"),
        ({"is": "array", "dtype": "<i8", "shape": [10**9], "data": ""}, "more items than sent"),
        (
            {"is": "sparse", "parts": [], "shape": [], "format": "__class__", "kind": "array"},
            "format",
        ),
        ({"is": "extension", "dtype": "os.system", "items": []}, "an unknown dtype"),
        ({"is": "dict", "items": [[[1], 2]]}, "a list as key"),
        ({"is": "Timestamp", "value": "now", "tz": None, "unit": "ns"}, "no number"),
        ({"is": "DataFrame", "columns": [1], "index": None, "names": 3}, "no columns"),
        ({"is": "bytes", "data": "abc"}, "no base64"),
    ],
)
def test_trees_that_no_value_has_are_refused(tree, reason):
    with pytest.raises(ValueError, match="not an encoded"):
        decode(tree)
