"""One line of each table."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.gpu.models import Shape, bridge_of, random_weights
from analyses.benchmarks.machine import clock, peak_memory
from analyses.benchmarks.patching import (
    Case,
    at,
    by_transformer_lens,
    lower_bound,
    sampled_cells,
)
from analyses.benchmarks.scoring import CONDITIONS
from interp.behaviour import score_variants
from interp.data import ChoiceItem
from interp.models import model_card
from interp.models.limits import out_of_memory
from interp.patching import SweepResult, sweep
from interp.prompts import PromptPair, TextBank, make_pair

_MODEST = 0.1
"""Share of the matrix rate that a sweep is assumed to reach when its size is chosen."""


@dataclass(frozen=True)
class Sizes:
    """What is run: S tokens, of which the last T change at most; TransformerLens's batches; the budget;
    cells that a screened sweep looks for; seconds of a part at most."""

    length: int
    changed: int
    batches: tuple[int, ...]
    max_bytes: int
    k: int = 20
    most_seconds: float = math.inf


def random_pair(model: TransformerBridge, length: int, changed: int) -> PromptPair:
    """Two prompts of random tokens that differ in the last ``changed``."""
    d_vocab = int(model.cfg.d_vocab)
    ids = torch.randint(2, d_vocab, (length,), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[length - changed :] = (other[length - changed :] + 1) % d_vocab
    return make_pair(model, other, ids, target=(5, 7))


def score_row(
    model: TransformerBridge, items: Sequence[ChoiceItem], seconds: float
) -> dict[str, Any]:
    """Items until the time is over (one at least), the first of them unmeasured."""
    device = model.cfg.device
    bank = TextBank(model.tokenizer)

    def score(item: ChoiceItem) -> int:
        texts = bank.conditions(item, CONDITIONS, n_texts=1, n_control_texts=1)
        return len(score_variants(model, item, texts))

    score(items[0])
    prompts, taken = 0, 0.0
    with peak_memory(device) as peak:
        started = clock(device)
        for item in items[1:]:
            prompts += score(item)
            taken = clock(device) - started
            if taken > seconds:
                break
    return {
        **_who(model),
        "prompts": prompts,
        "s": taken,
        "prompts/s": prompts / taken,
        "peak MiB": _mib(peak.n_bytes),
    }


def sweep_rows(
    model: TransformerBridge, site: str, sizes: Sizes, rate: float, seconds: float
) -> list[dict[str, Any]]:
    """A site swept exactly and screened, beside TransformerLens on the same cells."""
    case = fitting_case(model, site, sizes, _MODEST * rate * seconds / 4)
    s, t = case.lengths
    first = timed_sweep(model, case, sizes)
    again = timed_sweep(model, case, sizes)
    n = again.result.values.numel()
    cells = sampled_cells(case, again.result.values.shape[:2], n)
    theirs = {
        batch: by_reference(model, case, cells, batch, seconds / 2 / len(sizes.batches))
        for batch in sizes.batches
    }
    one, (best, fastest) = theirs[sizes.batches[0]], _best(theirs)
    spread = float(again.result.values.max() - again.result.values.min())
    common = {"S": s, "T": t, "cells": n}
    budget = {"budget MiB": sizes.max_bytes >> 20}
    exact = {
        **_who(model),
        "sweep": site,
        **common,
        "s": first.seconds,
        "again s": again.seconds,
        "cells/s": round(n / again.seconds),
        "TL ms/cell": 1e3 * one.per_cell,
        "ratio": one.per_cell * n / first.seconds,
        "again ratio": one.per_cell * n / again.seconds,
        "best batch": best,
        "again ratio best": fastest * n / again.seconds,
        "of matrix rate": lower_bound(model, case, n)[0] / again.seconds / rate,
        "difference / range": max(_apart(again.result, case, cells, t) for t in theirs.values())
        / spread,
        "first peak MiB": _mib(first.peak_bytes),
        "peak MiB": _mib(again.peak_bytes),
        **budget,
    }
    chosen = timed_sweep(model, case, sizes, method="screened", k=sizes.k)
    measured = ~chosen.result.values.isnan()
    apart = (chosen.result.values - again.result.values)[measured].abs().max()
    screened = {
        **_who(model),
        "sweep": f"{site}, screened",
        **common,
        "s": chosen.seconds,
        "cells/s": round(n / chosen.seconds),
        "ratio": one.per_cell * n / chosen.seconds,
        "difference / range": float(apart) / spread,
        "peak MiB": _mib(chosen.peak_bytes),
        **budget,
    }
    return [exact, screened]


def fitting_case(model: TransformerBridge, site: str, sizes: Sizes, flops: float) -> Case:
    """The pair in which as many positions change as this many operations allow, two at least.

    Of one alone every cell of the residual stream gives the source's value: no range to compare with.
    """
    changed = sizes.changed
    while True:
        case = Case("random tokens", random_pair(model, sizes.length, changed), site)
        columns = changed if case.axis == "pos" else int(model.cfg.n_heads)
        bound, _ = lower_bound(model, case, int(model.cfg.n_layers) * columns)
        if bound <= flops or changed <= 2:
            return case
        changed //= 2


@dataclass(frozen=True, eq=False)
class Timed:
    """A sweep, its time, and the memory that it took."""

    result: SweepResult
    seconds: float
    peak_bytes: float


def timed_sweep(model: TransformerBridge, case: Case, sizes: Sizes, **options: Any) -> Timed:
    """A whole sweep, self-check and source run included."""
    device = model.cfg.device
    with peak_memory(device) as peak:
        started = clock(device)
        result = sweep(
            model,
            case.pair,
            site=case.site,  # type: ignore[arg-type]
            max_bytes=sizes.max_bytes,
            progress=False,
            **options,
        )
        seconds = clock(device) - started
    return Timed(result, seconds, peak.n_bytes)


@dataclass(frozen=True, eq=False)
class Reference:
    """TransformerLens's time per cell, and its values of the first cells of a sample."""

    per_cell: float
    values: Tensor


