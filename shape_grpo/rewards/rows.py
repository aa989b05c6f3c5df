"""Rows of the data, as verl's dataset class reads them."""

import json
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

JSON_SUFFIXES = (".json", ".jsonl")
SUFFIXES = (".parquet", *JSON_SUFFIXES)
"""Ends of the names of files that verl's dataset class reads."""
_SPACE = re.compile(r"\s*")


def read_row(path: Path, number: int) -> dict[str, Any]:
    """Read one row of a file in verl's columns: parquet, unless its name ends as JSON's.

    Args:
        path: The file.
        number: Index of the row, from 0.

    Raises:
        ValueError: The file does not exist, cannot be read, or has fewer rows.
    """
    from pyarrow import ArrowException, dataset

    if not path.is_file():
        raise ValueError(f"there is no {path}")
    if path.suffix in JSON_SUFFIXES:
        found = list(islice(read_rows(path), number, number + 1)) if number >= 0 else []
        if not found:
            raise ValueError(f"{path} has no row {number}")
        return found[0]
    try:
        table = dataset.dataset(path, format="parquet")
        rows = table.count_rows()
        if not 0 <= number < rows:
            raise ValueError(f"{path} has the rows 0 to {rows - 1}, and no row {number}")
        row: dict[str, Any] = table.take([number]).to_pylist()[0]
    except ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet ({error})") from None
    return row


def read_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet, JSON or JSON Lines file.

    Args:
        path: The file; its name ends with one of `SUFFIXES`.
        columns: Columns that are read of a parquet file; None: all.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It has another format than its name says.
    """
    if path.suffix in JSON_SUFFIXES:
        for number, row in enumerate(_read_json(path), start=1):
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is no object but {row!r:.60}")
            yield row
        return
    # Imported here because the import takes a quarter of a second.
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(path)
    names = [name for name in file.schema_arrow.names if columns is None or name in columns]
    for batch in file.iter_batches(1024, columns=names):
        yield from batch.to_pylist()


def read_schema(path: Path) -> Any:
    """Return the Arrow schema of a file's columns, as ``datasets`` reads them.

    Of an array in a JSON file, and of JSON that Arrow cannot read, it has no columns.

    Raises:
        OSError: The file cannot be opened.
    """
    import pyarrow
    from pyarrow import json, parquet

    if path.suffix not in JSON_SUFFIXES:
        return parquet.read_schema(path)
    try:
        return json.read_json(path).schema
    except pyarrow.ArrowException:
        return pyarrow.schema([])


def _read_json(path: Path) -> Iterator[Any]:
    """Yield the objects of an array, of one line each, or of several lines each."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            first = json.loads(next(filter(str.strip, file), "[]"))
        except json.JSONDecodeError:  # An array or objects in several lines.
            yield from _read_values(path.read_text(encoding="utf-8-sig").strip())
            return
        yield from first if isinstance(first, list) else [first]
        for line in filter(str.strip, file):
            yield json.loads(line)


def _read_values(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        value, end = decoder.raw_decode(text, place)
        yield from value if isinstance(value, list) else [value]
        space = _SPACE.match(text, end)
        place = space.end() if space else end
