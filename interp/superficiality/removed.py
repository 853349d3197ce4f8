"""The shift along a direction without what every request does to the states.

Whatever is asked, states move: the shift from a statement to a non-moral request of its length. What the
moral instruction's shift shares with it is no reading of what it asks for. So the component of the
content's shift (corrected - placebo) along the mean shift of other items' requests (placebo - statement)
is taken out, and what is left is read along the direction:

    m' = m - u u^T m,  u the unit mean over pairs of other clusters.

Costs no forward: the states are those of :func:`interp.superficiality.states.pair_states`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions import Direction, DirectionStack
from interp.errors import InterpError
from interp.prompts import PromptPair
from interp.stats import (
    cluster_mean,
    interval_columns,
    random_wordings,
    require_columns,
    share,
)
from interp.superficiality.concentration import other_clusters
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import percent
from interp.superficiality.pairs import clusters_of, item_of
from interp.superficiality.states import PLACES, RUNS
from interp.superficiality.subspaces import direction_axes

REMOVED = "representation, shared shift removed"

REMOVALS = ("item", "cluster", "slot", "layer", "own", "raw", "removed")
"""Columns of :func:`measure_removed`: the content's shift along the direction, class units, as it is and
without what requests share."""


def has_content(states: Tensor | None) -> bool:
    """Whether states of pairs hold those of the content, which runs of an older version do not."""
    return states is not None and states.shape[2] == len(PLACES)


def measure_removed(
    states: Float[Tensor, "pair run place layer d_model"],
    pairs: Sequence[PromptPair],
    direction: DirectionStack | Direction,
    *,
    clusters: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The shift of every pair's content at every layer of the direction: columns :data:`REMOVALS`.

    Args:
        states: of :func:`interp.superficiality.states.pair_states`, pair by pair.
        pairs: corrected -> placebo, the instruction first.
        direction: of this model, in the residual stream.
        clusters: of the pairs; by default those of their items.

    Raises:
        InterpError: states of another number of pairs, or without the content's; a single cluster; a
            direction of another site.
    """
    if len(states) != len(pairs) or not has_content(states):
        raise InterpError(
            f"states of {len(states)} pairs at {states.shape[2]} places for {len(pairs)} pairs: give "
            f"those of pair_states, at {', '.join(PLACES)}"
        )
    names = clusters_of(pairs, clusters)
    places, _, vectors = direction_axes(direction)
    own = [direction] if isinstance(direction, Direction) else list(direction)
    of_layer = {one.layer: one for one in own}
    best = own[0].layer if isinstance(direction, Direction) else direction.best_layer
    content = states[:, :, PLACES.index("content")].double()
    here, there, other = (
        content[:, RUNS.index(run)] for run in ("corrected", "placebo", "other statement")
    )
    rows = []
    donors = other_clusters(names)
    for layer, place, vector in zip(sorted(of_layer), places, vectors.double().cpu(), strict=True):
        moral, request = (here - there)[:, place], (there - other)[:, place]
        for k, pair in enumerate(pairs):
            shared = torch.nn.functional.normalize(request[donors[k]].mean(0), dim=-1)
            left = moral[k] - (shared @ moral[k]) * shared
            scale = of_layer[layer].scale
            numbers = [float(x @ vector) / scale for x in (moral[k], left)]
            rows.append((item_of(pair, k), names[k], pair.wording, layer, layer == best, *numbers))
    return pd.DataFrame(rows, columns=list(REMOVALS))


def removed_finding(removals: pd.DataFrame, *, instrument: HealthCheck | None = None) -> Finding:
    """What is left of the content's shift at the direction's own layer, and by how much it shrank.

    Args:
        removals: of :func:`measure_removed`.
        instrument: the check that the direction is an instrument at all.

    Raises:
        InterpError: a missing column.
    """
    require_columns(removals, REMOVALS, "the table of removals")
    table = []
    for layer, at in removals.groupby("layer", sort=True):
        wordings = random_wordings(at["slot"].astype(str).tolist())
        raw, left = (
            cluster_mean(at[name].to_numpy(float), at["cluster"], wordings=wordings)
            for name in ("raw", "removed")
        )
        columns = interval_columns(raw, "raw") | interval_columns(left, "removed")
        table.append({"layer": layer, "own": bool(at["own"].any()), **columns})
        if at["own"].any():
            found, before = left, raw
            taken = share(
                (at["raw"] - at["removed"]).to_numpy(float),
                at["raw"].to_numpy(float),
                at["cluster"].tolist(),
                wordings,
            )
    size = abs(float(before.estimate))
    less = 1 - abs(float(found.estimate)) / size if size else np.nan
    return Finding(
        REMOVED,
        "shift along the direction over the content, class units, without the shared shift",
        found,
        float(found.p),
        "the instruction moves the content along the direction as its placebo does, but for what every "
        "request does",
        int(found.n),
        f"Without what every request does to the content, the instruction moves it by {found} class "
        f"units, with it by {before}: it {'shrinks' if less >= 0 else 'grows'} by "
        f"{100 * abs(less):.0f} % ({percent(taken)} is taken out).",
        pd.DataFrame(table),
        () if instrument is None else (instrument,),
    )
