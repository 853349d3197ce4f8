"""Mediation: how much of an instruction's effect the coordinates along a direction carry.

Coordinates are set on the *current* state, place after place: along a subspace ``h + V^T V (h' - h)``,
orthogonal to it ``h + (I - V^T V)(h' - h)``, with h' the state of the other run. What was added at one
place is therefore not added again at the next. With positions all from the first difference on, along
and orthogonal together are the other run itself, exactly.

Exchanges go both ways: *into* the placebo run (what is the coordinate sufficient for?) and *out* of the
corrected one (what is lost without it?). They are made at every place of the direction and at its own
place alone, at all positions and at those behind the instruction alone.

A share says little by itself: where one place carries a tenth of the effect, no direction there can
carry more. So R = share(direction) / share(oracle), the leading directions of the very shift fitted on
other items and other wordings (:mod:`interp.superficiality.subspaces`), and it is read only where the
whole states carry at least half of the effect and the oracle at least .3.

Cost per pair: seven patched runs; with spans of five ranks eight more (the first :data:`SPAN_PAIRS`),
with null directions and the other settings some thirty (the first :data:`DETAILED_PAIRS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair
from interp.stats import Interval, interval_columns, random_wordings, share
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import (
    PairedRuns,
    moved_against,
    percent,
    share_finding,
    untrained_check,
)
from interp.superficiality.routes import CORRECTED, MeasuredRuns
from interp.superficiality.sides import CONTENT_SPANS
from interp.superficiality.subspaces import ROWS, PairRows, PlaceAxes, Subspaces, positions_of
from interp.superficiality.thresholds import (
    BEYOND_NULLS,
    FULL_STATE_SHARE,
    IDENTITY_TOLERANCE,
    ORACLE_SHARE,
    RANKS,
)

R_IN, R_OUT = "mediation R, into placebo", "mediation R, out of corrected"
SPANS, ADDED_UP = "mediation R of spans", "mediation, along + orthogonal"
BEYOND = "mediation beyond null directions"

Way = Literal["into", "out"]
"""Of the corrected run's coordinates into the placebo's, or of the placebo's into the corrected one."""

Where = Literal["every", "own"]
"""At every place of the direction, or at its own alone."""

WAYS: tuple[Way, ...] = get_args(Way)
PLACES: tuple[Where, ...] = get_args(Where)

DIRECTION, ORTHOGONAL, ORACLE, WHOLE = "direction", "orthogonal", "oracle", "whole"

SPAN_PAIRS = 30
"""Pairs in which spans of several fits are exchanged."""

DETAILED_PAIRS = 12
"""Pairs with null directions and the settings beside those that the rows read."""


