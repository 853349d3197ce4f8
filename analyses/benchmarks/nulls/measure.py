"""How often a report prints an effect: the claims of every draw, and their shares."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

import analyses
import interp
from analyses.benchmarks.nulls.claims import claims_of
from analyses.benchmarks.nulls.draws import Draw, PoolRows
from interp.runs.atomic import atomic_path

Task = tuple[Path, int, int, bool]
"""A pool's folder, items of the draw, its number, and whether it is one of power."""

KEPT = Path(__file__).parents[3] / "docs" / "rows" / "nulls" / "draws.parquet"
"""The draws behind the table of ``docs/methods.md``: a copy of the pool's ``draws.parquet``."""

_KEYS = ["power", "items", "draw"]


def draw_all(
    tasks: Sequence[Task], *, jobs: int, deadline: float
) -> Iterator[list[dict[str, object]]]:
    """The rows of every draw, computed in so many processes, until the deadline."""
    with get_context("spawn").Pool(jobs) if jobs > 1 else nullcontext() as workers:
        found = map(_draw_one, tasks) if workers is None else workers.imap(_draw_one, tasks)
        for rows in tqdm(found, total=len(tasks), desc="draws"):
            yield rows
            if time.time() >= deadline:
                return


def draw_rows(pool: PoolRows, n_items: int, number: int, power: bool) -> list[dict[str, object]]:
    """One row per report of a draw: whether it claims an effect, and what it names, by kind."""
    seed, draw_of = [pool.plan.seed, n_items, number], Draw.power if power else Draw.random
    draw = draw_of(pool.plan, pool.read, n_items, seed=seed)
    rows: list[dict[str, object]] = []
    for report, found in claims_of(pool, draw).items():
        said = "; ".join(f"{kind} {name}" for kind, name in found)
        key = {"report": report, "items": n_items, "draw": number, "power": power}
        rows.append(key | {"claims": len(found), "named": said[:500]})
    return rows


def measure(
    folder: Path, sizes: Sequence[int], n_draws: int, *, power: bool, jobs: int, deadline: float
) -> pd.DataFrame:
    """The rows of all draws, of which those in ``draws.parquet`` are not drawn again.

    Those made by other code (its statistics, rules, or the studies' defaults) are.
    """
    path, code = folder / "draws.parquet", code_digest()
    kept = pd.read_parquet(path) if path.is_file() else pd.DataFrame(columns=[*_KEYS, "code"])
    kept = kept[kept["code"] == code] if "code" in kept else kept.iloc[:0]
    done = set(map(tuple, kept[_KEYS].to_numpy().tolist()))
    n_read = len(PoolRows(folder).read)
    tasks = [
        (folder, n, k, power)
        for n in sizes
        for k in range(n_draws)
        if n <= n_read and (power, n, k) not in done
    ]
    drawn = draw_all(tasks, jobs=jobs, deadline=deadline)
    found = [row | {"code": code} for rows in drawn for row in rows]
    both = [rows for rows in (kept, pd.DataFrame(found)) if len(rows)]
    table = pd.concat(both, ignore_index=True) if both else kept
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
    return table[(table["power"] == power) & table["items"].isin(sizes) & (table["draw"] < n_draws)]


def code_digest() -> str:
    """SHA-256 of the source that decides what a draw claims: all of ``interp`` and ``analyses``."""
    found = hashlib.sha256()
    for package in (interp, analyses):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of draws in which a report prints an effect, with its standard error."""
    any_claim = rows.assign(any=rows["claims"] > 0).groupby(["report", "items"], sort=False)["any"]
    table = any_claim.agg(["mean", "size"]).reset_index()
    error = np.sqrt(table["mean"] * (1 - table["mean"]) / table["size"])
    return table.rename(columns={"mean": "share", "size": "draws"}).assign(
        se=error.round(3), share=table["mean"].round(3)
    )[["report", "items", "draws", "share", "se"]]


def _draw_one(task: Task) -> list[dict[str, object]]:
    folder, n_items, number, power = task
    return draw_rows(_pool_of(folder), n_items, number, power)


@cache
def _pool_of(folder: Path) -> PoolRows:
    """The pool, read once a process."""
    pool = PoolRows(folder)
    _ = pool.arrays, pool.scored, pool.maps
    gc.freeze()  # Holm's correction collects garbage, which need not be looked for in here
    return pool
