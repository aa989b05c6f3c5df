"""Values as JSON and back, rebuilt by public constructors from plain data.

Pickle will not do: what untrusted code sends must never run where it is compared, and a DataFrame
rebuilt by `pickle`, even from a list of allowed classes, can carry its own `equals`.

Covered are the usual types of results: Python's plain types and containers, dates, NumPy arrays,
scalars and dtypes, pandas Series, DataFrames, indexes and their elements, SciPy sparse matrices,
torch tensors. Any other type, subclasses of these included, is a TypeError.

A decoded value is about as large as its tree: no shape, length or scalar can make it fill memory.
"""

import base64
import datetime as dt
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

PLAIN = {"b", "i", "u", "f", "c", "S", "U", "M", "m"}
SPARSE = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
# Maximum rows or columns of a sparse matrix, each of which costs memory, and items with one hash.
MAX_SPARSE, MAX_COLLISIONS = 1 << 21, 100
# Names of dateutil are excluded, because they are paths of files that it would open.
ZONE = re.compile(r"(?!dateutil)[A-Za-z0-9_+:-]+(/[A-Za-z0-9_+-]+)*")


def encode(value: Any) -> Any:
    """Return a value as a tree that `json.dumps` takes.

    Raises:
        TypeError: the value, or a value in it, has a type that is not covered.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {"is": kind.__name__, "items": [encode(item) for item in value]}
    if kind is dict:
        return {"is": "dict", "items": [[encode(k), encode(v)] for k, v in value.items()]}
    if kind is complex:
        return {"is": "complex", "parts": [value.real, value.imag]}
    if kind in (bytes, bytearray):
        return {"is": "bytes", "data": base64.b64encode(value).decode()}
    if kind in (slice, range):
        return {"is": kind.__name__, "parts": [value.start, value.stop, value.step]}
    if kind in (dt.datetime, dt.date, dt.time) and getattr(value, "tzinfo", None) is None:
        return {"is": kind.__name__, "iso": value.isoformat()}
    if kind is dt.timedelta:
        return {"is": "timedelta", "parts": [value.days, value.seconds, value.microseconds]}
    for library, encoder in (
        ("numpy", _encode_numpy),
        ("pandas", _encode_pandas),
        ("scipy.sparse", _encode_sparse),
        ("torch", _encode_torch),
    ):
        if library in sys.modules and (tree := encoder(value, sys.modules[library])) is not None:
            return tree
    raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be handed over")


def _encode_numpy(value: Any, np: Any) -> Any:
    if isinstance(value, np.dtype) and value.kind in PLAIN | {"O"}:
        return {"is": "dtype", "name": value.str}
    if isinstance(value, np.generic) and value.dtype.kind in PLAIN:
        return {"is": "scalar", "array": _encode_numpy(np.asarray(value), np)}
    if type(value) not in (np.ndarray, np.matrix) or value.dtype.kind not in PLAIN | {"O"}:
        return None
    tree = {"is": "array", "dtype": value.dtype.str, "shape": list(value.shape)}
    if value.dtype.kind == "O":
        tree["items"] = [encode(item) for item in np.asarray(value).ravel()]
    else:
        tree["data"] = base64.b64encode(np.asarray(value).tobytes()).decode()
    return {"is": "matrix", "array": tree} if type(value) is np.matrix else tree


def _encode_pandas(value: Any, pd: Any) -> Any:
    kind = type(value)
    if value is pd.NaT or value is pd.NA:
        return {"is": "NaT" if value is pd.NaT else "NA"}
    if kind is pd.Timestamp:
        zone = None if value.tz is None else str(value.tz)
        return {"is": "Timestamp", "value": int(value.value), "tz": zone, "unit": value.unit}
    if kind is pd.Timedelta:
        return {"is": "Timedelta", "value": int(value.value), "unit": value.unit}
    if kind is pd.Period:
        return {"is": "Period", "ordinal": int(value.ordinal), "freq": value.freqstr}
    if kind is pd.Interval:
        parts = [encode(value.left), encode(value.right), value.closed]
        return {"is": "Interval", "parts": parts}
    if kind is pd.RangeIndex:
        parts = [value.start, value.stop, value.step]
        return {"is": "RangeIndex", "parts": parts, "name": encode(value.name)}
    if kind is pd.MultiIndex:
        levels = [_encode_index(value.get_level_values(i), pd) for i in range(value.nlevels)]
        return {"is": "MultiIndex", "levels": levels, "names": [encode(n) for n in value.names]}
    if isinstance(value, pd.Index) and kind.__module__.startswith("pandas."):
        return _encode_index(value, pd)
    if kind is pd.Series:
        tree = {"is": "Series", "array": _encode_column(value.array, pd)}
        return {**tree, "index": encode(value.index), "name": encode(value.name)}
    if kind is pd.DataFrame:
        columns = [_encode_column(value.iloc[:, i].array, pd) for i in range(value.shape[1])]
        index, names = encode(value.index), encode(value.columns)
        return {"is": "DataFrame", "columns": columns, "index": index, "names": names}
    return None


def _encode_index(value: Any, pd: Any) -> Any:
    freq = getattr(value, "freqstr", None) if isinstance(value, pd.DatetimeIndex) else None
    array = _encode_column(value.array, pd)
    return {"is": "Index", "array": array, "name": encode(value.name), "freq": freq}


def _encode_column(array: Any, pd: Any) -> Any:
    import numpy as np

    if isinstance(array.dtype, np.dtype):
        return encode(np.asarray(array))
    if isinstance(array.dtype, pd.CategoricalDtype):
        categories, codes = encode(array.categories), encode(np.asarray(array.codes))
        return {"is": "Categorical", "from": [codes, categories], "ordered": bool(array.ordered)}
    items = [encode(item) for item in array]
    return {"is": "extension", "dtype": str(array.dtype), "items": items}


def _encode_sparse(value: Any, sparse: Any) -> Any:
    if not sparse.issparse(value) or value.ndim != 2 or value.format not in SPARSE:
        return None
    matrix = value.tocoo()
    parts = [encode(part) for part in (matrix.data, matrix.row, matrix.col)]
    kind = "matrix" if sparse.isspmatrix(value) else "array"
    shape = list(value.shape)
    return {"is": "sparse", "parts": parts, "shape": shape, "format": value.format, "kind": kind}


def _encode_torch(value: Any, torch: Any) -> Any:
    if type(value) is not torch.Tensor or value.layout != torch.strided:
        return None
    return {"is": "tensor", "array": encode(value.detach().cpu().numpy())}


def decode(tree: Any) -> Any:
    """Return the value of a tree.

    Raises:
        ValueError: the tree is not an encoded value, or names an unknown type.
    """
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if type(tree) is list:
        return [decode(item) for item in tree]
    decoder = _DECODERS.get(str(tree.get("is"))) if type(tree) is dict else None
    if decoder is None:
        raise ValueError(f"not an encoded value: {str(tree)[:80]}")
    try:
        return decoder(tree)
    except RecursionError:
        raise ValueError("not an encoded value: nested too deeply") from None
    except Exception as error:
        raise ValueError(f"not an encoded {tree['is']}: {error}") from error


def _checked_hashes(items: list[Any]) -> list[Any]:
    """Return items of a set or keys of a dict, checked: equal hashes make those slow to build."""
    if items and max(Counter(map(hash, items)).values()) > MAX_COLLISIONS:
        raise ValueError("too many items share a hash")
    return items


def _as_array(array: Any, length: int | None = None) -> Any:
    """Return an array, checked to hold its items in memory, unlike a range or a scalar."""
    import numpy as np
    import pandas as pd

    if not isinstance(array, (np.ndarray, pd.api.extensions.ExtensionArray)):
        raise ValueError(f"a {type(array).__name__} instead of an array")
    if length is not None and len(array) != length:
        raise ValueError(f"{len(array)} items instead of {length}")
    return array


def _dict(tree: dict[str, Any]) -> dict[Any, Any]:
    keys = _checked_hashes([decode(key) for key, _ in tree["items"]])
    return dict(zip(keys, (decode(item) for _, item in tree["items"]), strict=True))


def _zone(name: str) -> str:
    if not ZONE.fullmatch(name):
        raise ValueError(f"not a time zone: {name[:80]!r}")
    return name


def _array(tree: dict[str, Any]) -> Any:
    import numpy as np

    dtype, shape = np.dtype(str(tree["dtype"])), [int(side) for side in tree["shape"]]
    if dtype.kind == "O":
        array = np.empty(len(tree["items"]), dtype=object)
        for i, item in enumerate(tree["items"]):
            array[i] = decode(item)
        return array.reshape(shape)
    if dtype.kind not in PLAIN:
        raise ValueError(f"dtype {dtype} has no plain items")
    data = base64.b64decode(tree["data"])
    if dtype.itemsize == 0:
        raise ValueError(f"dtype {dtype} has items of no size")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _pandas(tree: dict[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    kind = tree["is"]
    if kind in ("NaT", "NA"):
        return getattr(pd, kind)
    if kind == "Timestamp":
        utc = pd.Timestamp(np.datetime64(int(tree["value"]), "ns")).as_unit(str(tree["unit"]))
        return (
            utc if tree["tz"] is None else utc.tz_localize("UTC").tz_convert(_zone(str(tree["tz"])))
        )
    if kind == "Timedelta":
        return pd.Timedelta(int(tree["value"]), "ns").as_unit(str(tree["unit"]))
    if kind == "Period":
        return pd.Period(ordinal=int(tree["ordinal"]), freq=str(tree["freq"]))
    if kind == "Interval":
        left, right, closed = tree["parts"]
        return pd.Interval(decode(left), decode(right), closed)
    if kind == "RangeIndex":
        return pd.RangeIndex(*map(int, tree["parts"]), name=decode(tree["name"]))
    if kind == "MultiIndex":
        levels = [decode(level) for level in tree["levels"]]
        if any(type(level) in (pd.RangeIndex, pd.MultiIndex) for level in levels):
            raise ValueError("a level is a RangeIndex or MultiIndex")
        return pd.MultiIndex.from_arrays(levels, names=[decode(name) for name in tree["names"]])
    if kind == "Index":
        array = _as_array(decode(tree["array"]))
        if tree["freq"] is not None:
            return pd.DatetimeIndex(array, freq=str(tree["freq"]), name=decode(tree["name"]))
        return pd.Index(array, dtype=array.dtype, name=decode(tree["name"]))
    if kind == "Categorical":
        codes, categories = map(decode, tree["from"])
        return pd.Categorical.from_codes(
            _as_array(codes), categories, ordered=bool(tree["ordered"])
        )
    if kind == "extension":
        dtype = str(tree["dtype"])
        if zoned := re.fullmatch(r"datetime64\[\w+, ?(.*)\]", dtype):
            _zone(zoned[1])
        elif "dateutil" in dtype:
            raise ValueError(f"not a dtype: {dtype[:80]!r}")
        return pd.array([decode(item) for item in tree["items"]], dtype=dtype)
    index = decode(tree["index"])
    if not isinstance(index, pd.Index):
        raise ValueError("the index is not an Index")
    if kind == "Series":
        array = _as_array(decode(tree["array"]), len(index))
        return pd.Series(array, index=index, name=decode(tree["name"]))
    columns = {i: _as_array(decode(column), len(index)) for i, column in enumerate(tree["columns"])}
    frame = pd.DataFrame(columns, index=index)
    frame.columns = decode(tree["names"])
    return frame


def _sparse(tree: dict[str, Any]) -> Any:
    import scipy.sparse as sparse

    if tree["format"] not in SPARSE or tree["kind"] not in ("matrix", "array"):
        raise ValueError("unknown format")
    data, row, column = (_as_array(decode(part)) for part in tree["parts"])
    rows, columns = map(int, tree["shape"])
    costs = {"lil": 16 * rows, "dia": (columns + 1) * len(set((column - row).tolist()))}
    if rows < 0 or columns < 0 or costs.get(tree["format"], rows + columns) > MAX_SPARSE:
        raise ValueError(f"too large for a sparse matrix: {rows} x {columns}")
    make = getattr(sparse, f"coo_{tree['kind']}")
    return make((data, (row, column)), shape=(rows, columns)).asformat(tree["format"])


def _matrix(tree: dict[str, Any]) -> Any:
    import numpy as np

    return np.asmatrix(_as_array(decode(tree["array"])))


def _dtype(tree: dict[str, Any]) -> Any:
    import numpy as np

    return np.dtype(str(tree["name"]))


def _tensor(tree: dict[str, Any]) -> Any:
    import torch

    return torch.from_numpy(decode(tree["array"]))


_PANDAS = (
    *("NaT", "NA", "Timestamp", "Timedelta", "Period", "Interval", "Categorical", "extension"),
    *("RangeIndex", "MultiIndex", "Index", "Series", "DataFrame"),
)
_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tuple": lambda tree: tuple([decode(item) for item in tree["items"]]),
    "set": lambda tree: set(_checked_hashes([decode(item) for item in tree["items"]])),
    "frozenset": lambda tree: frozenset(_checked_hashes([decode(item) for item in tree["items"]])),
    "dict": _dict,
    "complex": lambda tree: complex(*tree["parts"]),
    "bytes": lambda tree: base64.b64decode(tree["data"]),
    "slice": lambda tree: slice(*tree["parts"]),
    "range": lambda tree: range(*tree["parts"]),
    "datetime": lambda tree: dt.datetime.fromisoformat(tree["iso"]),
    "date": lambda tree: dt.date.fromisoformat(tree["iso"]),
    "time": lambda tree: dt.time.fromisoformat(tree["iso"]),
    "timedelta": lambda tree: dt.timedelta(*tree["parts"]),
    "array": _array,
    "scalar": lambda tree: decode(tree["array"])[()],
    "matrix": _matrix,
    "dtype": _dtype,
    "sparse": _sparse,
    "tensor": _tensor,
    **dict.fromkeys(_PANDAS, _pandas),
}
