"""Rows of the data, for the arguments of reward functions."""

from pathlib import Path
from typing import Any


def read_row(path: Path, number: int) -> dict[str, Any]:
    """Read one row of a parquet file in verl's columns.

    Args:
        path: The file.
        number: Index of the row, from 0.

    Raises:
        ValueError: The file does not exist, is no parquet file, or has fewer rows.
    """
    from pyarrow import ArrowException, dataset

    if not path.is_file():
        raise ValueError(f"there is no {path}")
    try:
        table = dataset.dataset(path, format="parquet")
        rows = table.count_rows()
        if not 0 <= number < rows:
            raise ValueError(f"{path} has the rows 0 to {rows - 1}, and no row {number}")
        row: dict[str, Any] = table.take([number]).to_pylist()[0]
    except ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet ({error})") from None
    return row
