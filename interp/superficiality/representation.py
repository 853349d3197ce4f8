"""Representation: how far the instruction moves what states read along a direction.

Per pair corrected - placebo of the projection onto the direction, in class units of the sentences that
it was learned from (the classes lie 2 apart), at every layer of the direction, of the stream and of what
attention and MLP add to it. With the instruction first it is read over the content (the context's and
the question's tokens, special ones and position 0 left out, whose norms dwarf the others') and at the
prompt's last position; with the instruction last at the last position alone, since content that comes
before an instruction cannot change and a mean over it would be diluted.

All of these cells are one family (two-way max-t). One cell was chosen before: the content, at the layer
that labelled sentences chose.

Cost: two forwards per pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import stream
from interp.directions import Direction, DirectionStack
from interp.directions.components import DOT, Component, component_reader
from interp.errors import InterpError
from interp.prompts import PromptPair, TokenizedPrompt
from interp.stats import cluster_mean, max_t, random_wordings, require_columns
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.pairs import clusters_of, item_of
from interp.superficiality.sides import CONTENT_SPANS
from interp.superficiality.subspaces import direction_axes

REPRESENTATION = "representation"
NEGATED = "representation, negated"

SHIFTS = ("item", "cluster", "slot", "placement", "position", "component", "layer", "own", "value")
"""Columns of the table of shifts: a row per pair and cell; ``own`` marks the direction's own layer and
site; ``value`` is corrected - placebo in class units."""

CONTENT, LAST = "content", "last"


def measure_representation(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    direction: DirectionStack | Direction,
    *,
    components: Sequence[Component] | None = None,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The shifts of every pair and cell: columns :data:`SHIFTS`.

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, in either placement.
        direction: of this model, in the residual stream.
        components: what is projected; the direction's site, attention and MLP by default.
        content: the spans that are content.
        clusters: of the pairs; by default those of their items.

    Raises:
        InterpError: no pairs, a direction of other weights or of another site, an unknown component.
    """
    if not pairs:
        raise InterpError("measure_representation: no pairs: the list is empty")
    direction.require(model)
    direction_axes(direction)  # refuses other sites
    own = [direction] if isinstance(direction, Direction) else list(direction)
    chosen = (direction.site, "attn_out", "mlp_out") if components is None else tuple(components)
    cells = [(component, one) for component in dict.fromkeys(chosen) for one in own]
    readers = [component_reader(model, name, one.layer, one.vector[None]) for name, one in cells]
    best = own[0].layer if isinstance(direction, Direction) else direction.best_layer
    prompts = [prompt for pair in pairs for prompt in (pair.source, pair.destination)]
    hooks = {reader.hook: reader.reduce for reader in readers}
    read = []
    for index, found in stream(model, prompts, hooks, positions="all", progress=False):
        dots = torch.stack([found[reader.hook][:, 0, DOT, 0] for reader in readers])
        scales = torch.tensor([one.scale for _, one in cells])
        read.append(_by_position(model, prompts[index], dots / scales[:, None], content))
    rows = []
    for k, (pair, cluster) in enumerate(zip(pairs, clusters_of(pairs, clusters), strict=True)):
        source, destination = read[2 * k], read[2 * k + 1]
        for position in source:
            shift = (source[position] - destination[position]).tolist()
            for (name, one), value in zip(cells, shift, strict=True):
                is_own = name == direction.site and one.layer == best
                unit = (
                    item_of(pair, k),
                    cluster,
                    pair.wording,
                    _placement(pair, content),
                    position,
                )
                rows.append((*unit, name, one.layer, is_own, value))
    return pd.DataFrame(rows, columns=list(SHIFTS))


def _placement(pair: PromptPair, content: Sequence[str]) -> str:
    return "before" if _content_rows(pair.source, content) else "after"


