"""Tables as parquet files whose bytes depend on their content alone.

The writing options are fixed, and pandas' own metadata (its version, the row index) is left out: a
frame is its columns, of truth values, numbers, text and lists of these. Row indexes are therefore
dropped, categoricals become plain values, nullable pandas types come back as ordinary ones, and
times are refused. Equal bytes also need the same pyarrow, whose version each file names.

A damaged part is noticed: its pages carry checksums, and its footer the unit's key, the row count
and a digest of the columns' names and types, all verified on reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interp.errors import InterpError
from interp.runs.atomic import atomic_path
from interp.runs.canonical import digest

_ROW_GROUP = 1 << 17


def to_arrow(frame: pd.DataFrame, what: str) -> pa.Table:
    """The columns of ``frame``; ``what`` names it in errors.

    Raises InterpError for a named row index (it would be lost), column names that are not unique
    text, and columns of mixed or other types than the module allows.
    """
    if any(name is not None for name in frame.index.names):
        names = [name for name in frame.index.names if name is not None]
        raise InterpError(f"{what}: the row index {names} would be lost: call reset_index() first")
    columns = list(frame.columns)
    if any(not isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise InterpError(f"{what}: column names must be different texts, are {columns}")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
        table = _decode_dictionaries(table).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError) as error:
        raise InterpError(f"{what}: cannot be stored as columns: {_one_line(error)}") from error
    for field in table.schema:
        if not _is_plain(field.type):
            raise InterpError(
                f"{what}: column {field.name!r} has type {field.type}: "
                "store truth values, numbers, text or lists of these"
            )
    return table


def concatenate(tables: list[pa.Table], what: str) -> pa.Table:
    """The rows of ``tables`` in order.

    Integer and float columns meet as float, columns without a value take the others' type, tables
    without columns contribute nothing. Raises InterpError for types that do not meet.
    """
    filled = [table.replace_schema_metadata(None) for table in tables if table.num_columns]
    if not filled:
        return pa.table({})
    try:
        return pa.concat_tables(filled, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise InterpError(f"{what}: the parts do not fit together: {_one_line(error)}") from error


def encode(path: Path, table: pa.Table) -> None:
    """Write ``table`` to ``path``, the same bytes for the same content (atomic if ``path`` is)."""
    pq.write_table(
        table,
        str(path),
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        row_group_size=_ROW_GROUP,
        use_dictionary=True,
        write_statistics=True,
        write_page_checksum=True,
        store_schema=True,
        use_compliant_nested_type=False,  # a list column keeps its exact type on reading
    )


def write_part(path: Path, table: pa.Table, key: str) -> None:
    """Write one unit's rows together with its key and row count, atomically."""
    with atomic_path(path) as temporary:
        encode(temporary, table.replace_schema_metadata(_facts(table, key)))


def read_part(path: Path, key: str) -> pa.Table | None:
    """The rows of the unit ``key``, or None if the file is missing, damaged or another unit's."""
    try:
        table = _read(path)
    except (OSError, ValueError, pa.ArrowException):
        return None
    if table.schema.metadata != _facts(table, key):
        return None
    return table.replace_schema_metadata(None)


def read_table(folder: str | Path, name: str) -> pd.DataFrame:
    """The merged table ``<name>.parquet`` of a run folder. Raises InterpError if there is none."""
    path = Path(folder) / f"{name}.parquet"
    if not path.is_file():
        raise InterpError(f"{path}: no such table: has the run that makes it ended?")
    try:
        return _read(path).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InterpError(f"{path}: cannot be read ({_one_line(error)}): run again") from error


def read_parts(folder: str | Path, name: str) -> Iterator[pd.DataFrame]:
    """The table ``<name>.parquet`` of a run folder, a row group at a time, in constant memory.

    Of a table written by :meth:`Ledger.stream <interp.runs.Ledger.stream>` a row group is a unit.
    Raises InterpError if there is none.
    """
    path = Path(folder) / f"{name}.parquet"
    if not path.is_file():
        raise InterpError(f"{path}: no such table: has the run that makes it ended?")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InterpError(f"{path}: cannot be read ({_one_line(error)}): run again") from error


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(use_threads=False)
    table.validate(full=True)
    return table


def _facts(table: pa.Table, key: str) -> dict[bytes, bytes]:
    columns = [[field.name, str(field.type), field.nullable] for field in table.schema]
    return {
        b"interp.unit": key.encode(),
        b"interp.rows": str(table.num_rows).encode(),
        b"interp.columns": digest(columns).encode(),
    }


def _is_plain(kind: Any) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_plain(kind.value_type)
    allowed = ("boolean", "integer", "floating", "string", "large_string", "null")
    return any(getattr(pa.types, f"is_{name}")(kind) for name in allowed)


def _decode_dictionaries(table: pa.Table) -> pa.Table:
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
