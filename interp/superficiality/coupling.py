"""Coupling: where a wording moves an item's states further along the direction, does its answer follow?

Within an item across wordings, so that what items differ by plays no part: both the shift of the
content's projection (corrected - placebo, class units) and the shift of behaviour (nats) are taken less
their mean over the item's wordings, and the slope of one on the other is a ratio of sums,

    slope = sum(shift of states * shift of behaviour) / sum(shift of states ^ 2),

whose interval (Fieller) has wordings and clusters of items as random. An association, no cause: a
wording that does both has a slope too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.stats import interval_columns, require_columns, share
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.representation import own_shifts
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import READINGS, metric_name

COUPLING = "coupling"


def coupling_finding(
    shifts: pd.DataFrame, readings: pd.DataFrame, *, instrument: HealthCheck | None = None
) -> Finding:
    """The slope of behaviour on states within items across wordings.

    Args:
        shifts: of :func:`interp.superficiality.representation.measure_representation`, some items each
            with several wordings, the instruction first.
        readings: of the table of behaviour; its first metric is the one coupled.
        instrument: the check that the direction is an instrument at all.

    Raises:
        InterpError: a missing column, no shift of content, or no item with two wordings in both tables.
    """
    require_columns(readings, READINGS, "the table of behaviour")
    metric = str(readings["metric"].iloc[0])
    table = _matched(own_shifts(shifts), readings[readings["metric"] == metric])
    if table.empty:
        raise InterpError(
            "coupling: no item has two wordings in both tables: measure the shifts of some items with "
            "every wording"
        )
    for name in ("states", "behaviour"):
        table[f"within_{name}"] = table[name] - table.groupby("item")[name].transform("mean")
    x, y = (table[f"within_{name}"].to_numpy(float) for name in ("states", "behaviour"))
    found = share(x * y, x * x, table["cluster"], table["slot"])
    scale = np.sqrt((x @ x) * (y @ y))
    r = float(x @ y / scale) if scale else float("nan")
    of = metric_name(metric)
    if np.isnan(found.estimate):
        reading = f"Not measured: {found.reason}."
    else:
        reading = (
            f"Within an item, a wording that moves the content one class unit further moves the {of} by "
            f"{found} nats (r = {r:.2f})."
        )
    return Finding(
        COUPLING,
        f"slope within items, nats of {of} per class unit",
        found,
        float(found.p),
        "within an item, behaviour does not follow the states across wordings",
        int(table["item"].nunique()),
        reading,
        table.assign(r=r, **interval_columns(found, "slope")),
        () if instrument is None else (instrument,),
    )


def _matched(shifts: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """Items and wordings in both tables, the shift of states beside that of behaviour."""
    sides = [
        readings[readings["side"] == side].assign(slot=lambda rows: rows["slot"].astype(str))
        for side in (CORRECTED, PLACEBO)
    ]
    corrected, placebo = (own.set_index(["item", "slot"])["value"] for own in sides)
    moved = (corrected - placebo).rename("behaviour").dropna()
    states = shifts.assign(slot=shifts["slot"].astype(str)).rename(columns={"value": "states"})
    both = states[["item", "cluster", "slot", "states"]].merge(
        moved.reset_index(), on=["item", "slot"]
    )
    return both[both.groupby("item")["slot"].transform("count") > 1].reset_index(drop=True)
