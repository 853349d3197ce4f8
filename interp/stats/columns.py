"""An interval as columns of a table, and back: one vocabulary, without loss.

A table that carries an interval per row has these columns, in this order. A second interval of the
same row, or one whose number has a name of its own, has the prefixed form.

============== ==================== ===== =====================================================
``name=""``    ``name="share"``     type  meaning
============== ==================== ===== =====================================================
``estimate``   ``share``            float the number; NaN where undefined (``reason`` says why)
``low``        ``share_low``        float lower bound; NaN where there is no interval
``high``       ``share_high``       float upper bound
``n``          ``share_n``          int   items used
``n_clusters`` ``share_n_clusters`` int   clusters they form
``se``         ``share_se``         float standard error; NaN where there is none
``df``         ``share_df``         float degrees of freedom
``p_raw``      ``share_p_raw``      float p of the interval's own test, not corrected for a family
``texts``      ``share_texts``      text  texts of the treated and the control arm, ``6 x 6``;
                                          empty where the estimate has no two arms of texts
``interval``   ``share_interval``   text  method and confidence, ``cgm_t 0.95``
``reason``     ``share_reason``     text  why a number is NaN; empty otherwise
============== ==================== ===== =====================================================

The column ``p`` of a table is the p that is corrected over a family. Tables of before ``se``, ``df``
and ``p_raw`` are read with NaN there.

Numbers and text alone, so a table goes through parquet and comes back with equal intervals.

Example::

    rows = [{"condition": name} | interval_columns(effect(name)) for name in conditions]
    frame = pd.DataFrame(rows, columns=["condition", *interval_column_names()])
    intervals_of(frame)  # the list of intervals again
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.stats.interval import NAN, Interval, IntervalMethod

_TEST = ("se", "df", "p_raw")
_FIELDS = ("low", "high", "n", "n_clusters", *_TEST, "texts", "interval", "reason")
_TYPES = {"n": np.int64, "n_clusters": np.int64, "reason": object}


def interval_column_names(name: str = "") -> list[str]:
    """The columns of an interval in their order; the first holds the estimate."""
    return [name or "estimate", *(f"{name}_{field}" if name else field for field in _FIELDS)]


def interval_columns(interval: Interval, name: str = "") -> dict[str, Any]:
    """The columns of an interval by name: plain values, or one list per column over cells.

    An interval over ``[*cells]`` gives columns of equal length, flattened in C order (the last axis
    runs fastest), as :func:`pandas.MultiIndex.from_product` orders the axes' labels.
    """
    shape = np.shape(interval.estimate)
    columns: list[Any] = []
    for field in ("estimate", "low", "high", "n", "n_clusters", "se", "df", "p", "reason"):
        value = np.asarray(getattr(interval, field), dtype=_TYPES.get(field, np.float64))
        values = np.broadcast_to(value, shape).reshape(-1).tolist()
        columns.append(values if shape else values[0])
    texts = " x ".join(map(str, interval.texts or ()))
    shared: list[Any] = [texts, f"{interval.method} {float(interval.confidence)!r}"]
    if shape:
        shared = [[value] * len(columns[0]) for value in shared]
    columns[-1:] = [*shared, columns[-1]]  # before the reason
    return dict(zip(interval_column_names(name), columns, strict=True))


def interval_of(row: Mapping[Any, Any] | pd.Series | tuple[Any, ...], name: str = "") -> Interval:
    """The interval whose columns a row holds under ``name``, as :func:`interval_columns` wrote them.

    ``row``: a mapping, a Series, or a row of ``itertuples()``.

    Raises:
        InterpError: a row without names, a column is missing, or holds no count or method (an empty
            row of a merge).
    """
    if isinstance(row, Mapping | pd.Series):
        cells: Any = row
    elif hasattr(row, "_asdict"):
        cells = row._asdict()
    else:
        raise InterpError("the row has no names: give a mapping, a Series or a row of itertuples()")
    columns = _needed(name)
    _require(cells, columns)
    estimate, low, high, n, n_clusters, texts, kind, reason = (cells[c] for c in columns)
    tests = (f"{name}_{field}" if name else field for field in _TEST)
    found = (float(cells[test]) if test in cells else NAN for test in tests)
    se, df, p = (value if value == value else NAN for value in found)
    try:
        method, confidence = str(kind).rsplit(" ", 1)
        return Interval(
            float(estimate),
            float(low),
            float(high),
            int(n),
            int(n_clusters),
            float(confidence),
            _text(reason),
            cast(IntervalMethod, method),
            _texts(_text(texts)),
            se,
            df,
            p,
        )
    except (TypeError, ValueError):
        said = ", ".join(f"{column} {cells[column]!r}" for column in columns)
        raise InterpError(
            f"the row holds no interval as interval_columns writes it: {said}"
        ) from None


def intervals_of(frame: pd.DataFrame, name: str = "") -> list[Interval]:
    """The interval of every row of ``frame``, for a column of a report's table.

    Raises:
        InterpError: see :func:`interval_of`; a missing column is refused also without rows.
    """
    _require(frame, _needed(name))
    columns = [column for column in interval_column_names(name) if column in frame]
    return [interval_of(row, name) for row in frame[columns].to_dict("records")]


def require_columns(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Refuse a table that lacks one of these columns, in a line that begins with ``what``.

    Raises:
        InterpError: names the first that is missing, and all that are needed.
    """
    needed = list(columns)
    missing = [name for name in needed if name not in frame]
    if missing:
        raise InterpError(f"{what} has no column {missing[0]!r}; it needs {', '.join(needed)}")


def _needed(name: str) -> list[str]:
    """The columns without which a row holds no interval."""
    tests = {f"{name}_{field}" if name else field for field in _TEST}
    return [column for column in interval_column_names(name) if column not in tests]


def _require(there: Container[Any], columns: list[str]) -> None:
    missing = [column for column in columns if column not in there]
    if missing:
        raise InterpError(
            f"no column {missing[0]!r}: an interval has {', '.join(columns)}; make them with "
            "interval_columns"
        )


def _text(value: Any) -> str:
    """Text of a cell, where pandas may hold None or NaN in the place of nothing."""
    return "" if value is None or value is pd.NA or value != value else str(value)


def _texts(value: str) -> tuple[int, int] | None:
    if not value:
        return None
    treated, control = value.split(" x ")
    return int(treated), int(control)
