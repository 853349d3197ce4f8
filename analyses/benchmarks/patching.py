"""Exact sweeps beside TransformerLens's: ``python -m analyses.benchmarks.patching``.

The same model, the same cells, the same process, gradients off for both. TransformerLens runs a
random sample of the cells (its time per cell does not depend on the cell) through its own
``generic_activation_patch``, with one prompt and with batches of prompts, of which the best counts;
ours is one whole :func:`interp.patching.sweep`, source run and self-check included. The bound is
the work that no exact sweep can leave out: ``L(L-1)/2 * T(T+1)/2`` token-layers (``H * T * L(L-1)/2`` by
head) and one unembedded row per cell.

Pairs: a BBQ item with the instruction and with its placebo (the last T of S tokens differ or follow a
difference), and two prompts that differ from the first token on.

The option margin of the BBQ pair has a line of its own. TransformerLens's way takes two sweeps there,
through prompt + option a and prompt + option b, and theirs is the sum; "of margin" is our time in units
of the sweep of the margin, which reads one row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_args

import pandas as pd
import torch
import transformers
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.by_hand import (
    HandSite,
    HandSweep,
    is_supported,
    plain_model,
    time_by_hand,
)
from analyses.benchmarks.machine import matrix_rate, peak_memory, threads
from interp.data import load_items
from interp.models import DEFAULT_MODEL, load_model
from interp.patching import SweepResult, sweep
from interp.patching.sites import MetricName
from interp.prompts import PromptPair, make_pair


@dataclass(frozen=True, eq=False)
class Case:
    """One line of the table: a pair and a site."""

    name: str
    pair: PromptPair
    site: str
    metric: MetricName = "margin"

    @property
    def axis(self) -> str:
        """What is swept beside the layers."""
        return "head" if self.site == "z" else "pos"

    @property
    def lengths(self) -> tuple[int, int]:
        """S tokens, of which the last T can change."""
        n = len(self.pair.destination)
        return n, n - (self.pair.alignment.first_difference or 0)


@dataclass(frozen=True)
class Sizes:
    """How much is run of each peer, and the budget of ours."""

    batches: Sequence[int] = (1, 4, 8)
    """TransformerLens's batch sizes."""
    reference_cells: int = 20
    hand_batches: Sequence[int] = (1024, 16, 8, 4)
    """The expert's, in cells; one above the cells of a layer takes them all."""
    hand_layers: int = 10
    max_mib: int = 1024


def main() -> None:
    """Run the benchmark with the sizes given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--sites", default="resid_pre,attn_out,mlp_out,z", help="of the BBQ pair")
    parser.add_argument(
        "--options", default="resid_pre,z", help="sites of the BBQ pair's option margin"
    )
    parser.add_argument("--whole", default="resid_pre", help="sites of the all-different pair")
    parser.add_argument("--whole-length", type=int, default=116, help="its tokens")
    parser.add_argument("--reference-cells", type=int, default=20, help="per site and batch size")
    parser.add_argument("--batches", default="1,4,8", help="TransformerLens's batch sizes")
    parser.add_argument(
        "--hand-batches", default="1024,16,8,4", help="cells per batch of the expert's script"
    )
    parser.add_argument("--hand-layers", type=int, default=10, help="layers it is timed on")
    parser.add_argument("--max-mib", type=int, default=1024, help="budget of ours")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    pair = bbq_pair(model)
    options = arguments.options.split(",")
    cases = [
        Case("BBQ", pair, site, metric)
        for site in arguments.sites.split(",")
        if site
        for metric in (("margin", "option_margin") if site in options else ("margin",))
    ]
    whole = whole_pair(model, arguments.whole_length)
    cases += [Case("all different", whole, site) for site in arguments.whole.split(",") if site]
    sizes = Sizes(
        [int(size) for size in arguments.batches.split(",")],
        arguments.reference_cells,
        [int(size) for size in arguments.hand_batches.split(",")],
        arguments.hand_layers,
        arguments.max_mib,
    )
    plain = plain_model(model)
    if not is_supported(plain):
        print(f"the expert's script is not for a {plain.config.model_type}: without its columns")
        plain = None
    # warm up, with a site that no line times: its self-check is part of a line's time
    sweep(model, pair, site="resid_post", layers=[0, model.cfg.n_layers - 1], progress=False)
    rows: list[dict[str, Any]] = []
    for case in cases:
        row = measure(model, plain, case, sizes)
        if case.metric == "option_margin":  # the margin of the same site has gone before
            row["of margin"] = round(row["ours s"] / rows[-1]["ours s"], 2)
        rows.append(row)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    print(
        f"TransformerLens {version('transformer-lens')}; the expert's script: "
        f"transformers {transformers.__version__}, torch {torch.__version__}"
    )
    print(f"matrix rate: {matrix_rate() / 1e9:.0f} GFLOP/s (float32, {threads()})")


def measure(
    model: TransformerBridge, plain: Any | None, case: Case, sizes: Sizes
) -> dict[str, Any]:
    """One line of the table; without ``plain`` the expert's columns are left out."""
    batches = sizes.batches
    rate = matrix_rate()
    with peak_memory() as peak:
        started = time.perf_counter()
        result = sweep(
            model,
            case.pair,
            site=case.site,  # type: ignore[arg-type]
            metric=case.metric,
            max_bytes=sizes.max_mib << 20,
            progress=False,
        )
        ours = time.perf_counter() - started
    rate = (rate + matrix_rate()) / 2
    cells = sampled_cells(case, result.values.shape[:2], sizes.reference_cells)
    per_cell, difference = {}, 0.0
    for batch in batches:
        started = time.perf_counter()
        values = by_transformer_lens(model, case, cells, batch)
        per_cell[batch] = (time.perf_counter() - started) / len(cells) / batch
        difference = max(difference, float((values - at(result, case, cells)).abs().max()))
    best = min(per_cell, key=lambda size: per_cell[size])
    n = result.values.numel()
    bound, naive = lower_bound(model, case, n)
    spread = float(result.values.max() - result.values.min())
    s, t = case.lengths
    return {
        "pair": case.name,
        "site": case.site,
        "metric": case.metric,
        "S": s,
        "T": t,
        "cells": n,
        "ours s": round(ours, 2),
        "TL ms/cell": round(1e3 * per_cell[batches[0]]),
        "ratio": round(per_cell[batches[0]] * n / ours, 1),
        "best batch": best,
        "ratio best": round(per_cell[best] * n / ours, 1),
        **hand_columns(plain, case, result, ours, sizes),
        "bound": round(naive / bound, 1),
        "of matrix rate": f"{bound / ours / rate:.0%}",
        "difference / range": f"{difference / spread:.0e}",
        "peak MiB": round(peak.n_bytes / 2**20),
    }


