"""Estimates beside exact sweeps: ``python -m analyses.benchmarks.attribution``.

Every method estimates all sites of a pair at once; every cell of the sites is also patched exactly
(:func:`interp.patching.sweep`). Printed are, per site and method, means over pairs of

- Pearson's and Spearman's correlation with the exact effects, over the cells that causality leaves open;
- the slope of the estimates on the exact effects (1: of the right size);
- the recall of the twenty largest effects by size among as many of the largest estimates;
- the same of a screen (:func:`interp.patching.screen`) of all sites together: what it gives is exact,
  ``run`` is the share of the site's cells that it ran;
- how much faster the exact sweeps, site by site, and the screen, as a whole, are than TransformerLens,
  whose time for a cell is that of three random ones, one prompt at a time;
- the cost of all sites together, in forwards of one prompt (a forward counts 1, a backward 2), and in
  seconds as a multiple of one plain forward's. The exact sweeps' forwards are their cells: what one
  forward per cell would take; their seconds are the engine's.

Tasks: ``bbq`` and ``specificity_2``, BBQ prompts with this instruction against its placebo, and ``ioi``,
indirect objects. The rows go to ``docs/rows/attribution``, one file per model and task, pair by pair: a
run that is started again goes on behind the last pair written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from scipy.stats import pearsonr, spearmanr
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.ioi import ioi_pairs
from analyses.benchmarks.patching import Case, by_transformer_lens, sampled_cells
from interp.data import load_items
from interp.errors import InterpError
from interp.models import DEFAULT_MODEL, load_model
from interp.models.wrapped import wrapped_logits
from interp.patching import SweepResult, SweepSite, attribute, plan_sweep, screen, sweep
from interp.patching.exact_softmax import SOFTMAX_SITES
from interp.prompts import PromptPair, make_pair
from interp.stats import FloatArray

KEPT = Path(__file__).parents[2] / "docs" / "rows" / "attribution"

SITES: tuple[SweepSite, ...] = ("resid_pre", "attn_out", "mlp_out", "z")

STEPS = 5
"""Of the integrated gradients."""

TOP = 20
"""Largest effects that are to be found."""

METHODS: Mapping[str, Mapping[str, Any]] = {
    "AtP": {},
    f"integrated gradients, {STEPS} steps": {"steps": STEPS},
    "RelP": {"method": "relp"},
    "AtP, exact softmax": {"exact_softmax": True},
    "RelP, exact softmax": {"method": "relp", "exact_softmax": True},
}
"""Arguments of :func:`interp.patching.attribute` by the methods' names."""

INSTRUCTIONS = {"bbq": "instructed", "specificity_2": "specificity_2"}
"""Conditions of the tasks on BBQ items."""

TASKS = (*INSTRUCTIONS, "ioi")

_LENGTHS = range(60, 200)
"""Tokens of a BBQ prompt: longer ones take minutes each."""


def pairs_of(model: TransformerBridge, task: str, n: int) -> list[PromptPair]:
    """``n`` pairs of a task, always the same ones first.

    Raises:
        InterpError: an unknown task, or fewer pairs of equal length than asked for.
    """
    if task == "ioi":
        return ioi_pairs(model, n)
    if task not in INSTRUCTIONS:
        raise InterpError(f"no task {task!r}; known: {', '.join(TASKS)}")
    found: list[PromptPair] = []
    for item in load_items("bbq", limit=20 * n, seed=0):
        pair = make_pair(model, item, INSTRUCTIONS[task], against="placebo")
        if pair.alignment.by_index and pair.target and len(pair.destination) in _LENGTHS:
            found.append(pair)
        if len(found) == n:
            return found
    raise InterpError(
        f"only {len(found)} of {n} pairs of {task} are aligned by index: ask for fewer"
    )


