"""Cells of a benchmark's row, checked; and the file that a folder holds.

What the readers of published benchmarks share. A text keeps its wording: only outer white space and
repeated blanks go. Every refusal is one line that begins with ``where`` (file and row) and names
the field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.errors import InterpError, did_you_mean


def text_of(row: Mapping[str, Any], field: str, where: str) -> str:
    """The text in ``field``, without outer white space and with single blanks."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InterpError(f"{where}, field {field!r}: expected a text, got {value!r}")
    return " ".join(value.split())


def one_of(row: Mapping[str, Any], field: str, allowed: Sequence[str], where: str) -> str:
    """The value in ``field``, which must be one of ``allowed``."""
    value = row.get(field)
    if value not in allowed:
        raise InterpError(
            f"{where}, field {field!r}: expected one of {', '.join(allowed)}, got {value!r}"
        )
    return str(value)


def file_in(path: str | Path, names: Sequence[str]) -> Path:
    """``path`` itself if it is a file, else the one file below it called like one of ``names``.

    ``names`` are tried in order, at any depth; a name may include folders ("commonsense/test.csv").
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise InterpError(f"{path}: no such file or folder")
    for name in names:
        found = sorted(path.rglob(name))
        if len(found) > 1:
            raise InterpError(f"{path}: holds both {found[0]} and {found[1]}; give one of them")
        if found:
            return found[0]
    raise InterpError(f"{path}: holds no file called {' or '.join(names)}, at any depth")


def check_category(category: str | None, known: Collection[str], path: Path) -> None:
    """Refuse a category that no row of the file has, with close matches; None means all."""
    if category is not None and category not in known:
        hint = did_you_mean(category, sorted(known))
        raise InterpError(f"{path}: no row has the category {category!r}; {hint}")
