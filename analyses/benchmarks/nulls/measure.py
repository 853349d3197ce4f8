"""How often a report prints an effect: every draw told, its claims counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from analyses.benchmarks.nulls.claims import claims
from analyses.benchmarks.nulls.draws import Draw, PoolRows, tell_draw

Task = tuple[Path, int, int, int]
"""A pool's folder, items of the draw, its number, the seed."""


def draw_all(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, object]]:
    """The rows of every draw, in order, computed in so many processes."""
    with get_context("spawn").Pool(jobs) if jobs > 1 else nullcontext() as pool:
        found = map(_draw_one, tasks) if pool is None else pool.imap(_draw_one, tasks)
        for rows in tqdm(found, total=len(tasks), desc="draws"):
            yield from rows


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


def _draw_one(task: Task) -> list[dict[str, object]]:
    folder, n_items, number, seed = task
    return draw_rows(_pool_of(folder), n_items, number, seed)


@cache
def _pool_of(folder: Path) -> PoolRows:
    """The pool, read once a process."""
    return PoolRows.of(folder)
