"""``python -m analyses.benchmarks.nulls``: see :mod:`analyses.benchmarks.nulls`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from analyses.benchmarks.nulls.measure import measure, shares
from analyses.benchmarks.nulls.pool import PLAN, read_wordings, write_pool
from analyses.benchmarks.nulls.rows import make_rows
from interp.data import load_items
from interp.models import DEFAULT_MODEL, load_tokenizer
from interp.prompts import TextBank

SIZES = (8, 24, 48)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the rows where they are missing, draw, and print the shares."""
    asked = _parse(arguments)
    deadline = time.time() + asked.limit_seconds
    if not asked.draw_only:
        if not (asked.out / PLAN).is_file():
            _begin(asked)
        if asked.stop_after == "files":
            return
        options = {"device": asked.device, "jobs": asked.jobs, "threads": asked.threads}
        if missing := make_rows(asked.out, **options, deadline=deadline):
            print(f"stopped in time: {missing} items are missing, run it again to go on")
            return
    if asked.stop_after == "rows":
        return
    rows = measure(
        asked.out,
        asked.sizes,
        asked.draws,
        power=asked.power,
        jobs=asked.jobs,
        deadline=deadline,
    )
    print("the control poses as the instruction" if asked.power else "placebo against placebo")
    print(shares(rows).to_string(index=False))
    for report, found in rows[rows["claims"] > 0].groupby("report", sort=False)["named"]:
        print(f"{report} ({len(found)} draws), for example: {found.iloc[0]}")


def _begin(asked: argparse.Namespace) -> None:
    """A new pool's files: ambiguous items with an answer to abstain with and one to avoid."""
    items = load_items(
        asked.dataset, context_condition="ambiguous", seed=asked.seed, limit=asked.items
    )
    write_pool(
        asked.out,
        TextBank(load_tokenizer(asked.model), seed=asked.seed),
        read_wordings(asked.wordings),
        [item for item in items if item.contrast() is not None],
        model=asked.model,
        n_wordings=asked.most_wordings,
        n_pairs=asked.pairs,
        seed=asked.seed,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="placebo against placebo")
    parser.add_argument("--out", type=Path, default=Path("runs/nulls"), help="folder of the rows")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of a new pool")
    parser.add_argument("--dataset", default="bbq", help="items of a new pool")
    parser.add_argument("--wordings", type=Path, help='other placebos, lines {"text": ...}')
    parser.add_argument("--most-wordings", type=int, default=36, help="of one token count")
    parser.add_argument("--items", type=int, default=60, help="ambiguous items of a new pool")
    parser.add_argument("--pairs", type=int, default=12, help="patched pairs of an item")
    parser.add_argument("--seed", type=int, default=0, help="of a new pool")
    parser.add_argument("--device", default="cpu", help="where the rows are made: cpu, cuda")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=2, help="of each, where there are several")
    parser.add_argument(
        "--limit-seconds",
        type=float,
        default=float("inf"),
        help="begin nothing after so many seconds; the same command goes on later",
    )
    parser.add_argument("--draws", type=int, default=200, help="of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="items of a draw")
    parser.add_argument(
        "--power", action="store_true", help="the control that names the answer as the instruction"
    )
    parser.add_argument(
        "--stop-after",
        choices=("files", "rows"),
        help="files: items and wordings, for a machine without data sets; rows: draw nothing",
    )
    parser.add_argument("--draw-only", action="store_true", help="draw from rows that are there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
