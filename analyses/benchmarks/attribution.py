"""Estimates beside exact sweeps: ``python -m analyses.benchmarks.attribution``.

Every method estimates all sites of a pair at once; every cell of the sites is also patched exactly
(:func:`interp.patching.sweep`). Printed are, per site and method, means over pairs of

- Pearson's and Spearman's correlation with the exact effects, over the cells that causality leaves open;
- the slope of the estimates on the exact effects (1: of the right size);
- the recall of the twenty largest effects by size among as many of the largest estimates;
- the same of a screen (:func:`interp.patching.screen`) of all sites together: what it gives is exact,
  ``run`` is the share of the site's cells that it ran;
- how much faster the exact sweeps, site by site, and the screen, as a whole, are than TransformerLens,
  whose time for a cell is that of three random ones, one prompt at a time (on one thread of a CPU, time
  is the process's own);
- the cost of all sites together, in forwards of one prompt (a forward counts 1, a backward 2), and in
  seconds as a multiple of one plain forward's. The exact sweeps' forwards are their cells: what one
  forward per cell would take; their seconds are the engine's.

Tasks: ``bbq`` and ``specificity_2``, BBQ prompts with this instruction against its placebo, and ``ioi``,
indirect objects. The rows go to ``docs/rows/attribution``, one file per model and task, pair by pair: a
run that is started again measures what is not there. ``--effects`` keeps the exact effects, so that a
screen whose rows were taken out is measured again without the exact sweeps, which are two thirds of the
time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

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
from interp.runs.atomic import atomic_path
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

ALL_METHODS = ("exact", "screened", *METHODS)

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
    methods: Sequence[str] = ALL_METHODS,
    kept: Path | None = None,
    effects: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """One row per pair, site and method; rows that ``kept`` has are not measured again.

    ``effects``: a folder of exact effects, a file per pair; what is there is not swept again.
    """
    rows = pd.DataFrame() if kept is None or not kept.exists() else pd.read_parquet(kept)
    for number, pair in enumerate(pairs_of(model, task, n_pairs)):
        asked = [m for m in methods if not _has(rows, number, _known_sites(m, sites), m)]
        if asked:
            file = None if effects is None else effects / f"{task}-{number}.npz"
            found = pair_rows(model, pair, sites, asked, file)
            labels = {"task": task, "pair": number, "tokens": len(pair.destination)}
            rows = pd.concat([rows, pd.DataFrame([labels | row for row in found])])
            report(f"{task}, pair {number + 1} of {n_pairs}")
            if kept is not None:
                _write(rows, kept)
    chosen = rows[
        (rows["pair"] < n_pairs) & rows["site"].isin(sites) & rows["method"].isin(methods)
    ]
    return chosen.reset_index(drop=True)


def pair_rows(
    model: TransformerBridge,
    pair: PromptPair,
    sites: Sequence[SweepSite],
    methods: Sequence[str] = ALL_METHODS,
    effects: Path | None = None,
) -> list[dict[str, Any]]:
    """One row per site and method."""
    once = _seconds_of_a_forward(model, pair)
    cells = {site: _open_cells(model, pair, site) for site in sites}
    # TransformerLens's time for all cells of a site
    upstream = {s: len(cells[s]) * _seconds_of_a_cell(model, pair, s) for s in sites}
    if "screened" in methods:
        started = _now()
        found = screen(model, pair, sites=sites, k=TOP, progress=False)
        screening = _now() - started
    exact = _exact(model, pair, cells, effects, again="exact" in methods)
    rows: list[dict[str, Any]] = []
    for site in sites:
        n, labels = len(cells[site]), {"site": site, "cells": len(cells[site])}
        values, seconds = exact[site]
        if "exact" in methods:
            cost = {"times a forward": seconds / once, "faster": upstream[site] / seconds}
            rows.append(labels | {"method": "exact", "forwards": n} | cost)
        if "screened" in methods:
            measured = screened_recall(values, _values(found[site], cells[site]))
            cost = {
                "times a forward": screening / once,
                "faster": sum(upstream.values()) / screening,
            }
            rows.append(labels | {"method": "screened"} | measured | cost)
    for name in [name for name in METHODS if name in methods]:
        rows += _estimated_rows(model, pair, _known_sites(name, sites), name, exact, cells, once)
    return rows


_Cells: TypeAlias = Mapping[SweepSite, Sequence[tuple[int, ...]]]


def _estimated_rows(
    model: TransformerBridge,
    pair: PromptPair,
    known: Sequence[SweepSite],
    name: str,
    exact: Mapping[SweepSite, tuple[FloatArray, float]],
    cells: _Cells,
    once: float,
) -> list[dict[str, Any]]:
    """Of one method of attribution; none where it knows no site."""
    if not known:
        return []
    started = _now()
    maps = attribute(model, pair, sites=known, progress=False, **METHODS[name])
    seconds = _now() - started
    cost = {"forwards": forwards_of(known, METHODS[name]), "times a forward": seconds / once}
    return [
        {"site": site, "method": name, "cells": len(cells[site])}
        | agreement(exact[site][0], _values(maps[site], cells[site]))
        | cost
        for site in known
    ]


def _known_sites(method: str, sites: Sequence[SweepSite]) -> list[SweepSite]:
    """The sites that a method has rows of."""
    through = "exact_softmax" in METHODS.get(method, {})
    return [site for site in sites if site in SOFTMAX_SITES or not through]


def _exact(
    model: TransformerBridge,
    pair: PromptPair,
    cells: _Cells,
    kept: Path | None,
    *,
    again: bool,
) -> dict[SweepSite, tuple[FloatArray, float]]:
    """Every site's exact effects, and the seconds of its sweep (NaN where they were kept)."""
    had = {} if kept is None or not kept.exists() else dict(np.load(kept))
    found: dict[SweepSite, tuple[FloatArray, float]] = {}
    for site, open_cells in cells.items():
        if site in had and not again:
            found[site] = had[site], float("nan")
            continue
        started = _now()
        result = sweep(model, pair, site=site, progress=False)
        seconds = _now() - started
        found[site] = _values(result, open_cells), seconds
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **(had | {site: values for site, (values, _) in found.items()}))
    return found


