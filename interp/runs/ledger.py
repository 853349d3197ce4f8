"""The ledger of one table: which units of work are done, and their rows.

A unit (say, one batch of prompts) is named by what it is, not by its number: its key is the SHA-256
of the canonical JSON of the table's name, the caller's description of the unit and the caller's
version. Its rows are written as one parquet file as soon as they exist. A unit whose file is there,
whole and under its own key is never computed again; a unit that was interrupted is redone whole.
Since the merge follows the plan and reads every part from its file, a table has the same bytes
however often its making was interrupted, provided ``compute`` depends on its unit alone.

    table = run.ledger("scores", version=2)     # a new version forgets the parts of the old one
    table.run(batches, key=lambda b: {"ids": b.ids}, compute=score)
    frame = table.merge(sort_by=["item", "condition"])

A table too large for memory is written by :meth:`Ledger.stream` and read unit by unit
(:meth:`Ledger.parts`, :func:`read_parts <interp.runs.read_parts>`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from interp.errors import InterpError
from interp.runs.atomic import make_folder
from interp.runs.canonical import canonical_json, digest
from interp.runs.parquet import concatenate, read_part, to_arrow, write_part

Unit = TypeVar("Unit")


@runtime_checkable
class Mapper(Protocol):
    """How units are computed: like ``map``, lazily and in order, in this process or in others."""

    def __call__(
        self, compute: Callable[[Unit], pd.DataFrame], units: Sequence[Unit], /
    ) -> Iterable[pd.DataFrame]:
        """The rows of every unit, in order."""


@runtime_checkable
class Home(Protocol):
    """What a ledger needs of the run it belongs to."""

    path: Path

    def require_open(self) -> None:
        """Raise InterpError once the run has been left."""

    def publish(self, name: str, table: pa.Table) -> None:
        """Write the merged ``<name>.parquet``."""

    def file(self, name: str) -> AbstractContextManager[Path]:
        """A temporary path that becomes ``name`` when the block ends well."""


@dataclass(frozen=True)
class Tally:
    """How many units a plan has, how many were already on disk, how many were computed now."""

    total: int
    resumed: int
    computed: int


class Ledger:
    """The units of one table of a run; made by :meth:`interp.runs.Run.ledger`."""

    def __init__(self, home: Home, name: str, version: int | str) -> None:
        self.name = name
        self.version = version
        self.folder = home.path / "parts" / name
        self._home = home
        self._plan: dict[str, str] = {}
        self._columns: list[str] = []

    def run(
        self,
        units: Sequence[Unit],
        *,
        key: Callable[[Unit], Any],
        compute: Callable[[Unit], pd.DataFrame],
        mapper: Mapper = map,
        progress: bool = True,
    ) -> Tally:
        """Do the units that are not on disk yet, in order, each stored before the next begins.

        ``key`` describes a unit in JSON values (anything that decides its rows and is not already
        part of the run's identity); ``compute`` returns its rows, with the same columns for every
        unit, or an empty frame. ``mapper`` computes the missing units in order, by default one after
        the other in this process. May be called several times: the plans follow each other.

        Raises InterpError for two units of one description, for columns that change from unit to
        unit, and when a part cannot be written. Exceptions of ``compute`` and ``KeyboardInterrupt``
        pass through; the units before are safe.
        """
        self._home.require_open()
        make_folder(self.folder)
        names = self._name_units([key(unit) for unit in units])
        missing = [
            (name, unit)
            for name, unit in zip(names, units, strict=True)
            if not self._is_done(name, names[name])
        ]
        resumed = len(names) - len(missing)
        with tqdm(
            total=len(names), initial=resumed, desc=self.name, unit="unit", disable=not progress
        ) as bar:
            frames = mapper(compute, [unit for _, unit in missing])
            for (name, _), frame in zip(missing, frames, strict=True):
                self._store(name, names[name], frame)
                bar.update()
        self._plan.update(names)
        return Tally(total=len(names), resumed=resumed, computed=len(missing))

    def merge(self, *, sort_by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Write ``<table>.parquet`` from the parts and return it as a frame with a fresh row index.

        Rows are in plan order, or sorted by the columns ``sort_by`` (ascending, missing values
        last, ties in plan order). Columns that are integer in some parts and float in others become
        float. Raises InterpError before :meth:`run` has ended, or if a part has vanished since.
        """
        table = concatenate(list(self._parts()), f"table {self.name!r}")
        if sort_by is not None:
            table = self._sort(table, [sort_by] if isinstance(sort_by, str) else list(sort_by))
        self._home.publish(self.name, table)
        return table.to_pandas()

    def parts(self) -> Iterator[pd.DataFrame]:
        """The rows of every unit in plan order, one unit in memory at a time.

        Raises InterpError before :meth:`run` has ended, or if a part has vanished since.
        """
        for part in self._parts():
            yield part.to_pandas()

    def stream(self) -> None:
        """Write ``<table>.parquet`` unit by unit, a row group each, in constant memory.

        For tables of lists that :meth:`merge` would hold whole; every unit must have the same column
        types. Raises InterpError as :meth:`merge`, and for a unit whose types differ.
        """
        parts = self._parts()
        first = next(parts)
        with (
            self._home.file(f"{self.name}.parquet") as path,
            pq.ParquetWriter(path, first.schema, compression="zstd") as writer,
        ):
            for part in chain([first], parts):
                if part.schema != first.schema:
                    raise InterpError(
                        f"table {self.name!r}: a unit's column types differ from the first unit's"
                    )
                writer.write_table(part)

    def _parts(self) -> Iterator[pa.Table]:
        self._home.require_open()
        if not self._plan:
            raise InterpError(f"table {self.name!r}: no unit has been run, nothing to merge")
        return (self._reread(name, described) for name, described in self._plan.items())

    def _name_units(self, descriptions: Sequence[Any]) -> dict[str, str]:
        """Unit key -> canonical description, in plan order."""
        names: dict[str, str] = {}
        where = f"table {self.name!r}: the key of a unit"
        for description in descriptions:
            text = canonical_json(description, where)
            name = digest([self.name, description, self.version], where)
            if name in names or name in self._plan:
                raise InterpError(
                    f"table {self.name!r}: two units have the key {text}: "
                    "let the key say what distinguishes them"
                )
            names[name] = text
        return names

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def _is_done(self, name: str, described: str) -> bool:
        part = read_part(self._path(name), name)
        if part is None:
            return False
        self._require_same_columns(part, described)
        return True

    def _store(self, name: str, described: str, frame: pd.DataFrame) -> None:
        part = to_arrow(frame, f"table {self.name!r}, unit {described}")
        self._require_same_columns(part, described)
        write_part(self._path(name), part, name)

    def _reread(self, name: str, described: str) -> pa.Table:
        part = read_part(self._path(name), name)
        if part is None:
            raise InterpError(
                f"{self._path(name)}: the part of unit {described} is missing or damaged: run again"
            )
        return part

    def _require_same_columns(self, part: pa.Table, described: str) -> None:
        if not part.num_columns:
            return
        self._columns = self._columns or part.column_names
        if part.column_names != self._columns:
            raise InterpError(
                f"table {self.name!r}, unit {described}: has columns {part.column_names}, other "
                f"units have {self._columns}: if the code has changed, raise the ledger's version"
            )

    def _sort(self, table: pa.Table, columns: list[str]) -> pa.Table:
        unknown = [name for name in columns if name not in table.column_names]
        if unknown and table.num_columns:
            raise InterpError(
                f"table {self.name!r}: cannot sort by {unknown}, columns are {table.column_names}"
            )
        return table.sort_by([(name, "ascending") for name in columns]) if not unknown else table
