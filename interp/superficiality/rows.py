"""The rows of the scorecard: each a pure function of saved measurements.

============================ ======================================================================
:func:`behaviour_finding`    the effect to explain, B, in every metric
:func:`content_findings`     how much of B runs through the states of the content, both ways, what the
                             two routes do together, and how much of it is changed content, no flag
:func:`edge_findings`        how much of B is lost when content, or all else, cannot read the instruction
:func:`onset_finding`        by which layer B has reached the states behind the instruction
============================ ======================================================================

Shares are ratios of means over the same pairs (Fieller), never means of ratios: 0 is the placebo run,
1 the corrected one. Effects are CGM-t. Tables of measured runs have the columns
:data:`interp.superficiality.routes.COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.stats import (
    EQUIVALENCE_SHARE,
    FloatArray,
    Interval,
    cluster_mean,
    effect,
    interval_columns,
    require_columns,
)
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import (
    PairedRuns,
    ceiling,
    moved_against,
    percent,
    share_finding,
    untrained_check,
)
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.thresholds import IDENTITY_TOLERANCE

BEHAVIOUR, BEHAVIOUR_AFTER = "behaviour", "behaviour, instruction last"
CONTENT_IN, CONTENT_OUT = "content share, into placebo", "content share, out of corrected"
INTERACTION, CHANGED = "back-up of the routes", "changed content"
CONTENT_EDGES, OTHER_EDGES = "edges content -> instruction", "edges all else -> instruction"
ONSET = "onset"

READINGS = ("item", "cluster", "context", "side", "slot", "metric", "value")
"""Columns of the table of behaviour: a row per item, text and metric; ``side`` is ``corrected``,
``placebo``, or those of the control that names the answer, ``control`` and ``control_placebo``."""

CONTROL, CONTROL_PLACEBO = "control", "control_placebo"


def metric_name(column: str) -> str:
    """What a metric's column is called in a sentence."""
    return {"p_gold": "P(a)"}.get(column, column.replace("_", " "))


def behaviour_finding(readings: pd.DataFrame, *, name: str = BEHAVIOUR) -> Finding:
    """B: mean(corrected) - mean(placebo), both wordings and clusters of items random (CGM-t).

    Positive: the instruction makes the better answer likelier. Its table has a row per metric; the first
    is the one that is explained. ``delta`` is the size below which an effect counts as none, a tenth of
    what naming the answer does; NaN where that was not measured.

    Args:
        readings: columns :data:`READINGS`.
        name: of the row.

    Raises:
        InterpError: a missing column, or a side without rows.
    """
    require_columns(readings, READINGS, "the table of behaviour")
    rows = []
    for metric, own in readings.groupby("metric", sort=False):
        found = _contrast(own, CORRECTED, PLACEBO)
        rows.append({"metric": metric, **interval_columns(found)})
    first = readings[readings["metric"] == readings["metric"].iloc[0]]
    found, delta = _contrast(first, CORRECTED, PLACEBO), float("nan")
    if (first["side"] == CONTROL).any():
        control = _control_effect(first)
        if control.low > 0:
            delta = EQUIVALENCE_SHARE * float(control.estimate)
    of = metric_name(str(rows[0]["metric"]))
    moved = "raises" if found.estimate > 0 else "lowers"
    reading = f"The instruction {moved} the {of} by {found}." if found.excludes(0) else (
        f"The instruction moves the {of} by {found}: its interval contains 0."
    )  # fmt: skip
    return Finding(
        name,
        f"B, nats of {of}",
        found,
        float(found.p),
        "the instruction does what its placebo does",
        int(found.n),
        reading,
        pd.DataFrame(rows).assign(delta=delta),
    )


def _contrast(rows: pd.DataFrame, treated: str, control: str) -> Interval:
    arms = []
    for side in (treated, control):
        own = rows[rows["side"] == side]
        if own.empty:
            raise InterpError(f"the table of behaviour has no rows of side {side!r}")
        arms.append(own.pivot(index="slot", columns="item", values="value"))
    items = [name for name in arms[0].columns if name in arms[1].columns]
    clusters = rows.drop_duplicates("item").set_index("item")["cluster"][items].tolist()
    corrected, placebo = (arm[items].to_numpy(float) for arm in arms)
    return effect(corrected, placebo, clusters)


