"""Runs beside each other: one table of each, row by row, effects with their intervals.

    compare(["runs/small", "runs/large"])                     # a column per run, in a notebook a table
    comparison_rows(["runs/small", "runs/large"])             # the numbers, a row per run and finding

Cards stand side by side like any other table, with each run's verdict in the first row; what a card
shows but does not interpret says so.

Rows are matched by what they are about (condition, context, metric, layer, ...). Where runs ask about
different conditions, each run's own stands as :data:`OWN`. What is not the same quantity is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.overview import RunFacts, read_facts
from interp.errors import InterpError
from interp.stats import interval_column_names, intervals_of

OWN = "(its own)"
"""In place of the condition that a run asks about, where others ask about others."""

_OWN_OPTIONS = ("condition", "against")

VERDICT = "verdict"
"""The table that holds a card's verdict, and the first row of cards side by side."""

_TOLD_BY_THE_PAGE = ("reading", "health", "checks", "null", "is_read")
"""Columns of a card that are sentences, or told by the cell itself."""


def compare(runs: Sequence[str | Path | RunFacts], *, table: str | None = None) -> pd.DataFrame:
    """One table of several runs side by side.

    Args:
        runs: folders of finished runs of one study, at least two.
        table: which of their derived tables; by default the main one.

    Returns:
        A row per finding: what it is about, then a column per run that holds an
        :class:`~interp.stats.Interval` (a dash where a run has no such row). What runs say differently
        of one finding (its verdict, the layer that was picked, how many tokens were not patched) stands
        beside.

    Raises:
        InterpError: what cannot be compared, in one line; see :func:`comparison_rows`.
    """
    rows = comparison_rows(runs, table=table)
    keys, value = rows.attrs["keys"], rows.attrs["value"]
    wide = rows[keys].drop_duplicates().reset_index(drop=True)
    beside = [name for name in rows.attrs["beside"] if _differs(rows, keys, name)]
    for run, own in rows.groupby("run", sort=False):
        shown = own[keys].reset_index(drop=True)
        shown[str(run)] = pd.Series(_cells(own, value), dtype=object)
        for name in beside:
            shown[f"{run}: {name}"] = own[name].astype(object).tolist()
        wide = wide.merge(shown, on=keys, how="left")
    wide = wide.astype(object).where(wide.notna(), "-")
    return _with_verdicts(wide, rows.attrs["verdicts"], keys)


def _cells(own: pd.DataFrame, value: str) -> list[object]:
    """The intervals of a run; of rows that are not interpreted, which say so."""
    cells: list[object] = list(intervals_of(own, value))
    if "is_read" not in own:
        return cells
    return [
        cell if read else f"{cell}, not read"
        for cell, read in zip(cells, own["is_read"], strict=True)
    ]


def _with_verdicts(
    wide: pd.DataFrame, verdicts: Mapping[str, str], keys: list[str]
) -> pd.DataFrame:
    """Above all rows what each run's card says, where the runs are cards."""
    if not verdicts:
        return wide
    head: dict[str, object] = dict.fromkeys(map(str, wide), "")
    head |= {keys[0]: VERDICT, **verdicts}
    return pd.concat([pd.DataFrame([head], dtype=object), wide], ignore_index=True)


def _differs(rows: pd.DataFrame, keys: list[str], name: str) -> bool:
    """Whether a column says something else of one finding in two runs."""
    return bool(
        (rows.groupby(keys, sort=False, dropna=False)[name].nunique(dropna=False) > 1).any()
    )


def comparison_rows(
    runs: Sequence[str | Path | RunFacts], *, table: str | None = None
) -> pd.DataFrame:
    """The rows of one table of several runs, under each other, with the run's name and model.

    Raises:
        InterpError: fewer than two runs, one that has not ended, runs of different studies, metrics or
            rules of judgement, or a table without effects or with rows that cannot be told apart.
    """
    facts = [one if isinstance(one, RunFacts) else read_facts(one) for one in runs]
    _require_comparable(facts)
    name = table or facts[0].main_table()
    tables = [one.findings(name) for one in facts]
    value = _value_of(tables, f"table {name!r}")
    keys = _keys_of(tables, value, f"table {name!r}")
    parts = []
    for label, one, frame in zip(_labels(facts), facts, tables, strict=True):
        own = _with_own_options(frame, one, facts)
        parts.append(own.assign(run=label, model=one.model, items_asked=one.data))
    found = pd.concat(parts, ignore_index=True)
    first = ["run", "model", "items_asked"]
    found = found[[*first, *(column for column in found if column not in first)]]
    labels = [column for column in _labels_of(tables, value) if column not in keys]
    verdict = [VERDICT] if VERDICT in found else []
    labels = [column for column in labels if column not in _TOLD_BY_THE_PAGE]
    beside = [column for column in labels if not pd.api.types.is_float_dtype(found[column])]
    verdicts = _verdicts(facts) if name == facts[0].main_table() else {}
    found.attrs.update(keys=keys, value=value, beside=[*verdict, *beside], verdicts=verdicts)
    return found


