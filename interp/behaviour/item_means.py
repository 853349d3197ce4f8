"""Means over items, subsets and flips: what tables of behaviour are made of.

A table is one long frame, a number a row, with an interval's columns (:mod:`interp.stats.columns`).
Rows of an item are averaged before items are, and clusters of items are what is random.

    item_means(frame, ("condition", "control_of"), {"accuracy": "correct"})
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.data.items import ContextCondition
from interp.stats import (
    FloatArray,
    Interval,
    cluster_mean,
    interval_column_names,
    interval_columns,
    success_rate,
)

INTERVAL = tuple(interval_column_names())
ARM = ("condition", "control_of")
"""What tells the arms of a run apart: placebos belong to the condition they control."""

FLIP_COUNTS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
FLIPS = (*FLIP_COUNTS, *interval_column_names("net"))
"""Columns of a row of flips."""


def context_subsets(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of all items, and those of each context condition that is present.

    Data sets are never pooled, because they disagree: of several each has its own subsets, ``bbq,
    ambiguous``, and there is no ``all``.
    """
    names = list(dict.fromkeys(frame["benchmark"])) if "benchmark" in frame else []
    several = len(names) > 1
    subsets = {} if several else {"all": frame}
    for name in names if several else [""]:
        rows = frame[frame["benchmark"] == name] if several else frame
        present = set(rows["context_condition"])
        for context in get_args(ContextCondition):
            if context in present:
                part = rows[rows["context_condition"] == context]
                subsets[f"{name}, {context}" if several else context] = part
    return subsets


def context_of(subset: str) -> str:
    """The context condition of a subset's name; ``all`` of both together."""
    return subset.rsplit(", ", 1)[-1]


def by_subset(
    frame: pd.DataFrame,
    columns: Sequence[str],
    records: Callable[[str, pd.DataFrame], Iterable[Mapping[str, Any]]],
) -> pd.DataFrame:
    """A table of ``records(subset, its rows)`` for every subset, ``items`` first.

    It has these columns also where there are no rows.
    """
    found = [
        {"items": subset, **record}
        for subset, rows in context_subsets(frame).items()
        for record in records(subset, rows)
    ]
    return pd.DataFrame(found, columns=["items", *columns])


def item_means(
    frame: pd.DataFrame,
    keys: Sequence[str],
    columns: Mapping[str, str],
    *,
    shares: Sequence[str] = ("accuracy", "parsed"),
    skip_missing: bool = False,
) -> pd.DataFrame:
    """Means over items of some columns, per combination of ``keys``: keys, measure, interval.

    ``columns`` names the column of each measure; one that the frame lacks is undefined. Rows are
    averaged within an item first: an item is undefined as soon as one of its rows is, or with
    ``skip_missing`` when all are. Clusters of items are random and the texts those asked; where all
    items are 0, or all are 1, the measures in ``shares`` have the exact interval with clusters as
    trials.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*keys, "measure", *INTERVAL])
    group = frame.groupby(list(keys), sort=False).ngroup().to_numpy()
    named: list[Any] = frame[list(keys)].drop_duplicates().to_dict("records")
    item, _ = pd.factorize(frame["item"])
    clusters = frame.drop_duplicates("item")["cluster"].tolist()
    shape = (len(named), len(clusters))
    readings = [_column(frame, column) for column in columns.values()]
    values = np.stack([_cell_means(x, group, item, shape, skip_missing) for x in readings])
    intervals = cluster_mean(values, clusters)
    records = []
    for g, key in enumerate(named):
        for m, measure in enumerate(columns):
            interval = intervals.at(m, g)
            if measure in shares and interval.estimate in (0.0, 1.0):
                interval = success_rate(values[m, g], clusters)
            if measure in shares or measure.startswith("p_"):
                interval = interval.within(0.0, 1.0)
            records.append({**key, "measure": measure, **interval_columns(interval)})
    return pd.DataFrame(records)


def _cell_means(
    values: FloatArray,
    group: npt.NDArray[Any],
    item: npt.NDArray[Any],
    shape: tuple[int, int],
    skip_missing: bool,
) -> FloatArray:
    """``[group, item]``: means of an item's rows, NaN where there are none."""
    cell, defined = group * shape[1] + item, ~np.isnan(values)
    size = shape[0] * shape[1]
    total = np.bincount(cell, np.where(defined, values, 0.0), minlength=size)
    count, rows = np.bincount(cell, defined, minlength=size), np.bincount(cell, minlength=size)
    usable = count > 0 if skip_missing else (count > 0) & (count == rows)
    return np.divide(total, count, out=np.full(size, np.nan), where=usable).reshape(shape)


def _column(frame: pd.DataFrame, name: str) -> FloatArray:
    return frame[name].to_numpy(dtype=float) if name in frame else np.full(len(frame), np.nan)


def undefined(reason: str) -> Interval:
    """An interval of nothing."""
    return Interval(np.nan, np.nan, np.nan, 0, 0, reason=reason)


def flip_columns(before: FloatArray, after: FloatArray, net: Interval) -> dict[str, Any]:
    """Counts of pairs ``[pair]`` of 0, 1 and NaN (a pair with a NaN is not counted), and ``net``.

    ``net``: accuracy after minus before, or NaN columns where no pair was answered twice.
    """
    both = ~np.isnan(before) & ~np.isnan(after)
    counts = Counter(zip(before[both].astype(int), after[both].astype(int), strict=True))
    if not both.any():
        net = undefined("no item was answered both before and after")
    numbers = (counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0])
    return {**dict(zip(FLIP_COUNTS, numbers, strict=True)), **interval_columns(net, "net")}
