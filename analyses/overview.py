"""Run folders at a glance, from their manifests and tables alone: nothing here loads torch or a study.

for found in find_runs("runs"):
    print(found.name, found.status, found.headline)
read_facts("runs/age").findings()       # the table that a report's main sentence is read from
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError, did_you_mean
from interp.runs.manifest import MANIFEST_NAME, WRITER_NAME, read_manifest

if TYPE_CHECKING:
    import pandas as pd

DEEPEST = 3
"""How many folders below the one that is listed a run may lie."""


@dataclass(frozen=True)
class RunFacts:
    """What a folder is a run of, and what became of it.

    ``name``: the folder as it was listed; ``status``: ``complete``, ``running``, ``interrupted``,
    ``failed`` or ``killed`` (it ended without updating its manifest); ``started``, ``ended``: of its
    last session, UTC.
    """

    folder: Path
    name: str
    manifest: Mapping[str, Any]
    status: str

    @property
    def study(self) -> str:
        """The kind of run: ``patch``."""
        return str(self.manifest["study"])

    @property
    def config(self) -> Mapping[str, Any]:
        """What was asked."""
        config: Mapping[str, Any] = self.manifest["config"]
        return config

    @property
    def model(self) -> str:
        """The model's name, as its card has it."""
        return str((self.manifest["model"] or {}).get("name") or self.config.get("model", ""))

    @property
    def data(self) -> str:
        """Items or texts by name."""
        chosen = self.config.get("items")
        if chosen is None and not isinstance(self.config.get("texts"), int):
            chosen = self.config.get("texts")  # sets of sentences, not a number of wordings
        return ",".join(chosen) if isinstance(chosen, list) else str(chosen or "")

    @property
    def condition(self) -> str:
        """The condition asked about, or all of them."""
        named = self.config.get("condition", self.config.get("conditions", ""))
        return ",".join(named) if isinstance(named, list) else str(named)

    @property
    def metric(self) -> str:
        """What was read, where the study has several metrics."""
        return str(self.config.get("metric", ""))

    @property
    def started(self) -> str:
        """When the last session began: ``2026-03-01 12:30``."""
        return str(self._last().get("started", ""))[:16].replace("T", " ")

    @property
    def ended(self) -> str:
        """When the last session ended; empty if it did not."""
        return str(self._last().get("ended", ""))[:16].replace("T", " ")

    @property
    def headline(self) -> str:
        """The run's main sentence; of one that has not ended, how that came about."""
        return str(self.manifest["headline"] or self._last().get("error", ""))

    def tables(self) -> list[str]:
        """Its tables: first the findings, which are written as CSV too, then what was measured."""
        files = self.manifest["files"]
        findings = [name.removesuffix(".csv") for name in files if name.endswith(".csv")]
        every = [name.removesuffix(".parquet") for name in files if name.endswith(".parquet")]
        return [*findings, *(name for name in every if name not in findings)]

    def main_table(self) -> str:
        """The first of its tables that holds effects with intervals; empty where none does."""
        import pyarrow.parquet as pq

        for name in self.tables():
            columns = set(pq.read_schema(self.folder / f"{name}.parquet").names)
            if {"estimate", "low", "high"} <= columns or any(
                f"{c}_low" in columns for c in columns
            ):
                return name
        return ""

    def findings(self, table: str | None = None) -> pd.DataFrame:
        """A table, by default the main one.

        Raises:
            InterpError: a run that has not ended, or no such table.
        """
        from interp.runs import read_table

        if self.status != "complete":
            raise InterpError(
                f"{self.folder}: the run has not ended (status {self.status}): run its command again"
            )
        known = self.tables()
        if table is not None and table not in known:
            raise InterpError(f"{self.folder}: no table {table!r}; {did_you_mean(table, known)}")
        name = table or self.main_table()
        if not name:
            raise InterpError(f"{self.folder}: no table with effects; name one with --table")
        return read_table(self.folder, name)

    def _last(self) -> Mapping[str, Any]:
        sessions = self.manifest["sessions"]
        last: Mapping[str, Any] = sessions[-1] if sessions else {}
        return last


def read_facts(folder: str | Path, *, name: str = "") -> RunFacts:
    """What a folder is a run of.

    Raises:
        InterpError: no run there, or a manifest that cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    status = str(manifest.get("status", "unknown"))
    if status == "running" and not _has_writer(folder):
        status = "killed"
    return RunFacts(folder, name or str(folder), manifest, status)


def find_runs(root: str | Path) -> Iterator[RunFacts | InterpError]:
    """Every run in a folder and below it, by name; in place of one that cannot be read, why.

    Raises:
        InterpError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise InterpError(f"{root}: no such folder")
    places = [root] if (root / MANIFEST_NAME).exists() else _places(root, DEEPEST)
    for place in places:
        try:
            yield read_facts(place, name=str(place.relative_to(root)) if place != root else "")
        except InterpError as error:
            yield error


def _places(root: Path, depth: int) -> Iterator[Path]:
    """Runs, and folders that hold neither a run nor a folder with one."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if (folder / MANIFEST_NAME).exists() or depth == 1:
            yield folder
            continue
        inside = [place for place in _places(folder, depth - 1) if (place / MANIFEST_NAME).exists()]
        yield from inside or [folder]


def _has_writer(folder: Path) -> bool:
    """Whether the process that writes the run lives; of another machine's that is not known."""
    try:
        who = json.loads((folder / WRITER_NAME).read_text(encoding="utf-8"))
        if who["host"] != socket.gethostname():
            return True
        os.kill(int(who["pid"]), 0)
    except PermissionError:  # it lives, and is another user's
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
