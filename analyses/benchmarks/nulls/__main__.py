"""``python -m analyses.benchmarks.nulls``: see :mod:`analyses.benchmarks.nulls`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analyses.benchmarks.nulls.draws import PoolRows
from analyses.benchmarks.nulls.measure import Task, draw_all, shares
from analyses.benchmarks.nulls.pool import ITEMS, make_rows, read_wordings, write_pool
from interp.data import load_items
from interp.models import DEFAULT_MODEL, load_model, load_tokenizer
from interp.prompts import TextBank

SIZES = (8, 24, 48)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the rows where they are missing, draw, and print the shares."""
    asked = _parse(arguments)
    if not asked.draw_only:
        if not (asked.out / ITEMS).is_file():
            _begin(asked, TextBank(load_tokenizer(asked.model)))
        if asked.stop_after == "files":
            return
        make_rows(asked.out, load_model(asked.model, device=asked.device))
    if asked.stop_after == "rows":
        return
    pool = PoolRows.of(asked.out)
    tasks: list[Task] = [
        (asked.out, n, k, asked.seed)
        for n in asked.sizes
        if n <= pool.n_items
        for k in range(asked.draws)
    ]
    rows = pd.DataFrame(list(draw_all(tasks, asked.jobs)))
    rows.to_parquet(asked.out / "draws.parquet", index=False)
    print(f"{pool.n_rounds * 12} wordings, {pool.n_items} items, {asked.draws} draws a size")
    print(shares(rows).to_string(index=False))
    examples = rows[rows["claim"] != ""].groupby(["report", "section"], sort=False)["claim"]
    for (report, section), found in examples:
        print(f"{report}, {section!r} ({len(found)} draws): {found.iloc[0]}")


def _begin(asked: argparse.Namespace, bank: TextBank) -> None:
    """A new pool's files."""
    options = {"limit": asked.items, "seed": asked.seed}
    items = load_items("bbq", context_condition="ambiguous", **options)
    texts = read_wordings(asked.wordings)
    write_pool(asked.out, bank, texts, items, n_pairs=asked.pairs, seed=asked.seed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="placebo against placebo")
    parser.add_argument("--out", type=Path, default=Path("runs/nulls"), help="folder of the rows")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--device", default="cpu", help="where the rows are made: cpu, cuda")
    parser.add_argument("--wordings", type=Path, help='other placebos, lines {"text": ...}')
    parser.add_argument("--items", type=int, default=max(SIZES), help="ambiguous BBQ items")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of wordings, at most")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="items of a draw")
    parser.add_argument("--jobs", type=int, default=1, help="processes that draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stop-after",
        choices=("files", "rows"),
        help="files: items and conditions, for a machine without data sets; rows: draw nothing",
    )
    parser.add_argument("--draw-only", action="store_true", help="draw from rows that are there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
