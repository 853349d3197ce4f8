"""The rows of the matrix as lines of a terminal and as the table of ``docs/models.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.matrix.measure import SITES, Row

COLUMNS = (
    "forward",
    "packed",
    "sweep",
    "knockout",
    "attribution",
    "decompose",
    "lens",
    "generation",
)
BEGIN, END = "<!-- rows: begin -->", "<!-- rows: end -->"

_SLOW = "one forward per cell"
_ALONE = "one prompt per forward"
_SHORT = {_SLOW: "slow cells", _ALONE: "slow prompts"}


def line(row: Row) -> str:
    """A row as one line: what it is, the outcome, the largest differences, notes and faults."""
    head = f"{row.class_name} {row.dtype} {_mode(row)}:"
    if row.refusal:
        return f"{head} refused: {row.refusal}"
    values = _by_column(row)
    shown = " ".join(f"{name} {_number(value, row)}" for name, value in values.items())
    faults = f" FAULT: {'; '.join(row.faults)}" if row.faults else ""
    return " | ".join([f"{head} loaded {shown}", *_distinct(row.notes)]) + faults


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Replace the rows of these classes in the table of a page; the others stay."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    old, after = rest.split(END)
    by_class: dict[str, list[str]] = {}
    for text in old.splitlines():
        if found := re.match(r"\| ([A-Z]\w+) \|", text):
            by_class.setdefault(found[1], []).append(text)
    new: dict[str, list[Row]] = {}
    for row in rows:
        new.setdefault(row.class_name, []).append(row)
    by_class.update({name: _table_rows(found) for name, found in new.items()})
    body = "\n".join(text for name in sorted(by_class) for text in by_class[name])
    path.write_text(f"{before}{BEGIN}\n{_header()}\n{body}\n{END}{after}", encoding="utf-8")


def _header() -> str:
    names = ["class", "type, mode", *COLUMNS, "notes"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def _table_rows(rows: list[Row]) -> list[str]:
    """A line per row; one for all where they are refused for the same reason."""
    refusals = {row.refusal for row in rows}
    if len(rows) > 1 and len(refusals) == 1 and rows[0].refusal:
        cells = [rows[0].class_name, "all", *[""] * len(COLUMNS), f"refused: {rows[0].refusal}"]
        return [f"| {' | '.join(cells)} |"]
    return [_table_row(row) for row in rows]


def _table_row(row: Row) -> str:
    cells = [row.class_name, f"{row.dtype}, {_mode(row)}"]
    if row.refusal:
        cells += [""] * len(COLUMNS) + [f"refused: {row.refusal}"]
    else:
        values = _by_column(row)
        cells += [_number(values[name], row) if name in values else "-" for name in COLUMNS]
        cells.append("; ".join([*_short_notes(row), *(f"FAULT: {fault}" for fault in row.faults)]))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _mode(row: Row) -> str:
    return "compatibility" if row.compatibility else "raw"


def _by_column(row: Row) -> dict[str, float]:
    values = {name: row.differences[name] for name in COLUMNS if name in row.differences}
    sweeps = [row.differences[f"sweep {s}"] for s in SITES if f"sweep {s}" in row.differences]
    if sweeps:
        values["sweep"] = max(sweeps)
    return {name: values[name] for name in COLUMNS if name in values}


def _number(value: float, row: Row) -> str:
    return f"{value:.0e}" if row.dtype == "float32" else f"{value:.1f}"


def _short_notes(row: Row) -> list[str]:
    """Without the reasons, which are long: ``make matrix`` prints them."""
    short = [_SHORT.get(note.split(":")[0], f"no {note.split(':')[0]}") for note in row.notes]
    return list(dict.fromkeys(short))


def _distinct(notes: Iterable[str]) -> list[str]:
    """One of those that differ in numbers, sites and layers only."""
    return list({re.sub(r"\(layer.*\)", "", note): note for note in notes}.values())
