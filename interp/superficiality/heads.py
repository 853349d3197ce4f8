"""Heads: how much of the effect a few of them carry together, chosen on other items.

Attribution patching (one backward per pair) estimates what every head's output brings from the corrected
run; the five of largest mean estimate *on other clusters* are then patched together and singly, exactly,
beside five others of the same layers.

Cost per pair: one backward, seven patched runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching import attribute
from interp.patching.cells import Patch
from interp.patching.health import JACCARD_BAR
from interp.patching.hooked import hook_of
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair
from interp.stats import FloatArray, interval_columns, require_columns, rng
from interp.superficiality.concentration import additive, other_clusters
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import PairedRuns, moved_against, percent, share_finding
from interp.superficiality.pairs import clusters_of, item_of
from interp.superficiality.routes import MeasuredRuns
from interp.superficiality.sides import CONTENT_SPANS, Sides, activations, metrics_of

TOP_HEADS = "top heads"

N_HEADS = 5
"""Heads that are patched together."""

N_NAMED, JACCARD_ITEMS = 10, 100
"""Heads whose names two halves of the items should share, and the items from which that is read."""

HEADS = ("item", "cluster", "slot", "layer", "head", "estimate", "total")
"""Columns of :func:`measure_heads`: nats of the pair's first metric."""

HeadPlace = tuple[int, int]
"""Layer and head."""