def measure(
    model: TransformerBridge,
    task: str,
    *,
    n_pairs: int,
    sites: Sequence[SweepSite] = SITES,
    kept: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """One row per pair, site and method; pairs that ``kept`` has all sites of are not run again."""
    rows = pd.DataFrame() if kept is None or not kept.exists() else pd.read_parquet(kept)
    for number, pair in enumerate(pairs_of(model, task, n_pairs)):
        missing = [site for site in sites if not _has(rows, number, site)]
        if missing:
            found = pair_rows(model, pair, missing)
            labels = {"task": task, "pair": number, "tokens": len(pair.destination)}
            rows = pd.concat([rows, pd.DataFrame([labels | row for row in found])])
            report(f"{task}, pair {number + 1} of {n_pairs}")
            if kept is not None:
                _write(rows, kept)
    chosen = rows[(rows["pair"] < n_pairs) & rows["site"].isin(sites)]
    return chosen.reset_index(drop=True)


def pair_rows(
    model: TransformerBridge, pair: PromptPair, sites: Sequence[SweepSite]
) -> list[dict[str, Any]]:
    """One row per site and method, ``exact`` among them."""
    once = _seconds_of_a_forward(model, pair)
    exact: dict[str, FloatArray] = {}
    rows: list[dict[str, Any]] = []
    cells = {site: _open_cells(model, pair, site) for site in sites}
    upstream = 0.0
    for site in sites:
        n = len(cells[site])
        started = time.perf_counter()
        result = sweep(model, pair, site=site, progress=False)
        seconds = time.perf_counter() - started
        exact[site] = _values(result, cells[site])
        own = n * _seconds_of_a_cell(model, pair, site, result)
        upstream += own
        cost = {"forwards": n, "times a forward": seconds / once, "faster": own / seconds}
        rows.append({"site": site, "method": "exact", "cells": n} | cost)
    started = time.perf_counter()
    found = screen(model, pair, sites=sites, k=TOP, progress=False)
    seconds = time.perf_counter() - started
    cost = {"times a forward": seconds / once, "faster": upstream / seconds}
    for site in sites:
        measured = screened_recall(exact[site], _values(found[site], cells[site]))
        rows.append(
            {"site": site, "method": "screened", "cells": len(cells[site])} | measured | cost
        )
    for name, options in METHODS.items():
        known = [s for s in sites if s in SOFTMAX_SITES or "exact_softmax" not in options]
        if not known:
            continue
        started = time.perf_counter()
        maps = attribute(model, pair, sites=known, progress=False, **options)
        seconds = time.perf_counter() - started
        cost = {"forwards": forwards_of(known, options), "times a forward": seconds / once}
        for site in known:
            measured = agreement(exact[site], _values(maps[site], cells[site]))
            n = len(cells[site])
            rows.append({"site": site, "method": name, "cells": n} | measured | cost)
    return rows


def screened_recall(exact: FloatArray, found: FloatArray) -> dict[str, float]:
    """Share of the largest effects among the cells that were run, and of all cells that were run."""
    run = ~np.isnan(found)
    top = np.argsort(-np.abs(exact), kind="stable")[: min(TOP, len(exact))]
    return {"recall": float(run[top].mean()), "run": float(run.mean())}


def _seconds_of_a_cell(
    model: TransformerBridge, pair: PromptPair, site: SweepSite, result: SweepResult
) -> float:
    """TransformerLens's, one prompt at a time."""
    case = Case("", pair, site)
    cells = sampled_cells(case, result, 3)
    started = time.perf_counter()
    by_transformer_lens(model, case, cells, 1)
    return (time.perf_counter() - started) / len(cells)


def forwards_of(sites: Sequence[str], options: Mapping[str, Any]) -> int:
    """What :func:`interp.patching.attribute` costs for all sites together; a backward counts 2.

    The source's forward, then the destination's with its backward; along a path a forward for each end
    and the destination's states, and a forward and backward a step; of the exact softmax another forward
    and backward, and a forward for each of its sites (the destination's states are read beside it).
    """
    steps = int(options.get("steps", 1))
    if options.get("exact_softmax"):
        through = [site for site in sites if site in SOFTMAX_SITES]
        return 1 + (1 if len(through) == len(sites) else 3) + 3 + len(through)
    return 1 + 3 if steps == 1 else 1 + 1 + 2 + 3 * steps


def agreement(exact: FloatArray, estimate: FloatArray) -> dict[str, float]:
    """Both correlations, the slope, and the recall of the largest effects."""
    top = min(TOP, len(exact))
    found = np.argsort(-np.abs(estimate), kind="stable")[:top]
    true = np.argsort(-np.abs(exact), kind="stable")[:top]
    return {
        "pearson": float(pearsonr(exact, estimate).statistic),
        "spearman": float(spearmanr(exact, estimate).statistic),
        "slope": float(np.polyfit(exact, estimate, 1)[0]),
        "recall": len(set(found) & set(true)) / top,
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over pairs by task, site and method; ``lowest``: the pair with the lowest Pearson."""
    by = rows.groupby(["task", "site", "method"], sort=False)
    numbers = [
        *("pearson", "spearman", "slope", "recall", "run", "cells", "forwards"),
        *("times a forward", "faster"),
    ]
    found = by[numbers].mean()
    found.insert(1, "lowest", by["pearson"].min())
    return found.assign(pairs=by["pair"].nunique()).reset_index()


def _open_cells(
    model: TransformerBridge, pair: PromptPair, site: SweepSite
) -> list[tuple[int, ...]]:
    """Cells that causality does not know."""
    return [cell.index for cell in plan_sweep(model, pair, site=site).to_run]


def _values(result: SweepResult, cells: Sequence[tuple[int, ...]]) -> FloatArray:
    effects = result.effect()[..., 0].double().numpy()
    return np.array([effects[cell] for cell in cells])


@torch.no_grad()
def _seconds_of_a_forward(model: TransformerBridge, pair: PromptPair) -> float:
    """The fastest of three forwards of the destination, its last row's logits alone."""
    ids, times = pair.destination.ids[None].to(model.cfg.device), []
    for _ in range(3):
        started = time.perf_counter()
        float(wrapped_logits(model, ids, logits_to_keep=1)[0, -1, 0])  # waits for a GPU
        times.append(time.perf_counter() - started)
    return min(times)


def _has(rows: pd.DataFrame, number: int, site: str) -> bool:
    return len(rows) > 0 and bool(((rows["pair"] == number) & (rows["site"] == site)).any())


def _write(rows: pd.DataFrame, path: Path) -> None:
    """Whole or not at all: a run may be ended at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    rows.to_parquet(part, index=False)
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.benchmarks.attribution", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--task", choices=TASKS, default="bbq")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--sites", nargs="+", choices=get_args(SweepSite), default=SITES)
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    model = load_model(asked.model)
    kept = asked.into / f"{Path(asked.model).name}-{asked.task}.parquet"
    rows = measure(
        model, asked.task, n_pairs=asked.pairs, sites=asked.sites, kept=kept, report=_say
    )
    print(summary(rows).round(3).to_string(index=False))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
