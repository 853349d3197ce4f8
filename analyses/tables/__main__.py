"""``python -m analyses.tables``: see :mod:`analyses.tables`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from analyses.tables.entries import render
from analyses.tables.pages import problems, read_pages, write_tables
from analyses.tables.runs import ROWS, RUNS, find_run, make_rows
from interp.errors import InterpError
from interp.models import load_model

ROOT = ROWS.parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, check or make rows; the exit status."""
    asked = _parse(arguments)
    try:
        if asked.rows:
            _make(asked)
        elif asked.check:
            return _check()
        else:
            _write()
    except InterpError as error:
        print(f"analyses.tables: {error}", file=sys.stderr)
        return 2
    return 0


def pages() -> list[Path]:
    """Where tables may stand."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _make(asked: argparse.Namespace) -> None:
    """The rows of the runs that are named, one model after the other."""
    names = list(RUNS) if asked.rows == "all" else asked.rows.split(",")
    folders, data = (dict(entry.split("=", 1) for entry in of) for of in (asked.model, asked.data))
    options = {"out": asked.out, "rows": asked.into, "data": data, "jobs": asked.jobs}
    for wanted in dict.fromkeys(find_run(name).model for name in names):
        model = None
        if asked.jobs == 1:
            model = load_model(folders.get(wanted, wanted), device=asked.device)
        elif wanted in folders:
            raise InterpError("--jobs loads models by name: leave --model out, or --jobs")
        for name in names:
            if RUNS[name].model == wanted:
                make_rows(name, model, **options)


def _check() -> int:
    found = problems(read_pages(pages()), cache(render))
    for problem in found:
        print(problem)
    return 1 if found else 0


def _write() -> None:
    for path, text in read_pages(pages()).items():
        written = write_tables(text, render)
        if written != text:
            path.write_text(written, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written anew")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.tables",
        description="Tables of README and docs from committed rows.",
    )
    parser.add_argument("--check", action="store_true", help="fail where a page differs")
    parser.add_argument("--rows", help=f"make rows anew: all, or some of {', '.join(RUNS)}")
    parser.add_argument("--device", default="auto", help="of the model: auto, cpu, cuda")
    parser.add_argument(
        "--model", action="append", default=[], help="NAME=FOLDER: weights of a catalogue model"
    )
    parser.add_argument(
        "--data", action="append", default=[], help="NAME=PLACE: a data set's local file or folder"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that compute units")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="folders of the runs")
    parser.add_argument("--into", type=Path, default=ROWS, help="where the rows are kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
