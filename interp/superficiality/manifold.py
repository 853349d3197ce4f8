"""Off the manifold: are patched states such as placebo prompts have?

A patch that makes states which never occur says little of what the model does with those that do. At one
place every patched state is compared with placebo states, row by row:

- *distance*: Mahalanobis, with mean and covariance (Ledoit-Wolf) of placebo states of other items;
- *next norm*: of the stream behind the next layer, which answers to the patched rows.

A state is beyond where the number is above the 99th percentile of held-out placebo states, so that these
themselves are in one row of a hundred. Beside it stands the same patch with a matched other item's
placebo value (the same row counted from the prompt's end), which says what the operation alone does.

Cost per pair: two forwards, and along a direction two more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.covariance import LedoitWolf
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading
from interp.patching.cells import Patch
from interp.patching.hooked import patch_hooks
from interp.prompts import PromptPair
from interp.stats import FloatArray, require_columns
from interp.superficiality.concentration import other_clusters
from interp.superficiality.finding import HealthCheck
from interp.superficiality.pairs import clusters_of, folds_of, item_of
from interp.superficiality.routes import prepare
from interp.superficiality.sides import CONTENT_SPANS, residual_names, residual_states
from interp.superficiality.thresholds import OFF_MANIFOLD

MANIFOLD = ("item", "cluster", "slot", "state", "rows", "distance", "next_norm", "far", "large")
"""Columns of :func:`measure_manifold`: means over the rows, and the shares beyond the percentile."""

PLACEBO, PATCHED, MATCHED = "placebo", "patched", "matched"
"""The states of a pair: its placebo's own, those that a patch makes, and with another item's value."""

MANIFOLD_PAIRS = 12
"""Pairs whose states are compared."""

PERCENTILE = 99


def measure_manifold(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    place: int,
    *,
    vector: Float[Tensor, " d_model"] | None = None,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Distances and next norms of patched states at a place: a row per pair and kind of state.

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, the instruction first.
        place: of the stream: before layer ``place``, or behind the last one (without a next norm).
        vector: the patch sets the coordinate along it, at all positions behind the instruction; None:
            it sets the whole states of the content, as the content's route does.
        content: the spans that are content.
        clusters: of the pairs; by default those of their items.

    Returns:
        Columns :data:`MANIFOLD`.

    Raises:
        InterpError: pairs of a single cluster, or a place beyond the model's.
    """
    if not 0 <= place <= int(model.cfg.n_layers):
        raise InterpError(f"place {place}: the model has places 0 to {model.cfg.n_layers}")
    names = clusters_of(pairs, clusters)
    others = other_clusters(names)
    read = [_states(model, pair, place, vector is None, content) for pair in pairs]
    found: list[dict[str, tuple[FloatArray, FloatArray]]] = []
    fold = folds_of(names)
    for number, (pair, own, donors) in enumerate(zip(pairs, read, others, strict=True)):
        # held out as the pair itself is, where there is another cluster in its fold
        alike = [k for k in donors if fold[k] == fold[number]] or donors
        donor = read[alike[number % len(alike)]]["placebo"]
        kinds = {PLACEBO: own["placebo"]}
        for kind, goal in ((PATCHED, own["corrected"]), (MATCHED, _from_the_end(donor, own))):
            kinds[kind] = goal
            if vector is not None:
                kinds[kind] = _along(model, pair, place, own, goal[0], vector)
        found.append({kind: (_array(now), _array(next_)) for kind, (now, next_) in kinds.items()})
    return _table(pairs, names, found)


def spread(pairs: Sequence[PromptPair], n: int = MANIFOLD_PAIRS) -> list[PromptPair]:
    """Some pairs, of as many clusters as there are: the first of each, then the second ones."""
    seen: dict[str, int] = {}
    ranks = []
    for k, name in enumerate(clusters_of(pairs)):
        seen[name] = seen.get(name, -1) + 1
        ranks.append((seen[name], k))
    return [pairs[k] for _, k in sorted(ranks)[:n]]


_Stream = tuple[Tensor, Tensor]
"""States of some rows at a place, and at the next one."""