def screened_recall(exact: FloatArray, found: FloatArray) -> dict[str, float]:
    """Share of the largest effects among the cells that were run, and of all cells that were run."""
    run = ~np.isnan(found)
    top = np.argsort(-np.abs(exact), kind="stable")[: min(TOP, len(exact))]
    return {"recall": float(run[top].mean()), "run": float(run.mean())}


def _seconds_of_a_cell(model: TransformerBridge, pair: PromptPair, site: SweepSite) -> float:
    """TransformerLens's, one prompt at a time."""
    case = Case("", pair, site)
    plan = plan_sweep(model, pair, site=site)
    cells = sampled_cells(case, plan.shape, 3)
    started = _now()
    by_transformer_lens(model, case, cells, 1)
    return (_now() - started) / len(cells)


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
    # rows of a method that was measured again come last
    order = {name: place for place, name in enumerate(ALL_METHODS)}
    rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
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


def _now() -> float:
    """Seconds: on one thread of a CPU the process's own, so that other programs' do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


@torch.no_grad()
def _seconds_of_a_forward(model: TransformerBridge, pair: PromptPair) -> float:
    """The fastest of three forwards of the destination, its last row's logits alone."""
    ids, times = pair.destination.ids[None].to(model.cfg.device), []
    for _ in range(3):
        started = _now()
        float(wrapped_logits(model, ids, logits_to_keep=1)[0, -1, 0])  # waits for a GPU
        times.append(_now() - started)
    return min(times)


def _has(rows: pd.DataFrame, number: int, sites: Sequence[str], method: str) -> bool:
    if not len(rows):
        return not sites
    own = rows[(rows["pair"] == number) & (rows["method"] == method)]
    return set(sites) <= set(own["site"])


def _write(rows: pd.DataFrame, path: Path) -> None:
    """Whole or not at all: a run may be ended at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        rows.to_parquet(temporary, index=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.benchmarks.attribution", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--task", choices=TASKS, default="bbq")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--sites", nargs="+", choices=get_args(SweepSite), default=SITES)
    parser.add_argument("--methods", nargs="+", choices=ALL_METHODS, default=ALL_METHODS)
    parser.add_argument("--effects", type=Path, help="folder that keeps exact effects")
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    model = load_model(asked.model)
    kept = asked.into / f"{Path(asked.model).name}-{asked.task}.parquet"
    rows = measure(
        model,
        asked.task,
        n_pairs=asked.pairs,
        sites=asked.sites,
        methods=asked.methods,
        kept=kept,
        effects=asked.effects,
        report=_say,
    )
    print(summary(rows).round(3).to_string(index=False))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