@dataclass(frozen=True)
class Exchange:
    """One patched run: which coordinates are set, where, and in which of the two runs.

    ``space``: :data:`DIRECTION` (its span, where k > 1), :data:`ORTHOGONAL`, :data:`ORACLE`,
    :data:`WHOLE` (along and orthogonal, the whole state), or the name of a null direction.
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
        spans: also of every rank above 1.
        detailed: also null directions, the other ways and positions, and the own place alone.
    """
    single, alone = (DIRECTION, ORACLE), (DIRECTION, ORTHOGONAL, WHOLE)
    rows = [
        *(Exchange(s, k) for k in (spaces.ranks if spans else (1,)) for s in single),
        *(Exchange(s, way="out") for s in single),
        *(Exchange(s, rows="all") for s in alone),
    ]
    if not detailed:
        return tuple(rows)
    rows += [
        Exchange(ORACLE, rows="all"),
        *(Exchange(s, way="out", rows="all") for s in single),
        *(Exchange(s, way=way, places="own") for way in WAYS for s in (*single, WHOLE)),
        *(Exchange(s, way=way, rows="all", places="own") for way in WAYS for s in single),
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
                source, run = (
                    (corrected, 2 * number) if one.way == "into" else (placebo, 2 * number + 1)
                )
                at = positions_of(sides, one.rows)
                runs.add(run, one.run, list(_patches(spaces, one, basis, source, at)))
    return runs.measure()


def _basis(spaces: Subspaces, one: Exchange, group: int) -> Float[Tensor, "place k d_model"] | None:
    """The vectors of an exchange; None for an oracle that could not be fitted."""
    if one.space == ORACLE:
        found = spaces.oracles[one.rows][group][:, : one.k]
        return None if bool(found.isnan().any()) else found
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


def mediation_findings(
    runs: pd.DataFrame,
    *,
    instrument: HealthCheck | None = None,
    untrained: pd.DataFrame | None = None,
    metric: str | None = None,
) -> list[Finding]:
    """R both ways, R of the spans, what along and orthogonal add up to, and the place among nulls.

    With e(run) = run - placebo and total = e(corrected), shares into placebo are e / total, out of
    corrected (total - e) / total. R = share(direction) / share(oracle) is a ratio of two means over the
    same pairs (Fieller); the pairs without an oracle are left out. Everything is read behind the
    instruction at every place; the other settings stand in the first row's table.

    Args:
        runs: of :func:`measure_mediation`.
        instrument: the check that the direction is an instrument at all
            (:func:`interp.superficiality.instrument.instrument_check`).
        untrained: the same on an untrained copy of the model: the direction has to move nothing there.
        metric: which of the table's; the first by default.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    common = () if instrument is None else (instrument,)
    table = _settings(own)
    health = (*common, *_identity(own))
    moved = own.step(Exchange(DIRECTION).run)
    copy = untrained_check(own, untrained, Exchange(DIRECTION).run, metric=metric)
    findings = [
        _ratio_finding(own, R_IN, "into", table, (*health, *copy)),
        _ratio_finding(own, R_OUT, "out", table, health),
    ]
    findings.append(_spans(own, health))
    both = own.step(Exchange(DIRECTION, rows="all").run) + own.step(
        Exchange(ORTHOGONAL, rows="all").run
    )
    rest = own.share(both - own.total)
    findings.append(
        share_finding(
            ADDED_UP,
            rest,
            "the coordinate and the rest of the state add up",
            f"The coordinate alone and the rest alone bring {percent(rest)} more than the effect.",
            own.per_pair(both=both),
            health,
        )
    )
    names = null_names(own)
    if names:
        findings.append(_beyond(own, moved, names, common))
    return findings


def _ratio_finding(
    own: PairedRuns, name: str, way: Way, table: pd.DataFrame, health: tuple[HealthCheck, ...]
) -> Finding:
    ratio = _ratio(own, Exchange(DIRECTION, way=way), Exchange(ORACLE, way=way))
    null, where = {
        "into": ("the direction's coordinate brings nothing of the effect", "into the placebo run"),
        "out": (
            "nothing of the effect needs the direction's coordinate",
            "out of the corrected run",
        ),
    }[way]
    return share_finding(
        name,
        ratio,
        null,
        f"Exchanged {where}, the direction carries {percent(ratio)} of what the oracle carries.",
        table,
        (
            *health,
            *_readable(own, way),
            *moved_against(own, _part(own, Exchange(DIRECTION, way=way))),
        ),
        statistic="share of the direction / share of the oracle, k = 1",
    )


def null_names(own: PairedRuns) -> list[str]:
    """The names of null directions among the runs."""
    prefix, known = "into behind every ", {DIRECTION, ORTHOGONAL, ORACLE, WHOLE}
    names = [str(run).removeprefix(prefix).rsplit(" ", 1)[0] for run in own.values.columns
             if str(run).startswith(prefix)]  # fmt: skip
    return [name for name in dict.fromkeys(names) if name not in known]


def _part(own: PairedRuns, one: Exchange) -> np.ndarray:
    """What an exchange brings (into) or takes away (out), per pair."""
    if one.run not in own.values:
        return np.full(len(own.values), np.nan)
    moved = own.step(one.run)
    return moved if one.way == "into" else own.total - moved


def _ratio(own: PairedRuns, above: Exchange, below: Exchange) -> Interval:
    top, base = _part(own, above), _part(own, below)
    return share(top, base, own.clusters, random_wordings(own.wordings))


def _settings(own: PairedRuns) -> pd.DataFrame:
    """Shares of every exchange and R of every setting that was run."""
    spaces = (DIRECTION, ORACLE, ORTHOGONAL, WHOLE)
    every = product(WAYS, ROWS, PLACES, RANKS, spaces)
    asked = [Exchange(s, k, way, rows, places) for way, rows, places, k, s in every]
    rows = [
        vars(one) | interval_columns(own.share(_part(own, one)))
        for one in asked
        if one.run in own.values
    ]
    return pd.DataFrame(rows)


def _identity(own: PairedRuns) -> tuple[HealthCheck, ...]:
    """Along and orthogonal together, all positions, every place: the corrected run itself."""
    run = Exchange(WHOLE, rows="all").run
    if run not in own.values:
        return ()
    gap = float(np.abs(own.step(run, CORRECTED)).max())
    return (
        HealthCheck(
            "along + orthogonal",
            gap,
            gap <= IDENTITY_TOLERANCE,
            f"along and orthogonal together miss the corrected run by {gap:.1e} nats",
        ),
    )


def _readable(own: PairedRuns, way: Way) -> tuple[HealthCheck, ...]:
    """Whether there is enough to carry, the oracle carries enough, and nothing is cancelled."""
    # at every place the whole states are the source's own at the rows that are read, wherever else
    # they are set: one run tells for both ways and positions
    full = _part(own, Exchange(WHOLE, rows="all"))
    whole = own.share(full)
    oracle = own.share(_part(own, Exchange(ORACLE, way=way)))
    beyond = own.share(_part(own, Exchange(DIRECTION, way=way)) - full)
    if np.isnan(whole.estimate):  # no effect to carry, which the row itself says
        return ()
    return (
        _at_least("full state", whole, FULL_STATE_SHARE, "the whole states carry"),
        _at_least("oracle", oracle, ORACLE_SHARE, "the oracle carries"),
        HealthCheck(
            "no cancellation",
            float(beyond.estimate),
            not bool(beyond.low > 0),
            f"the direction alone carries {percent(beyond)} more than the whole state: what it moves is "
            "cancelled by the rest",
        ),
    )


def _at_least(name: str, found: Interval, bound: float, who: str) -> HealthCheck:
    return HealthCheck(
        name,
        float(found.low),
        bool(found.low >= bound),
        f"{who} {percent(found)} of the effect, and the lower bound has to be at least {bound:.2f}",
    )


def _spans(own: PairedRuns, health: tuple[HealthCheck, ...]) -> Finding:
    """R of every rank; the interval shown is that of the rank whose upper bound is highest."""
    rows = []
    for k in RANKS:
        above, below = Exchange(DIRECTION, k), Exchange(ORACLE, k)
        if above.run in own.values and below.run in own.values:
            oracle = own.share(_part(own, below))
            rows.append((k, _ratio(own, above, below), oracle))
    table = pd.DataFrame(
        [
            {
                "k": k,
                **interval_columns(ratio, "ratio"),
                **interval_columns(oracle, "oracle"),
                "is_read": bool(oracle.low >= ORACLE_SHARE),
            }
            for k, ratio, oracle in rows
        ]
    )
    usable = [(k, one) for k, one, oracle in rows if oracle.low >= ORACLE_SHARE]
    nan = float("nan")
    if usable:
        k, found = max(usable, key=lambda row: row[1].high)
    else:
        k, found = (
            0,
            Interval(nan, nan, nan, 0, 0, 0.95, "no rank whose oracle carries .30", "fieller"),
        )
    return share_finding(
        SPANS,
        found,
        "no span of several fits brings anything of the effect",
        f"Of spans of up to {max((k for k, *_ in rows), default=0)} fits the one of {k} carries most: "
        f"{percent(found)} of what its oracle carries.",
        table,
        health,
        statistic=f"share of the span / share of the oracle, largest upper bound, k = {k}",
    )


def _beyond(
    own: PairedRuns, moved: np.ndarray, names: Sequence[str], health: tuple[HealthCheck, ...]
) -> Finding:
    """The direction's share less that of the null direction that 95 % lie below, over its pairs."""
    parts = {name: own.step(Exchange(name).run) for name in names}
    means = {name: float(np.nanmean(part)) for name, part in parts.items()}
    ranked = sorted(means, key=lambda name: -abs(means[name]))
    bound = ranked[int((1 - BEYOND_NULLS) * len(ranked) + 1e-9)]
    keep = ~np.isnan(parts[bound])
    found = own.share(moved - np.sign(means[bound]) * parts[bound], keep)
    mine = float(moved[keep].mean())
    share_below = float(np.mean([abs(mean) < mine for mean in means.values()]))
    total = float(own.total[keep].mean())
    table = pd.DataFrame(
        [{"direction": DIRECTION, "share": mine / total}]
        + [{"direction": name, "share": mean / total} for name, mean in means.items()]
    )
    return share_finding(
        BEYOND,
        found,
        "the direction carries no more than the largest null directions",
        f"The direction carries more than {100 * share_below:.0f} % of {len(names)} null directions; "
        f"{percent(found)} of the effect more than {bound}, which 95 % of them do not exceed.",
        table,
        health,
    )