def hand_columns(
    plain: Any | None, case: Case, result: SweepResult, ours: float, sizes: Sizes
) -> dict[str, Any]:
    """The expert's seconds at each batch size, the ratios of best and first to ours, the difference.

    The script has one metric, the margin.
    """
    if plain is None or case.metric != "margin" or case.site not in get_args(HandSite):
        return {}
    pair = case.pair
    assert pair.target is not None  # every case has a margin
    target = (pair.target.a, pair.target.b)
    timing = time_by_hand(
        lambda: HandSweep.of(
            plain,
            pair.source.ids,
            pair.destination.ids,
            site=case.site,  # type: ignore[arg-type]
            target=target,
        ),
        batches=sizes.hand_batches,
        n_layers=sizes.hand_layers,
    )
    values = result.values[..., 0]
    difference = (timing.values - values[timing.layers]).abs().max()
    return {
        "expert s": ", ".join(f"{size}: {took:.1f}" for size, took in timing.seconds.items()),
        "expert batch": timing.best,
        "faster than expert": round(timing.seconds[timing.best] / ours, 1),
        "than its first batch": round(next(iter(timing.seconds.values())) / ours, 1),
        "expert difference": f"{float(difference / (values.max() - values.min())):.0e}",
    }


def bbq_pair(model: TransformerBridge) -> PromptPair:
    """The first BBQ item whose corrected and placebo prompts have 110 to 150 tokens."""
    for item in load_items("bbq:Age", limit=40, seed=0):
        pair = make_pair(model, item, "instructed", against="placebo")
        if 110 <= len(pair.destination) <= 150 and pair.alignment.by_index and pair.target:
            return pair
    raise SystemExit("no BBQ pair of 110 to 150 tokens with this tokenizer")