def _control_effect(rows: pd.DataFrame) -> Interval:
    """What naming the answer does, of items that were each asked all wordings, or one in turn."""
    wide = rows.pivot(index=["item", "slot"], columns="side", values="value")
    moved = (wide[CONTROL] - wide[CONTROL_PLACEBO]).dropna()
    items, slots = (moved.index.get_level_values(name) for name in ("item", "slot"))
    if len(moved) == items.nunique() * slots.nunique():
        return _contrast(rows, CONTROL, CONTROL_PLACEBO)
    cluster_of = rows.drop_duplicates("item").set_index("item")["cluster"]
    return cluster_mean(moved.to_numpy(float), cluster_of[items].tolist(), wordings=slots.tolist())


def content_findings(
    runs: pd.DataFrame,
    *,
    low: Collection[str] | None = None,
    metric: str | None = None,
    untrained: pd.DataFrame | None = None,
) -> list[Finding]:
    """The content route: shares both ways, what both routes do together, and what is changed content.

    With e(run) = run - placebo, total = e(corrected):

    - into placebo: e(content) / total, the content's corrected states are *sufficient* for;
    - out of corrected: (total - e(instruction)) / total, the content's change is *necessary* for;
    - back-up: (e(content) + e(instruction) - total) / total. 0 where the routes add up, 1 where either
      alone is enough. content + instruction - back-up = 1 exactly; pair by pair its table has the
      interaction of the routes, total - e(content) - e(instruction);
    - changed content: (e(content) - e(shift)) / total over the items that are answered badly without the
      instruction: what the mean change of *other* items, those that are answered well, does not bring. A
      flag that content positions carry on is brought by it (:func:`~.routes.donated_shift`).

    Args:
        runs: of :func:`interp.superficiality.routes.measure_routes`.
        low: the items in the lower half of the placebo margins; None: all. Changed content is read on
            these alone.
        metric: which of the table's; the first by default.
        untrained: the same measured on an untrained copy of the model: has to read null.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    content, instruction = own.step("content"), own.step("instruction")
    health = (*ceiling(own), *untrained_check(own, untrained, "content", metric=metric))
    against = moved_against(own, content)
    table = own.per_pair(
        content=content, instruction=instruction, interaction=own.total - content - instruction
    )
    into, out = own.share(content), own.share(own.total - instruction)
    both = own.share(content + instruction - own.total)
    findings = [
        share_finding(
            CONTENT_IN,
            into,
            "no effect runs through the content's states",
            f"With the content's states of the corrected run alone, {percent(into)} of the effect is "
            "there.",
            table,
            (*health, *against),
        ),
        share_finding(
            CONTENT_OUT,
            out,
            "no effect needs the content's states",
            f"With the content's states of the placebo run, {percent(out)} of the effect is gone.",
            table,
            health,
        ),
        share_finding(
            INTERACTION,
            both,
            "the two routes add up",
            f"Content route and instruction route together bring {percent(both)} more than the effect.",
            table,
            health,
        ),
    ]
    if "shift" in own.values:
        findings.append(_changed_finding(own, content, low, health))
    return findings


def _changed_finding(
    own: PairedRuns,
    content: FloatArray,
    low: Collection[str] | None,
    health: tuple[HealthCheck, ...],
) -> Finding:
    items = own.values.index.get_level_values("item")
    keep = np.ones(len(items), dtype=bool) if low is None else np.isin(items, list(low))
    relayed = own.step("shift")
    if keep.any():
        changed, flag = own.share(content - relayed, keep), own.share(relayed, keep)
        said = f"{percent(flag)} of it other items' mean change brings as well, as a flag would"
    else:
        changed = own.share(content * np.nan)
        said = "no item is in the lower half"
    return share_finding(
        CHANGED,
        changed,
        "the content's positions carry a flag that is the same for every item, or nothing",
        f"{percent(changed)} of the effect is content that changed item by item; {said}.",
        own.per_pair(content=content, relayed=relayed, read=keep),
        health,
    )


def edge_findings(runs: pd.DataFrame, *, metric: str | None = None) -> list[Finding]:
    """What is lost of B when the content, or everything else, cannot read the instruction's side.

    lost = (total - (corrected - placebo, both with the edges removed)) / total. Edges are removed in
    both runs, since a prompt without them is another prompt also where the words are a placebo's.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    found = []
    for name, edges, who in (
        (CONTENT_EDGES, "no_content_edges", "the content"),
        (OTHER_EDGES, "no_other_edges", "everything else"),
    ):
        kept = own.step(f"{CORRECTED}_{edges}", f"{PLACEBO}_{edges}")
        lost = own.share(own.total - kept)
        found.append(
            share_finding(
                name,
                lost,
                f"the effect does not need {who} to read the instruction",
                f"Where {who} cannot read the instruction, {percent(lost)} of the effect is lost.",
                own.per_pair(kept=kept),
                ceiling(own),
            )
        )
    return found