def _verdicts(facts: Sequence[RunFacts]) -> dict[str, str]:
    """The verdict of every run's card; empty where some run has none."""
    if not all(VERDICT in one.tables() for one in facts):
        return {}
    tables = [one.findings(VERDICT) for one in facts]
    return {
        label: str(table["name"].iloc[0])
        for label, table in zip(_labels(facts), tables, strict=True)
    }


def _require_comparable(facts: Sequence[RunFacts]) -> None:
    if len(facts) < 2:
        raise InterpError(f"{len(facts)} run given: a comparison takes at least two")
    first = facts[0]
    for other in facts[1:]:
        for what, one, two in (
            ("study", first.study, other.study),
            ("metric", first.metric, other.metric),
            ("rules of judgement", first.manifest["rules"], other.manifest["rules"]),
        ):
            if one != two:
                raise InterpError(
                    f"{first.name} and {other.name} cannot be compared: they differ in {what} "
                    f"({one or 'none'}, {two or 'none'})"
                )


def _value_of(tables: Sequence[pd.DataFrame], what: str) -> str:
    """The name of the effects: the first columns that are an interval in every table."""
    for column in tables[0]:
        name = "" if column == "estimate" else str(column)
        if all(set(interval_column_names(name)) <= set(table) for table in tables):
            return name
    raise InterpError(f"{what} holds no effects with intervals: choose another --table")


def _keys_of(tables: Sequence[pd.DataFrame], value: str, what: str) -> list[str]:
    """What a row is about: the first columns, no numbers measured, that tell all rows apart."""
    keys: list[str] = []
    for column in _labels_of(tables, value):
        if keys and _apart(tables, keys):
            break
        keys.append(column)
    if not keys or not _apart(tables, keys):
        raise InterpError(f"{what}: its rows cannot be told apart: choose another --table")
    return keys


def _labels_of(tables: Sequence[pd.DataFrame], value: str) -> list[str]:
    """Columns before the effect that every table has; text and whole numbers before other numbers."""
    first = list(tables[0]).index(value or "estimate")
    shared = [str(name) for name in tables[0] if all(name in table for table in tables)]
    labels = [name for name in shared if list(tables[0]).index(name) < first]
    labels += [name for name in shared if name not in {*labels, *_of_intervals(tables[0])}]

    def is_float(name: str) -> bool:
        return any(pd.api.types.is_float_dtype(table[name]) for table in tables)

    words = [name for name in labels if name != VERDICT]
    return sorted(words, key=is_float)


def _of_intervals(table: pd.DataFrame) -> set[str]:
    """Every column that is part of an interval."""
    names = ["" if name == "estimate" else str(name) for name in table]
    parts = [interval_column_names(name) for name in names]
    return {column for part in parts if set(part[:3]) <= set(table) for column in part}


def _apart(tables: Sequence[pd.DataFrame], keys: list[str]) -> bool:
    return not any(table.duplicated(keys).any() for table in tables)


def _with_own_options(
    frame: pd.DataFrame, own: RunFacts, facts: Sequence[RunFacts]
) -> pd.DataFrame:
    """The table with :data:`OWN` for the condition that only this run asks about."""
    changed: dict[str, Any] = {}
    for option in _OWN_OPTIONS:
        named = {one.config.get(option) for one in facts}
        mine = own.config.get(option)
        if len(named) > 1:
            for column in ("condition", "contrast", "against"):
                if column in frame and mine is not None:
                    before = changed.get(column, frame[column])
                    changed[column] = before.where(before != mine, OWN)
    return frame.assign(**changed)


def _labels(facts: Sequence[RunFacts]) -> list[str]:
    """Short names of the runs: their folders', or the whole paths where two are the same."""
    short = [one.folder.resolve().name for one in facts]
    return short if len(set(short)) == len(short) else [one.name for one in facts]
