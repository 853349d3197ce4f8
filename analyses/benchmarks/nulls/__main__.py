"""``python -m analyses.benchmarks.nulls``: see :mod:`analyses.benchmarks.nulls`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from analyses.benchmarks.nulls.claims import claims
from analyses.benchmarks.nulls.draws import Draw, PoolRows, tell_draw
from analyses.benchmarks.nulls.pool import ITEMS, make_rows, read_wordings, write_pool
from interp.data import load_items
from interp.models import DEFAULT_MODEL, load_model
from interp.prompts import TextBank

SIZES = (8, 24, 48)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the rows where they are missing, draw, and print the shares."""
    asked = _parse(arguments)
    if not asked.draw_only:
        model = load_model(asked.model, device=asked.device)
        if not (asked.out / ITEMS).is_file():
            _begin(asked, TextBank(model.tokenizer))
        make_rows(asked.out, model)
    if asked.rows_only:
        return
    pool = PoolRows.of(asked.out)
    sizes = [n for n in asked.sizes if n <= pool.n_items]
    told = [
        row
        for n in sizes
        for k in tqdm(range(asked.draws), desc=f"{n} items")
        for row in draw_rows(pool, n, k, asked.seed)
    ]
    rows = pd.DataFrame(told)
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


def draw_rows(pool: PoolRows, n_items: int, number: int, seed: int) -> list[dict[str, object]]:
    """One row per report of a draw, or per section with a claim."""
    of = {"of_items": pool.n_items, "of_rounds": pool.n_rounds}
    draw = Draw.random(n_items, **of, seed=[seed, n_items, number])
    rows: list[dict[str, object]] = []
    for report, story in tell_draw(pool, draw).items():
        found = dict(claims(story)) or {"": ""}
        key = {"report": report, "items": n_items, "draw": number}
        rows += [key | {"section": section, "claim": said} for section, said in found.items()]
    return rows


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of draws in which a report prints an effect, with its standard error."""
    any_claim = rows.assign(any=rows["claim"] != "").groupby(["report", "items", "draw"])["any"]
    by_size = any_claim.any().groupby(["report", "items"]).agg(["mean", "size"]).reset_index()
    error = np.sqrt(by_size["mean"] * (1 - by_size["mean"]) / by_size["size"])
    return by_size.rename(columns={"mean": "share", "size": "draws"}).assign(
        se=error.round(3), share=by_size["mean"].round(3)
    )[["report", "items", "draws", "share", "se"]]


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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows-only", action="store_true", help="make the rows and stop")
    parser.add_argument("--draw-only", action="store_true", help="draw from rows that are there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