def onset_finding(runs: pd.DataFrame, *, metric: str | None = None) -> Finding:
    """l50: the depth, a share of the layers, by which half of B is in the states behind the instruction.

    D(l) is the share of B when the stream before layer l is taken from the corrected run at all rows
    behind the instruction; D(0) = 0 and D(L) = 1 are identities. l50 is where D first reaches a half,
    linear between layers; its interval is of the depths at which D's interval contains a half.

    Args:
        runs: of :func:`interp.superficiality.routes.measure_routes`, ``behind`` among them.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    metric = str(runs["metric"].iloc[0]) if metric is None else metric
    behind = runs[(runs["metric"] == metric) & (runs["run"] == "behind")]
    if behind.empty:
        raise InterpError("the table of runs has no run 'behind': measure it with onset=True")
    by_layer = behind.pivot(index=["item", "slot"], columns="layer", values="value")
    by_layer = by_layer.loc[own.values.index]
    steps = by_layer.to_numpy(float) - own.values[[PLACEBO]].to_numpy(float)
    curve = [own.share(step) for step in steps.T]
    depth = len(curve) - 1
    crossings = [_crossing([getattr(one, bound) for one in curve]) for bound in
                 ("estimate", "high", "low")]  # fmt: skip
    total = own.mean(own.total)
    reason = "" if curve[-1].reason == "" else str(curve[-1].reason)
    nan = float("nan")
    l50, first, last = (crossing / depth if not reason else nan for crossing in crossings)
    interval = Interval(
        l50, first, last, int(total.n), int(total.n_clusters), 0.95, reason, "fieller"
    )
    table = pd.DataFrame(
        [{"layer": layer, **interval_columns(one, "share")} for layer, one in enumerate(curve)]
    )
    gaps = [np.abs(steps[:, 0]).max(), np.abs(steps[:, -1] - own.total).max()]
    return Finding(
        ONSET,
        "l50, depth of half the effect, share of the layers",
        interval,
        nan,
        "",
        int(total.n),
        f"Half of the effect is in the states behind the instruction by {percent(interval)} of the "
        "layers.",
        table,
        (
            HealthCheck(
                "D(0) = 0 and D(L) = 1",
                float(max(gaps)),
                bool(max(gaps) <= IDENTITY_TOLERANCE),
                f"the ends of the depth curve are off by {max(gaps):.1e} nats",
            ),
        ),
    )


def _crossing(curve: list[float]) -> float:
    """Where a curve over 0, 1, ... first reaches a half; its end where it never does."""
    for layer, value in enumerate(curve):
        if value >= 0.5:
            before = curve[layer - 1] if layer else value
            return layer - (value - 0.5) / (value - before) if value > before else float(layer)
    return float(len(curve) - 1)