def whole_pair(model: TransformerBridge, length: int) -> PromptPair:
    """Two prompts of ``length`` tokens that differ from the first token on."""
    pair = bbq_pair(model)
    ids = pair.destination.ids.repeat(1 + length // len(pair.destination))[:length]
    other = (ids.roll(7) + 1) % int(model.cfg.d_vocab)
    assert pair.target is not None  # bbq_pair's condition
    return make_pair(model, other, ids, target=(pair.target.a, pair.target.b))


def sampled_cells(case: Case, shape: Sequence[int], n: int) -> pd.DataFrame:
    """Random cells of a grid as TransformerLens's index: the layer, and a position or head."""
    rows, columns = shape
    generator = torch.Generator().manual_seed(0)
    picked = torch.randperm(rows * columns, generator=generator)[:n].tolist()
    first = case.lengths[0] - case.lengths[1] if case.axis == "pos" else 0
    return pd.DataFrame(
        [(cell // columns, first + cell % columns) for cell in picked], columns=["layer", case.axis]
    )


def at(result: SweepResult, case: Case, cells: pd.DataFrame) -> Tensor:
    """Our values of these cells."""
    first = case.lengths[0] - case.lengths[1] if case.axis == "pos" else 0
    index = torch.tensor(cells.to_numpy())
    return result.values[index[:, 0], index[:, 1] - first, 0]


@torch.no_grad()
def by_transformer_lens(
    model: TransformerBridge, case: Case, cells: pd.DataFrame, batch: int
) -> Tensor:
    """The same cells through TransformerLens, ``batch`` prompts at a time.

    Of the option margin each option's mean log-probability is one sweep.
    """
    if case.metric == "margin":
        return _patched_by_transformer_lens(model, case, cells, batch, (), _margin(case))
    assert case.pair.options is not None  # the BBQ pair has an item
    options = case.pair.options
    values = [
        _patched_by_transformer_lens(model, case, cells, batch, branch, _mean_log_prob(ids))
        for ids, branch in zip((options.a, options.b), options.branches, strict=True)
    ]
    return values[0] - values[1]


def _patched_by_transformer_lens(
    model: TransformerBridge,
    case: Case,
    cells: pd.DataFrame,
    batch: int,
    branch: Sequence[int] | Tensor,
    metric: Callable[[Tensor], Tensor],
) -> Tensor:
    """One sweep, in both runs with the branch's tokens behind the prompt."""
    more = torch.as_tensor(branch, dtype=torch.long)
    source, destination = (
        torch.cat([prompt.ids, more])[None].repeat(batch, 1).to(model.cfg.device)
        for prompt in (case.pair.source, case.pair.destination)
    )
    name = f"hook_{case.site}"
    _, cache = model.run_with_cache(source, names_filter=lambda n: n.endswith(name))
    n = len(case.pair.destination)  # the option's own positions are not patched

    def set_head(activation: Tensor, index: Sequence[int], clean: Tensor) -> Tensor:
        upstream.layer_head_vector_patch_setter(activation[:, :n], index, clean[:, :n])
        return activation

    setter = upstream.layer_pos_patch_setter if case.axis == "pos" else set_head
    return upstream.generic_activation_patch(
        model, destination, cache, metric, setter, case.site, index_df=cells
    ).cpu()


def _margin(case: Case) -> Callable[[Tensor], Tensor]:
    target = case.pair.target
    assert target is not None  # every case has a margin
    a, b = target.a, target.b
    return lambda logits: (logits[:, -1, a] - logits[:, -1, b]).mean()


def _mean_log_prob(ids: Tensor) -> Callable[[Tensor], Tensor]:
    """Mean over an option's tokens, of which the last is read and not fed."""

    def metric(logits: Tensor) -> Tensor:
        rows = logits[:, -len(ids) :].log_softmax(-1)
        return rows[:, torch.arange(len(ids)), ids].mean()

    return metric


def lower_bound(model: TransformerBridge, case: Case, n_cells: int) -> tuple[float, float]:
    """FLOPs of the bound, and of one full forward per cell."""
    cfg = model.cfg
    n_layers = int(cfg.n_layers)
    s, t = case.lengths
    per_row = 2.0 * sum(n for n in _matrix_sizes(model))
    unembedding = 2.0 * cfg.d_model * cfg.d_vocab
    rows = t * (t + 1) / 2 if case.axis == "pos" else cfg.n_heads * t
    bound = n_layers * (n_layers - 1) / 2 * rows * per_row + n_cells * unembedding
    naive = n_cells * (n_layers * s * per_row + s * unembedding)
    if case.metric == "option_margin":
        options = case.pair.options
        assert options is not None  # the BBQ pair has an item
        lengths = [len(branch) for branch in options.branches]
        per_cell = sum(lengths)
        columns = t if case.axis == "pos" else int(cfg.n_heads)
        bound += n_layers * (n_layers - 1) / 2 * columns * per_cell * per_row
        bound += n_cells * (per_cell + options.n_shared) * unembedding
        naive = n_cells * sum(s + n for n in lengths) * (n_layers * per_row + unembedding)
    return bound, naive


def _matrix_sizes(model: TransformerBridge) -> Iterator[int]:
    """Weights of one block's matrices, each once."""
    seen = set()
    for parameter in model.blocks[0].parameters():
        if parameter.ndim == 2 and parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            yield parameter.numel()


if __name__ == "__main__":
    main()
