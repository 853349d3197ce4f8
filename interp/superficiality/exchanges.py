"""Exchanges: which coordinates are set, where, in which of a pair's two runs, and what comes of it.

Coordinates are set on the *current* state, place after place: along a subspace ``h + V^T V (h' - h)``,
orthogonal to it ``h + (I - V^T V)(h' - h)``, with h' the state of the other run. What was added at one
place is therefore not added again at the next. With positions all from the first difference on, along
and orthogonal together are the other run itself, exactly.

Exchanges go both ways: *into* the placebo run (what is the coordinate sufficient for?) and *out* of the
corrected one (what is lost without it?). They are made at every place of the direction and at its own
place alone, at all positions and at those behind the instruction alone. What is made of them:
:mod:`interp.superficiality.mediation`.

Cost per pair: seven patched runs; with spans of five ranks and both parts of the direction twelve more
(the first :data:`SPAN_PAIRS`), with null directions and the other settings some thirty (the first
:data:`DETAILED_PAIRS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair
from interp.superficiality.readable import part_of
from interp.superficiality.routes import MeasuredRuns
from interp.superficiality.sides import CONTENT_SPANS
from interp.superficiality.subspaces import PairRows, PlaceAxes, Subspaces, positions_of

Way = Literal["into", "out"]
"""Of the corrected run's coordinates into the placebo's, or of the placebo's into the corrected one."""

Where = Literal["every", "own"]
"""At every place of the direction, or at its own alone."""

WAYS: tuple[Way, ...] = get_args(Way)
PLACES: tuple[Where, ...] = get_args(Where)

DIRECTION, ORTHOGONAL, ORACLE, WHOLE = "direction", "orthogonal", "oracle", "whole"
READABLE, UNREAD, IMMEDIATE = "readable", "unread", "immediate"

SPACES = (DIRECTION, ORACLE, ORTHOGONAL, WHOLE, READABLE, UNREAD, IMMEDIATE)
"""All but the null directions, which have names of their own."""

SPAN_PAIRS = 30
"""Pairs in which spans of several fits are exchanged."""

DETAILED_PAIRS = 12
"""Pairs with null directions and the settings beside those that the rows read."""


@dataclass(frozen=True)
class Exchange:
    """One patched run: which coordinates are set, where, and in which of the two runs.

    ``space``: :data:`DIRECTION` (its span, where k > 1), :data:`ORTHOGONAL`, :data:`ORACLE`,
    :data:`WHOLE` (along and orthogonal, the whole state), :data:`READABLE` and :data:`UNREAD` (the two
    parts of the direction, :mod:`interp.superficiality.readable`), :data:`IMMEDIATE` (the change along
    the direction at its own place, added to the final stream: straight to the logits, no later layer
    answers to it), or the name of a null direction.
    """

    space: str
    k: int = 1
    way: Way = "into"
    rows: PairRows = "behind"
    places: Where = "every"

    @property
    def run(self) -> str:
        """The run's name in the table of runs."""
        return f"{self.way} {self.rows} {self.places} {self.space} {self.k}"


def exchanges_of(
    spaces: Subspaces, *, spans: bool = True, detailed: bool = True
) -> tuple[Exchange, ...]:
    """The exchanges of a card: the direction and the oracle, both ways, and along, orthogonal and both.

    Args:
        spaces: the span, the oracles and the null directions.
        spans: also of every rank above 1, and of both parts of the direction.
        detailed: also null directions, the other ways and positions, and the own place alone, there
            also straight to the logits.
    """
    single, alone = (DIRECTION, ORACLE), (DIRECTION, ORTHOGONAL, WHOLE)
    rows = [
        *(Exchange(s, k) for k in (spaces.ranks if spans else (1,)) for s in single),
        *(Exchange(s, way="out") for s in single),
        *(Exchange(s, rows="all") for s in alone),
    ]
    if spans and spaces.parts is not None:
        rows += [Exchange(s, way=way) for way in WAYS for s in (READABLE, UNREAD)]
    if not detailed:
        return tuple(rows)
    rows += [
        Exchange(ORACLE, rows="all"),
        *(Exchange(s, way="out", rows="all") for s in single),
        *(Exchange(s, way=way, places="own") for way in WAYS for s in (*single, WHOLE)),
        *(Exchange(s, way=way, rows="all", places="own") for way in WAYS for s in single),
        Exchange(IMMEDIATE, places="own"),
    ]
    return (*rows, *(Exchange(name) for name in spaces.nulls))


