"""Mediation: how much of an instruction's effect the coordinates along a direction carry.

Coordinates along it are exchanged between the two runs of a pair, both ways
(:mod:`interp.superficiality.exchanges`).

A share says little by itself: where one place carries a tenth of the effect, no direction there can
carry more. So R = share(direction) / share(oracle), the leading directions of the very shift fitted on
other items and other wordings (:mod:`interp.superficiality.subspaces`), and it is read only where the
whole states carry at least half of the effect and the oracle at least .3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from interp.stats import Interval, interval_columns, random_wordings, share
from interp.superficiality.exchanges import (
    DIRECTION,
    IMMEDIATE,
    ORACLE,
    ORTHOGONAL,
    PLACES,
    READABLE,
    SPACES,
    UNREAD,
    WAYS,
    WHOLE,
    Exchange,
    Way,
)
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.manifold import manifold_check
from interp.superficiality.paired import (
    PairedRuns,
    moved_against,
    percent,
    share_finding,
    untrained_check,
)
from interp.superficiality.routes import CORRECTED
from interp.superficiality.subspaces import ROWS
from interp.superficiality.thresholds import (
    BEYOND_NULLS,
    FULL_STATE_SHARE,
    IDENTITY_TOLERANCE,
    INTERACTION_ALONE,
    ORACLE_SHARE,
    RANKS,
)

R_IN, R_OUT = "mediation R, into placebo", "mediation R, out of corrected"
SPANS, ADDED_UP = "mediation R of spans", "mediation, along + orthogonal"
BEYOND = "mediation beyond null directions"


def mediation_findings(
    runs: pd.DataFrame,
    *,
    instrument: HealthCheck | None = None,
    untrained: pd.DataFrame | None = None,
    manifold: pd.DataFrame | None = None,
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
        manifold: of :func:`interp.superficiality.manifold.measure_manifold`, along the direction.
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
    near = () if manifold is None else (manifold_check(manifold),)
    findings = [
        _ratio_finding(own, R_IN, "into", table, (*health, *copy, *near)),
        _ratio_finding(own, R_OUT, "out", table, (*health, *near)),
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
            *_enough_to_carry(own, way),
            *_parts_alone(own, way),
            *(_self_repair(own) if way == "into" else ()),
            *moved_against(own, _part(own, Exchange(DIRECTION, way=way))),
        ),
        statistic="share of the direction / share of the oracle, k = 1",
    )


def null_names(own: PairedRuns) -> list[str]:
    """The names of null directions among the runs."""
    prefix = "into behind every "
    names = [str(run).removeprefix(prefix).rsplit(" ", 1)[0] for run in own.values.columns
             if str(run).startswith(prefix)]  # fmt: skip
    return [name for name in dict.fromkeys(names) if name not in SPACES]


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
    every = product(WAYS, ROWS, PLACES, RANKS, SPACES)
    asked = [Exchange(s, k, way, rows, places) for way, rows, places, k, s in every]
    rows = [
        vars(one) | interval_columns(_share(own, _part(own, one)))
        for one in asked
        if one.run in own.values
    ]
    rows += [
        vars(Exchange("interaction", way=way)) | interval_columns(_share(own, alone))
        for way in WAYS
        if not np.isnan(alone := _interaction(own, way)).all()
    ]
    return pd.DataFrame(rows)


def _share(own: PairedRuns, part: np.ndarray) -> Interval:
    """Of the effect in the pairs that have the run."""
    return own.share(part, ~np.isnan(part))


def _interaction(own: PairedRuns, way: Way) -> np.ndarray:
    """What the direction brings beyond its two parts, each exchanged alone (arXiv 2311.17030)."""
    whole, *parts = (
        _part(own, Exchange(space, way=way)) for space in (DIRECTION, READABLE, UNREAD)
    )
    return np.asarray(whole - sum(parts))


def _parts_alone(own: PairedRuns, way: Way) -> tuple[HealthCheck, ...]:
    """Whether what the direction carries is more than the interaction of its two parts.

    The part that nothing downstream reads says what the coordinate is, the other part moves the answer,
    and along neither alone do the runs differ in what is read: a path that is dormant in both runs.
    """
    alone, whole = _interaction(own, way), _part(own, Exchange(DIRECTION, way=way))
    keep = ~np.isnan(alone)
    if not keep.any():
        return ()
    clusters, wordings = (
        [name for name, kept in zip(names, keep, strict=True) if kept]
        for names in (own.clusters, own.wordings)
    )
    found = share(alone[keep], whole[keep], clusters, random_wordings(wordings))
    unread = _share(own, _part(own, Exchange(UNREAD, way=way)))
    return (
        HealthCheck(
            "interaction of the parts",
            float(found.estimate),
            not bool(found.low > INTERACTION_ALONE),
            f"{percent(found)} of what the direction carries, neither the part that is read nor the "
            "rest of it carries alone: a dormant path",
        ),
        HealthCheck(
            "unread part",
            float(unread.estimate),
            True,
            f"the part that nothing is to read carries {percent(unread)} of the effect",
        ),
    )


def _self_repair(own: PairedRuns) -> tuple[HealthCheck, ...]:
    """The exchange at the direction's own place: straight to the logits, and with all later layers."""
    here = Exchange(DIRECTION, places="own")
    straight, total = (_part(own, one) for one in (Exchange(IMMEDIATE, places="own"), here))
    if np.isnan(straight).all():
        return ()
    first, all_of_it, later = (_share(own, x) for x in (straight, total, total - straight))
    return (
        HealthCheck(
            "immediate effect",
            float(first.estimate),
            True,
            f"straight to the logits {percent(first)}, in all {percent(all_of_it)}",
        ),
        HealthCheck(
            "change of later layers",
            float(later.estimate),
            True,
            f"later layers' contributions change by {percent(later)} of the effect",
        ),
    )


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


def _enough_to_carry(own: PairedRuns, way: Way) -> tuple[HealthCheck, ...]:
    """Whether there is enough to carry, the oracle carries enough, and nothing is cancelled."""
    # at every place the whole states are the source's own at the rows that are read, wherever else
    # they are set: one run tells for both ways and positions
    full = _part(own, Exchange(WHOLE, rows="all"))
    whole = own.share(full)
    oracle = own.share(_part(own, Exchange(ORACLE, way=way)))
    beyond = own.share(_part(own, Exchange(DIRECTION, way=way)) - full)
    if np.isnan(whole.estimate):  # the oracle may differ from 0 all the same
        return (
            HealthCheck("full state", float("nan"), False, f"no effect to carry: {whole.reason}"),
        )
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
    total = float(own.total[keep].mean()) or float("nan")  # no share of nothing
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
