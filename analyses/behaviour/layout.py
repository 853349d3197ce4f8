"""Choosing rows of the behaviour study's tables, and laying them out for the report.

An *arm* is a condition, or the placebo of one (``condition = placebo`` with ``control_of``). Items of
both context conditions have margins that contrast other options, so sentences keep them apart and
leave their mixture to the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.behaviour.claims import Claims, apart
from analyses.behaviour.sentences import say_flips, say_reasons
from analyses.behaviour.tables import BehaviourResult
from analyses.contrast import CONTROL
from interp.behaviour.item_means import FLIP_COUNTS
from interp.data import ChoiceItem
from interp.stats import Interval, interval_of
from interp.viz import Section
from interp.viz.behaviour import BASELINES, names_of, subsets_of


@dataclass(frozen=True)
class Part:
    """A section of the report, and its figures by file name."""

    section: Section
    figures: Mapping[str, go.Figure]


Build: TypeAlias = Callable[[BehaviourResult, pd.DataFrame], Part]
"""A part of the report from the result and the table it is about."""

_LABELS = {
    "option_margin": "option margin (nats per token)",
    "margin": "margin (nats)",
    "p_unknown": "P(unknown)",
    "p_gold": "P(gold)",
    "gold_rank": "rank of gold",
    "entropy": "entropy (nats)",
    "parsed": "answers read",
    "ece": "calibration error",
    "over_abstention": "over-abstention",
    "bias_official": "bias (official)",
    "bias_literal": "bias (literal)",
    "accuracy_gap": "accuracy gap",
    "neutral_share": "neutral share",
}


def make_part(
    title: str,
    paragraphs: Sequence[str],
    *,
    tables: Sequence[tuple[pd.DataFrame, str]] = (),
    figures: Mapping[str, go.Figure] | None = None,
    caption: str = "",
    about: pd.DataFrame,
) -> Part:
    """A part of what there is of its paragraphs and tables; every figure has the one caption.

    ``about``: the rows whose reasons stand in the note.
    """
    drawn = figures or {}
    section = Section(
        title,
        paragraphs=[text for text in paragraphs if text],
        tables=[(table, under) for table, under in tables if len(table)],
        figures=[(figure, caption) for figure in drawn.values()],
        note=say_reasons(about),
    )
    return Part(section, drawn)


def control_first(frame: pd.DataFrame) -> list[str]:
    """Conditions of a table, the positive control before the others."""
    return sorted(names_of(frame), key=lambda name: name != CONTROL)


def of_arm(frame: pd.DataFrame, condition: str, control_of: str = "") -> pd.DataFrame:
    """The rows of one arm."""
    controls = frame["control_of"].fillna("") if "control_of" in frame else ""
    return frame[(frame["condition"] == condition) & (controls == control_of)]


def arms(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every arm by its name: no instruction first, each condition followed by its placebo."""
    found = []
    for name in sorted(names_of(frame), key=lambda name: name not in BASELINES):
        found.append((name, frame[frame["condition"] == name]))
        if "control_of" in frame:
            found.append((f"placebo of {name}", of_arm(frame, "placebo", name)))
    yield from ((name, rows) for name, rows in found if len(rows))
    pooled = of_arm(frame, "placebo")
    if len(pooled):
        yield "placebo", pooled


def with_numbers(frame: pd.DataFrame, measure: str) -> bool:
    """Whether a measure has a number."""
    return bool(frame.loc[frame["measure"] == measure, "estimate"].notna().any())


def by_measure(rows: pd.DataFrame) -> dict[str, Interval]:
    """The intervals of an arm by their measure."""
    return {row["measure"]: interval_of(row) for row in rows.to_dict("records")}


def wide(frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Arms down (context conditions apart), measures across, cells intervals; none of it empty."""
    present = [name for name in measures if with_numbers(frame, name)]
    subsets = apart(frame) if "items" in frame else [""]
    records = []
    for subset in subsets:
        for arm, rows in arms(frame[frame["items"] == subset] if subset else frame):
            cells = {row["measure"]: cell(row) for row in rows.to_dict("records")}
            key = {"items": subset, "prompt": arm} if subset else {"prompt": arm}
            if any(cells.get(m) for m in present):
                records.append(key | {_LABELS.get(m, m): cells.get(m) for m in present})
    return pd.DataFrame(records)


def cell(row: Mapping[Any, Any], name: str = "") -> Interval | None:
    """A table's cell: the interval without its reason, which stands in the note; None for no number."""
    found = interval_of(row, name)
    return None if np.isnan(found.estimate) else replace(found, reason="")


def chance_of(done: BehaviourResult) -> float:
    """One over the number of options, on average over the choice items."""
    sizes = [len(item.choices) for item in done.items if isinstance(item, ChoiceItem)]
    return float(np.mean([1 / k for k in sizes])) if sizes else 1 / 3


def flip_table(table: pd.DataFrame) -> pd.DataFrame:
    """Counts and net change of every arm, one row an arm and subset."""
    records = []
    for subset in subsets_of(table):
        for arm, rows in arms(table[table["items"] == subset]):
            for row in rows.to_dict("records"):
                counts = {_in_words(name): int(row[name]) for name in FLIP_COUNTS}
                key = {"items": subset, "prompt": arm}
                records.append(key | counts | {"net": cell(row, "net"), "p": row["net_p_raw"]})
    return pd.DataFrame(records)


def _in_words(counted: str) -> str:
    """``correct → incorrect`` of ``right_wrong``."""
    return counted.replace("_", " → ").replace("right", "correct").replace("wrong", "incorrect")


def flip_sentences(table: pd.DataFrame, claims: Claims) -> list[str]:
    """A paragraph per condition: its flips and its placebo's, subsets apart."""
    keys = ("items", "condition", "control_of")
    rows = {tuple(row[k] for k in keys): row for row in table.to_dict("records")}
    return [
        " ".join(
            say_flips(
                name,
                subset,
                rows[subset, name, ""],
                rows.get((subset, "placebo", name)),
                claims[subset, name],
            )
            for subset in apart(table)
            if (subset, name, "") in rows
        )
        for name in control_first(table)
    ]