def measure_mediation(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    spaces: Subspaces,
    *,
    groups: Sequence[int] | None = None,
    exchanges: Sequence[Exchange] | None = None,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """The metrics of every exchange, a row per pair, run and metric.

    Columns: those of :data:`interp.superficiality.routes.COLUMNS`; a run is an :attr:`Exchange.run`.

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, the instruction first, aligned by index.
        spaces: of :func:`interp.superficiality.subspaces.fit_subspaces`.
        groups: which oracle is each pair's; those of ``spaces`` by default.
        exchanges: those of :func:`exchanges_of` by default.
        content: the spans that are content.
        clusters: of the pairs, where they have no items; by default the items'.
        method: ``"exact"``, or ``"hooked"`` for one forward per run.
        max_bytes: memory budget.

    Raises:
        InterpError: what :func:`interp.superficiality.sides.sides_of` refuses; groups that are not one
            per pair; places beyond the model's.
    """
    groups = spaces.groups if groups is None else groups
    if len(groups) != len(pairs):
        raise InterpError(f"{len(groups)} groups of oracles for {len(pairs)} pairs: give one each")
    n_layers = int(model.cfg.n_layers)
    if max(spaces.places) > n_layers:
        raise InterpError(
            f"the direction stands at place {max(spaces.places)}, and the model has {n_layers} layers"
        )
    asked = exchanges_of(spaces) if exchanges is None else exchanges
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    for number, (sides, group) in enumerate(zip(runs.sides, groups, strict=True)):
        corrected, placebo = runs.states(2 * number + 1), runs.states(2 * number)
        for one in asked:
            basis = _basis(spaces, one, group)
            if basis is not None:
                source, own, run = (
                    (corrected, placebo, 2 * number)
                    if one.way == "into"
                    else (placebo, corrected, 2 * number + 1)
                )
                at = positions_of(sides, one.rows)
                if one.space == IMMEDIATE:
                    patches = [_straight(spaces, basis, source, own, at)]
                else:
                    patches = list(_patches(spaces, one, basis, source, at))
                runs.add(run, one.run, patches)
    return runs.measure()


def _basis(spaces: Subspaces, one: Exchange, group: int) -> Float[Tensor, "place k d_model"] | None:
    """The vectors of an exchange; None for an oracle, or a part, that could not be fitted."""
    if one.space == ORACLE:
        found = spaces.oracles[one.rows][group][:, : one.k]
        return None if bool(found.isnan().any()) else found
    if one.space in (READABLE, UNREAD):
        part = part_of(spaces.parts, group, one.space == READABLE)
        return None if part is None else part[:, None]
    if one.space in spaces.nulls:
        vectors: PlaceAxes = spaces.nulls[one.space]
        return vectors[:, None]
    return spaces.span[:, : one.k]


def _patches(
    spaces: Subspaces,
    one: Exchange,
    basis: Float[Tensor, "place k d_model"],
    source: Float[Tensor, "layer row d_model"],
    at: Tensor,
) -> Iterator[Patch]:
    last = len(source) - 1
    parts = {ORTHOGONAL: (True,), WHOLE: (False, True)}.get(one.space, (False,))
    for place, vectors in zip(spaces.places, basis, strict=True):
        if one.places == "own" and place != spaces.own:
            continue
        site: Literal["resid_pre", "resid_post"] = "resid_pre" if place < last else "resid_post"
        for orthogonal in parts:
            yield Patch(
                min(place, last - 1),
                site,
                at,
                source[place, at],
                vector=vectors,
                orthogonal=orthogonal,
            )


def _straight(
    spaces: Subspaces,
    basis: Float[Tensor, "place k d_model"],
    source: Float[Tensor, "layer row d_model"],
    own: Float[Tensor, "layer row d_model"],
    at: Int[Tensor, " _row"],
) -> Patch:
    """The change at the direction's own place, along it, added to the final stream."""
    place = spaces.places.index(spaces.own)
    moved = own[-1, at] + (source - own)[spaces.own, at]
    return Patch(len(own) - 2, "resid_post", at, moved, vector=basis[place])
