"""Patched runs as columns over pairs, shares of the effect made of them, and checks on both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.display import short_repr
from interp.errors import InterpError
from interp.stats import (
    EQUIVALENCE_SHARE,
    FloatArray,
    Interval,
    cluster_mean,
    random_wordings,
    require_columns,
    share,
)
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.routes import COLUMNS, CORRECTED, PLACEBO
from interp.superficiality.thresholds import IDENTITY_TOLERANCE, MOVED_AGAINST


@dataclass(frozen=True, eq=False)
class PairedRuns:
    """One metric of measured runs, one column per run: pairs in rows."""

    values: pd.DataFrame
    clusters: list[str]
    wordings: list[str]

    __repr__ = short_repr

    @classmethod
    def of(cls, runs: pd.DataFrame, metric: str | None) -> PairedRuns:
        """The runs of one metric, the table's first by default.

        Raises:
            InterpError: a missing column or metric.
        """
        require_columns(runs, COLUMNS, "the table of runs")
        metric = str(runs["metric"].iloc[0]) if metric is None else metric
        own = runs[(runs["metric"] == metric) & (runs["layer"] < 0)]
        if own.empty:
            raise InterpError(f"the table of runs has no metric {metric!r}")
        values = own.pivot(index=["item", "slot"], columns="run", values="value")
        of_item = own.drop_duplicates("item").set_index("item")["cluster"]
        items = values.index.get_level_values("item")
        slots = [str(slot) for slot in values.index.get_level_values("slot")]
        return cls(values, of_item[items].tolist(), slots)

    def step(self, run: str, start: str = PLACEBO) -> FloatArray:
        """Metric of a run minus that of another, per pair. Raises InterpError: no such run."""
        for name in (run, start):
            if name not in self.values:
                known = ", ".join(map(str, self.values.columns))
                raise InterpError(f"the table of runs has no run {name!r}; it has {known}")
        return (self.values[run] - self.values[start]).to_numpy(float)

    @property
    def total(self) -> FloatArray:
        """The effect to explain, per pair."""
        return self.step(CORRECTED)

    def share(self, part: FloatArray, keep: np.ndarray | None = None) -> Interval:
        """mean(part) / mean(total), over the pairs to keep."""
        keep = np.ones(len(part), dtype=bool) if keep is None else keep
        clusters, wordings = (
            [name for name, kept in zip(names, keep, strict=True) if kept]
            for names in (self.clusters, self.wordings)
        )
        return share(part[keep], self.total[keep], clusters, random_wordings(wordings))

    def mean(self, part: FloatArray) -> Interval:
        """Mean over pairs; clusters of items, and wordings where there are several, are random."""
        return cluster_mean(part, self.clusters, wordings=random_wordings(self.wordings))

    def per_pair(self, **parts: np.ndarray) -> pd.DataFrame:
        """What a row is made of, pair by pair."""
        index = self.values.index.to_frame(index=False)
        return index.assign(cluster=self.clusters, total=self.total, **parts)


def share_finding(
    name: str,
    interval: Interval,
    null: str,
    reading: str,
    table: pd.DataFrame,
    health: tuple[HealthCheck, ...],
    *,
    statistic: str = "share of B",
) -> Finding:
    """A row whose number is a share, of B where nothing else is said."""
    if np.isnan(interval.estimate):
        reading = f"Not measured: {interval.reason}."
    return Finding(
        name,
        statistic,
        interval,
        float(interval.p),
        null,
        int(interval.n),
        reading,
        table,
        health,
    )


def ceiling(own: PairedRuns) -> tuple[HealthCheck, ...]:
    """All states from the source give the source's run: the identity that every patch rests on."""
    if "everything" not in own.values:
        return ()
    gap = float(np.abs(own.step("everything", CORRECTED)).max())
    return (
        HealthCheck(
            "ceiling",
            gap,
            gap <= IDENTITY_TOLERANCE,
            f"all states from the corrected run miss it by {gap:.1e} nats",
        ),
    )


def moved_against(own: PairedRuns, part: FloatArray) -> tuple[HealthCheck, ...]:
    """Share of the pairs that a part moves against its own mean, where it moves them at all.

    A part of less than a tenth of the effect moves nothing to speak of: its signs are chance's, however
    clear its mean, and that it is small is what the row says.
    """
    mean = float(own.mean(part).estimate)
    moved = part[np.abs(part) > IDENTITY_TOLERANCE]
    if not len(moved) or abs(mean) < EQUIVALENCE_SHARE * abs(float(own.mean(own.total).estimate)):
        return ()
    against = float((np.sign(moved) != np.sign(mean)).mean())
    return (
        HealthCheck(
            "moved the other way",
            against,
            against <= MOVED_AGAINST,
            f"{against:.0%} of the pairs are moved the other way".replace("%", " %"),
        ),
    )


def untrained_check(
    own: PairedRuns, untrained: pd.DataFrame | None, run: str, *, metric: str | None = None
) -> tuple[HealthCheck, ...]:
    """What the untrained copy makes of the same patch, relative to the effect of the trained model."""
    if untrained is None:
        return ()
    other = PairedRuns.of(untrained, metric)
    moved = other.mean(other.step(run))
    return (reads_null(moved, float(own.mean(own.total).estimate)),)


def reads_null(moved: Interval, total: float) -> HealthCheck:
    """Whether what an untrained copy is moved by may be nothing, or is below a tenth of the effect."""
    small = abs(float(moved.estimate)) <= EQUIVALENCE_SHARE * abs(total)
    return HealthCheck(
        "untrained copy",
        float(moved.estimate),
        bool(small or not moved.excludes(0)),
        f"the untrained copy is moved by {moved.estimate:.3g} nats",
    )


def percent(interval: Interval) -> str:
    """``42 % [30, 55]``."""
    numbers = [100 * float(x) for x in (interval.estimate, interval.low, interval.high)]
    if np.isnan(numbers[0]):
        return "an unknown share"
    return f"{numbers[0]:.0f} % [{numbers[1]:.0f}, {numbers[2]:.0f}]"
