"""Exact activation patching between two prompts, layer by span.

For every cell (layer, span) the destination prompt is run with the site's activations at the span's
positions replaced by those of the aligned positions of the source run, and the margin is read at
the end. Copies of the destination share its computation up to the first difference of the two
prompts (:mod:`interp.models.forward`), which a patch cannot change; the result equals one full
forward per cell. Cells without aligned positions at or after the first difference are exactly zero
and are not run.

``resid_mid`` sweeps equal ``resid_post`` sweeps, cell by cell: the MLP of a patched position makes the
source's ``resid_post`` of the source's ``resid_mid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site, hook_name
from interp.errors import InterpError
from interp.models import Write, forward
from interp.models.forward import MAX_NODES
from interp.patching.result import SweepResult
from interp.prompts import MarginTarget, PromptPair

ALL = "all from the first difference"
"""Name of the cell column that patches every aligned position from the first difference on: the
ceiling. At ``resid_pre`` and equal lengths it gives the source run at every layer."""


@dataclass(frozen=True)
class _Cell:
    layer: int
    span: str
    source: Int[Tensor, " pos"]
    destination: Int[Tensor, " pos"]


def sweep(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    site: Site = "resid_pre",
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    metric: Literal["margin"] = "margin",
    seed: int = 0,
    max_nodes: int = MAX_NODES,
    progress: bool = True,
) -> SweepResult:
    """Patch every (layer, span) cell from source into destination, for each pair.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several; all need a margin target.
        site: what is copied.
        layers: which layers; None takes all.
        spans: which spans, and :data:`ALL`; None takes the spans that every pair has at or after
            its first difference, then :data:`ALL`.
        metric: ``"margin"``, in nats at the last position.
        seed: seed of the result's bootstraps.
        max_nodes: token budget of one forward.
        progress: show a bar.

    Returns:
        :class:`SweepResult`, values ``[layer, span, pair]``.

    Raises:
        InterpError: no pairs, a pair without a margin target, an unknown span, site or layer.

    Example:
        >>> result = sweep(model, make_pair(model, item, "instructed"))   # doctest: +SKIP
        >>> result.share()                                                 # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to patch between: the list is empty")
    if metric != "margin":
        raise InterpError(f"no metric {metric!r}; known: margin")
    layers = list(range(model.cfg.n_layers)) if layers is None else list(layers)
    spans = _default_spans(pairs) if spans is None else list(spans)
    names = [_patched_hook(model, site, layer) for layer in layers]
    values, source, destination = [], [], []
    for pair in tqdm(pairs, desc=f"patching {site}", disable=not progress):
        patched, from_source, baseline = _sweep_pair(model, pair, layers, names, spans, max_nodes)
        values.append(patched)
        source.append(from_source)
        destination.append(baseline)
    labels = {"layer": [str(layer) for layer in layers], "span": spans}
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=torch.stack(values, dim=-1),
        axis_names=["layer", "span"],
        index_df=index.to_frame(index=False),
        metric_names=[metric],
        reduced=False,
        baseline=torch.tensor(destination),
        source_baseline=torch.tensor(source),
        axis_labels=labels,
        pair_labels=_unique([pair.label for pair in pairs]),
        clusters=[pair.item.cluster if pair.item else str(k) for k, pair in enumerate(pairs)],
        site=site,
        title=f"{pairs[0].source_name} -> {pairs[0].destination_name}, {site}",
        seed=seed,
        notes=alignment_notes(model, pairs),
    )


def _patched_hook(model: TransformerBridge, site: Site, layer: int) -> str:
    """Where a site's patch is written; see the module for ``resid_mid``.

    TransformerLens's ``hook_resid_mid`` sits on the MLP's input: a write there misses the skip
    connection, so that the residual stream itself would stay the destination's.
    """
    name = hook_name(model, site, layer)
    return hook_name(model, "resid_post", layer) if site == "resid_mid" else name


def _sweep_pair(
    model: TransformerBridge,
    pair: PromptPair,
    layers: Sequence[int],
    names: Sequence[str],
    spans: Sequence[str],
    max_nodes: int,
) -> tuple[Float[Tensor, "layer span"], float, float]:
    """Patched margins of one pair, and the margins of its two runs."""
    if pair.target is None:
        raise InterpError(f"{pair.label}: no margin target; its options cannot be told apart")
    places = {span: _positions(pair, span) for span in spans}
    wanted = sorted({int(p) for source, _ in places.values() for p in source})
    last = len(pair.source) - 1
    run = forward(
        model,
        [pair.source.ids],
        logits_at=[(0, last)],
        read={name: [(0, p) for p in wanted] for name in names},
    )
    cells = [
        _Cell(k, span, *places[span])
        for k in range(len(layers))
        for span in spans
        if len(places[span][0])
    ]
    row_of = {position: row for row, position in enumerate(wanted)}
    writes = [
        Write(
            names[cell.layer],
            1 + index,
            cell.destination,
            run.states[names[cell.layer]][torch.tensor([row_of[int(p)] for p in cell.source])],
        )
        for index, cell in enumerate(cells)
    ]
    destination = pair.destination.ids
    # the first sequence is left as it is: the baseline
    logits = forward(
        model,
        [destination] * (1 + len(cells)),
        logits_at=[(s, len(destination) - 1) for s in range(1 + len(cells))],
        writes=writes,
        share_until=pair.alignment.first_difference or 0,
        max_nodes=max_nodes,
    ).logits
    margins = _margins(logits, pair.target)
    patched = torch.full((len(layers), len(spans)), float(margins[0]))
    for cell, margin in zip(cells, margins[1:], strict=True):
        patched[cell.layer, list(spans).index(cell.span)] = margin
    return patched, float(_margins(run.logits, pair.target)[0]), float(margins[0])


def _margins(logits: Float[Tensor, "row d_vocab"], target: MarginTarget) -> Float[Tensor, " row"]:
    return logits[:, target.a] - logits[:, target.b]


def _positions(pair: PromptPair, span: str) -> tuple[Tensor, Tensor]:
    """Aligned (source, destination) positions of a span that a patch can change."""
    everything = slice(0, len(pair.destination))
    where = everything if span == ALL else pair.destination.span(span)
    first = pair.alignment.first_difference
    start = where.stop if first is None else max(first, where.start)
    aligned = pair.alignment.pairs()
    keep = (aligned[:, 1] >= start) & (aligned[:, 1] < where.stop)
    return aligned[keep, 0], aligned[keep, 1]


def _default_spans(pairs: Sequence[PromptPair]) -> list[str]:
    first = pairs[0]
    return [s for s in first.destination.spans if all(_reaches(p, s) for p in pairs)] + [ALL]


def _reaches(pair: PromptPair, span: str) -> bool:
    return span in pair.destination.spans and len(_positions(pair, span)[0]) > 0


def _unique(labels: Sequence[str]) -> list[str]:
    """The labels, numbered where several pairs (texts or orders of one item) share one."""
    return [f"{label} #{k}" if labels.count(label) > 1 else label for k, label in enumerate(labels)]


def alignment_notes(model: TransformerBridge, pairs: Sequence[PromptPair]) -> tuple[str, ...]:
    """What a reader of a map has to know of its pairs; empty when all are aligned by index."""
    moved = sum(not pair.alignment.by_index for pair in pairs)
    if not moved:
        return ()
    note = f"{moved} of {len(pairs)} pairs are not aligned by index"
    if model.cfg.positional_embedding_type == "standard":
        note += "; this model's residual stream carries absolute positions, which the patch copies"
    return (note,)