def _states(
    model: TransformerBridge,
    pair: PromptPair,
    place: int,
    of_content: bool,
    content: Sequence[str],
) -> Mapping[str, Any]:
    """The stream of both runs at the rows, at the place and the next; the rows themselves."""
    sides = prepare(model, pair, content)
    rows = sides.content if of_content else sides.behind
    rows = rows[rows < len(pair.destination)]
    streams: dict[str, Any] = {"rows": rows}
    for name, prompt in (("corrected", pair.source), ("placebo", pair.destination)):
        states = residual_states(model, Reading(prompt.ids, torch.tensor([len(prompt) - 1])))
        after = min(place + 1, len(states) - 1)
        streams[name] = states[place, rows], states[after, rows]
    return streams


def _from_the_end(donor: _Stream, own: Mapping[str, Any]) -> _Stream:
    """The donor's rows, counted from the end; its first row where it has fewer."""
    n, there = len(own["rows"]), len(donor[0])
    at = (torch.arange(n) + there - n).clamp(min=0)
    return donor[0][at], donor[1][at]


@torch.no_grad()
def _along(
    model: TransformerBridge,
    pair: PromptPair,
    place: int,
    own: Mapping[str, Any],
    goal: Float[Tensor, "row d_model"],
    vector: Float[Tensor, " d_model"],
) -> _Stream:
    """The placebo's rows with the goal's coordinate, and what the next layer makes of them."""
    rows: Int[Tensor, " row"] = own["rows"]
    now = Patch(0, "resid_pre", rows, goal, vector=vector).apply(own["placebo"][0])
    n_layers = int(model.cfg.n_layers)
    if place == n_layers:
        return now, now
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        kept.append(activation[0, rows].clone())

    ids = pair.destination.ids[None].to(model.cfg.device)
    hooks = patch_hooks([Patch(place, "resid_pre", rows, now)])
    reset_rope(model)
    with model.hooks(fwd_hooks=[*hooks, (residual_names(model)[place + 1], keep)]):
        wrapped_logits(model, ids, logits_to_keep=1)
    return now, kept[0]


def _array(states: Float[Tensor, "row d_model"]) -> FloatArray:
    return np.asarray(states.double().cpu().numpy())


def _table(
    pairs: Sequence[PromptPair],
    clusters: Sequence[str],
    found: Sequence[Mapping[str, tuple[FloatArray, FloatArray]]],
) -> pd.DataFrame:
    """Every fold of clusters against the covariance of the other one's placebo states."""
    folds, rows = folds_of(clusters), []
    for fold in (0, 1):
        own = [k for k in range(len(pairs)) if folds[k] == fold]
        fitted = np.concatenate([found[k][PLACEBO][0] for k in range(len(pairs)) if k not in own])
        covariance = LedoitWolf().fit(fitted)
        numbers = {
            (k, kind): (
                np.sqrt(np.maximum(covariance.mahalanobis(now), 0)),
                np.linalg.norm(after, axis=1),
            )
            for k in own
            for kind, (now, after) in found[k].items()
        }
        bounds = [
            np.percentile(np.concatenate([numbers[k, PLACEBO][part] for k in own]), PERCENTILE)
            for part in (0, 1)
        ]
        for (k, kind), (distance, norm) in numbers.items():
            beyond = [float((x > b).mean()) for x, b in zip((distance, norm), bounds, strict=True)]
            rows.append(
                (item_of(pairs[k], k), clusters[k], pairs[k].wording, kind,
                 len(distance), float(distance.mean()), float(norm.mean()), *beyond)
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(MANIFOLD))


def manifold_check(table: pd.DataFrame) -> HealthCheck:
    """Whether no more than half of the patched states lie beyond what placebo states are.

    Its value is the larger of the two shares, by distance and by next norm.

    Raises:
        InterpError: a missing column.
    """
    require_columns(table, MANIFOLD, "the table of the manifold")
    weighted = table.assign(far=table["far"] * table["rows"], large=table["large"] * table["rows"])
    sums = weighted.groupby("state")[["far", "large", "rows"]].sum()
    shares = {name: (sums[name] / sums["rows"]).to_dict() for name in ("far", "large")}
    far, large = (float(shares[name][PATCHED]) for name in ("far", "large"))
    other, other_large = (float(shares[name][MATCHED]) for name in ("far", "large"))
    return HealthCheck(
        "off the manifold",
        max(far, large),
        bool(max(far, large) <= OFF_MANIFOLD),
        f"{100 * far:.0f} % of the patched states are farther off and {100 * large:.0f} % larger behind "
        f"the next layer than {PERCENTILE} % of placebo states (with another item's value "
        f"{100 * other:.0f} % and {100 * other_large:.0f} %)",
    )