def by_reference(
    model: TransformerBridge, case: Case, cells: pd.DataFrame, batch: int, seconds: float
) -> Reference:
    """As many of the cells as the time allows; infinitely slow where the batch has no room."""
    device = model.cfg.device

    def run(n: int) -> tuple[float, Tensor]:
        started = clock(device)
        with redirect_stderr(io.StringIO()):  # its bar cannot be silenced
            values = by_transformer_lens(model, case, cells[:n], batch)
        return clock(device) - started, values

    try:
        run(1)  # warm up
        one, _ = run(1)
        n = min(len(cells), max(4, int(seconds / one)))
        taken, values = run(n)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return Reference(float("inf"), torch.empty(0))
    return Reference(taken / len(values) / batch, values)


def _best(theirs: dict[int, Reference]) -> tuple[int, float]:
    best = min(theirs, key=lambda batch: theirs[batch].per_cell)
    return best, theirs[best].per_cell


def _apart(result: SweepResult, case: Case, cells: pd.DataFrame, theirs: Reference) -> float:
    if not len(theirs.values):
        return 0.0
    return float((at(result, case, cells[: len(theirs.values)]) - theirs.values).abs().max())


def exact_rows(
    shape: Shape, device: str, sizes: Sizes, sites: Sequence[str]
) -> list[dict[str, Any]]:
    """The same cells in float32 on the device and on the CPU, from equal weights."""
    weights = random_weights(shape, "cpu", torch.float32)
    on_device = bridge_of(copy.deepcopy(weights).to(device), shape.name)
    on_cpu = bridge_of(weights, shape.name)
    rows = []
    for site in sites:
        case = Case("random tokens", random_pair(on_cpu, sizes.length, sizes.changed), site)
        expected, found = (timed_sweep(m, case, sizes) for m in (on_cpu, on_device))
        values = expected.result.values
        apart = (found.result.values - values).abs().max()
        rows.append(
            {
                "model": shape.name,
                "sweep": site,
                "S": sizes.length,
                "T": sizes.changed,
                "cells": values.numel(),
                "difference / range": float(apart / (values.max() - values.min())),
                "CPU s": expected.seconds,
                "device s": found.seconds,
            }
        )
    return rows


def _mib(n_bytes: float) -> float:
    return round(n_bytes / 2**20, 1)


def _who(model: TransformerBridge) -> dict[str, str]:
    return {
        "model": model_card(model).name,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
    }