def _content_rows(prompt: TokenizedPrompt, content: Sequence[str]) -> list[int]:
    """Positions of the content, where it comes after the instruction."""
    spans = [prompt.span(name) for name in content if name in prompt.spans]
    if not spans or min(span.start for span in spans) < prompt.span("instruction").stop:
        return []
    return [p for span in spans for p in range(span.start, span.stop) if p > 0]


def _by_position(
    model: TransformerBridge,
    prompt: TokenizedPrompt,
    values: Float[Tensor, "cell pos"],
    content: Sequence[str],
) -> dict[str, Float[Tensor, " cell"]]:
    """The values over the content, where it can change, and at the last position."""
    special = set() if model.tokenizer is None else set(model.tokenizer.all_special_ids)
    rows = [p for p in _content_rows(prompt, content) if int(prompt.ids[p]) not in special]
    found = {LAST: values[:, -1]}
    return {CONTENT: values[:, rows].mean(1), **found} if rows else found


def representation_findings(
    shifts: pd.DataFrame,
    *,
    negated: pd.DataFrame | None = None,
    instrument: HealthCheck | None = None,
    seed: int = 0,
) -> list[Finding]:
    """The shift of the content at the direction's own layer, beside the family of all cells.

    Args:
        shifts: of :func:`measure_representation`, both placements.
        negated: the same of negated -> placebo, a row of its own.
        instrument: the check that the direction is an instrument at all.
        seed: of the family's draws.

    Raises:
        InterpError: a missing column, or no shift of content at the direction's own layer.
    """
    health = () if instrument is None else (instrument,)
    found = [_finding(REPRESENTATION, "instruction", shifts, health, seed)]
    if negated is not None:
        found.append(_finding(NEGATED, "negated instruction", negated, health, seed))
    return found


def _finding(
    name: str, who: str, shifts: pd.DataFrame, health: tuple[HealthCheck, ...], seed: int
) -> Finding:
    own = own_shifts(shifts)
    table = _family(shifts, seed)
    wordings = own["slot"].astype(str).tolist()
    values = own["value"].to_numpy(float)
    found = cluster_mean(values, own["cluster"], wordings=random_wordings(wordings))
    moved = int((table["p_corrected"] < 0.05).sum())
    layer = int(own["layer"].iloc[0])
    return Finding(
        name,
        f"shift along the direction over the content, layer {layer}, class units",
        found,
        float(found.p),
        f"the {who} moves the content along the direction as its placebo does",
        int(found.n),
        f"The {who} moves the content by {found} class units towards + (moral) at layer {layer}; "
        f"{moved} of {len(table)} layers, components and placements differ from 0 as a family.",
        table,
        health,
    )


def own_shifts(shifts: pd.DataFrame) -> pd.DataFrame:
    """The rows of the cell that was chosen before: content, the direction's own layer and site.

    Raises:
        InterpError: none, or a missing column.
    """
    require_columns(shifts, SHIFTS, "the table of shifts")
    own = shifts[shifts["own"] & (shifts["position"] == CONTENT)]
    if own.empty:
        raise InterpError(
            "the table of shifts has no content at the direction's own layer: measure pairs with the "
            "instruction first"
        )
    return own


def _family(shifts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every cell's mean shift with simultaneous intervals and corrected p."""
    cell = ["placement", "position", "component", "layer"]
    wide = shifts.pivot(index=cell, columns=["item", "slot"], values="value").sort_index()
    of_item = shifts.drop_duplicates("item").set_index("item")["cluster"]
    clusters = of_item[wide.columns.get_level_values("item")].tolist()
    wordings = random_wordings([str(slot) for slot in wide.columns.get_level_values("slot")])
    tested = max_t(wide.to_numpy(float), clusters, wordings=wordings, seed=seed)
    columns = ("estimate", "low", "high", "p_raw", "p_corrected", "n")
    return wide.index.to_frame(index=False).assign(
        **{name: np.atleast_1d(getattr(tested, name)) for name in columns}
    )