def measure_heads(model: TransformerBridge, pairs: Sequence[PromptPair]) -> pd.DataFrame:
    """What every head brings from the corrected run, estimated: a row per pair and head (:data:`HEADS`).

    ``estimate``: of copying the head's output at all positions from the first difference on, nats, by
    attribution patching. ``total``: the pair's effect.

    Raises:
        InterpError: see :func:`interp.patching.attribute`.
    """
    frames = []
    for number, (pair, cluster) in enumerate(zip(pairs, clusters_of(pairs), strict=True)):
        metric = next(iter(metrics_of(pair)))
        found = attribute(model, [pair], sites=["z"], metric=metric, progress=False)["z"]
        estimates = found.effect()[..., 0].double().numpy()
        layers, heads = np.indices(estimates.shape)
        total = float(found.source_baseline[0] - found.baseline[0])
        frames.append(
            pd.DataFrame(
                {
                    "item": item_of(pair, number),
                    "cluster": cluster,
                    "slot": pair.wording,
                    "layer": layers.ravel(),
                    "head": heads.ravel(),
                    "estimate": estimates.ravel(),
                    "total": total,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def choose_heads(heads: pd.DataFrame, k: int = N_HEADS) -> dict[str, tuple[HeadPlace, ...]]:
    """For each item the ``k`` heads of largest mean estimate on other clusters, along the effect.

    Args:
        heads: of :func:`measure_heads`.
        k: how many.

    Raises:
        InterpError: a missing column, a single cluster, or no more than ``k`` heads.
    """
    names, estimates, items = _estimates(heads)
    if not 1 <= k < len(names):
        raise InterpError(f"choose_heads: k is {k}, and there are {len(names)} heads: choose fewer")
    chosen = {}
    totals = items["total"].to_numpy(float)
    for item, own in zip(items["item"], other_clusters(items["cluster"].tolist()), strict=True):
        means = np.sign(totals[own].mean()) * estimates[:, own].mean(1)
        order = np.argsort(-means, kind="stable")[:k]
        chosen[str(item)] = tuple(sorted(names[place] for place in order))
    return chosen


def _estimates(heads: pd.DataFrame) -> tuple[list[HeadPlace], FloatArray, pd.DataFrame]:
    """Heads, their estimates ``[head, pair]``, and the pairs."""
    require_columns(heads, HEADS, "the table of heads")
    wide = heads.pivot(index=["layer", "head"], columns="item", values="estimate")
    items = heads.drop_duplicates("item").set_index("item").loc[wide.columns].reset_index()
    names = [(int(layer), int(head)) for layer, head in wide.index]
    return names, wide.to_numpy(float), items


def measure_top_heads(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    chosen: Sequence[Sequence[HeadPlace]],
    *,
    seed: int = 0,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """Patched heads: runs ``top heads``, ``head L9H6`` each, and ``other heads``, drawn in their layers.

    Head outputs are copied into the placebo run at all rows from the first difference on. ``chosen``: a
    pair's own heads; ``seed`` draws the others. What else there is: as in
    :func:`.routes.measure_routes`.

    Raises:
        InterpError: see :func:`.routes.measure_routes`.
    """
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    hooks = [hook_of("z", layer) for layer in range(int(model.cfg.n_layers))]
    for number, (sides, own) in enumerate(zip(runs.sides, chosen, strict=True)):
        outputs = activations(model, sides.corrected, hooks)
        label = str(number) if sides.pair.item is None else sides.pair.item.id
        drawn = draw_heads(own, int(model.cfg.n_heads), rng(seed, "other heads", label))
        for name, some in (
            ("top heads", own),
            ("other heads", drawn),
            *((f"head L{layer}H{head}", [(layer, head)]) for layer, head in own),
        ):
            runs.add(2 * number, name, _head_patches(outputs, sides, some))
    return runs.measure()


def draw_heads(
    chosen: Sequence[HeadPlace], n_heads: int, generator: np.random.Generator
) -> list[HeadPlace]:
    """As many heads of the same layers that were not chosen, as far as there are any."""
    drawn: list[HeadPlace] = []
    for layer in sorted({layer for layer, _ in chosen}):
        taken = [head for at, head in chosen if at == layer]
        free = [head for head in range(n_heads) if head not in taken]
        some = generator.choice(free, size=min(len(taken), len(free)), replace=False)
        drawn += [(layer, int(head)) for head in sorted(some)]
    return drawn


def _head_patches(
    outputs: Float[Tensor, "layer row head d_head"], sides: Sides, heads: Sequence[HeadPlace]
) -> list[Patch]:
    rows = torch.arange(int(sides.instruction[0]), len(sides.placebo))
    by_layer: dict[int, list[int]] = {}
    for layer, head in sorted(heads):
        by_layer.setdefault(layer, []).append(head)
    return [
        Patch(layer, "z", rows, outputs[layer][rows][:, own], tuple(own))
        for layer, own in by_layer.items()
    ]


def head_finding(
    runs: pd.DataFrame,
    heads: pd.DataFrame | None = None,
    *,
    metric: str | None = None,
    seed: int = 0,
) -> Finding:
    """The share of B that the top heads carry together, chosen on other clusters.

    Args:
        runs: of :func:`measure_top_heads`.
        heads: of :func:`measure_heads`, for the overlap of two halves' ten top heads.
        metric: which of the table's; the first by default.
        seed: of the halves.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    joint, other = own.step("top heads"), own.step("other heads")
    singles = [name for name in own.values if str(name).startswith("head ")]
    each = np.nansum(np.stack([own.step(str(name)) for name in singles], axis=1), axis=1)
    top, summed, control = own.share(joint), own.share(each), own.share(other)
    health = [*moved_against(own, joint)]
    health.append(additive("joint against sum", float(summed.estimate) - float(top.estimate)))
    health += [] if heads is None else [_overlap(heads, seed)]
    table = [
        {"heads": name, "n_pairs": int(own.values[name].notna().sum())}
        | interval_columns(own.share(own.step(str(name))), "share")
        for name in ("top heads", "other heads", *singles)
    ]
    return share_finding(
        TOP_HEADS,
        top,
        "the heads carry nothing",
        f"{N_HEADS} heads, chosen on other items, carry {percent(top)} of the effect together "
        f"(singly they sum to {percent(summed)}), others of their layers {percent(control)}.",
        pd.DataFrame(table),
        tuple(health),
    )


def _overlap(heads: pd.DataFrame, seed: int) -> HealthCheck:
    _, estimates, items = _estimates(heads)
    k = min(N_NAMED, len(estimates) - 1)
    found = split_half_overlap(estimates, items["cluster"].tolist(), k=k, seed=seed)
    few = len(items) < JACCARD_ITEMS
    return HealthCheck(
        f"top-{k} Jaccard of halves" + (f", n < {JACCARD_ITEMS}: stated only" if few else ""),
        found,
        few or found >= JACCARD_BAR,
        f"two halves of the items share {found:.2f} of their top {k} heads (bar {JACCARD_BAR})",
    )


def split_half_overlap(
    effects: FloatArray,
    clusters: Sequence[str],
    *,
    k: int = N_NAMED,
    n_splits: int = 100,
    seed: int = 0,
) -> float:
    """Mean Jaccard index of the ``k`` cells of largest mean effect in two random halves of the clusters.

    ``effects [cell, pair]``. 1: both halves name the same cells. NaN for a single cluster.

    Raises:
        InterpError: a ``k`` that is not below the number of cells.
    """
    if not 1 <= k < len(effects):
        raise InterpError(f"split_half_overlap: k is {k} of {len(effects)} cells: choose fewer")
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return float("nan")
    generator, found = rng(seed, "split halves"), []
    for _ in range(n_splits):
        first = np.isin(codes, generator.permutation(len(names))[: len(names) // 2])
        tops = [
            set(np.argsort(-np.abs(effects[:, side].mean(1)), kind="stable")[:k].tolist())
            for side in (first, ~first)
        ]
        found.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    return float(np.mean(found))
