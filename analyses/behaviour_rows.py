"""Choosing rows of the behaviour study's tables, and laying them out for the report.

An *arm* is a condition, or the placebo of one (``condition = placebo`` with ``control_of``). Items of
both context conditions have margins that contrast other options, so sentences tell them apart and
leave their mixture to the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses import behaviour_words as words
from analyses.patch_tables import CONTROL
from interp.data import ChoiceItem
from interp.stats import Interval
from interp.viz import Fragment, Section
from interp.viz.behaviour import BASELINES, names_of, subsets_of

if TYPE_CHECKING:
    from analyses.behaviour import BehaviourRun

Figures: TypeAlias = dict[str, go.Figure]
"""The figures of the report so far, by the name of their file."""

Build: TypeAlias = Callable[["BehaviourRun", pd.DataFrame, Figures], Section]
"""A section from the run and the table it is about; it adds its figures."""

_LABELS = {
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
_COUNTS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
_FLIP_KEYS = ("items", "condition", "control_of")


def apart(frame: pd.DataFrame) -> list[str]:
    """The context conditions that are present, else what there is."""
    subsets = subsets_of(frame)
    return [name for name in subsets if name != "all"] or subsets


def control_first(frame: pd.DataFrame) -> list[str]:
    """Conditions of a table, the positive control before the others."""
    return sorted(names_of(frame), key=lambda name: name != CONTROL)


def arms(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every arm by its name: no instruction first, each condition followed by its placebo."""
    controls = frame["control_of"] if "control_of" in frame else pd.Series("", index=frame.index)
    is_placebo = frame["condition"] == "placebo"
    for name in sorted(names_of(frame), key=lambda name: name not in BASELINES):
        yield name, frame[frame["condition"] == name]
        control = frame[is_placebo & (controls == name)]
        if len(control):
            yield f"placebo of {name}", control
    pooled = frame[is_placebo & (controls.fillna("") == "")]
    if len(pooled):
        yield "placebo", pooled


def with_numbers(frame: pd.DataFrame, measure: str) -> bool:
    """Whether a measure has a number."""
    return bool(frame.loc[frame["measure"] == measure, "estimate"].notna().any())


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


def cell(row: Mapping[Any, Any], estimate: str = "estimate") -> Interval | None:
    """A table's cell: the interval without its reason, which stands in the note; None for no number."""
    found = words.interval_of(row, estimate)
    if np.isnan(found.estimate):
        return None
    return Interval(found.estimate, found.low, found.high, found.n, found.n_clusters)


def tables(*shown: tuple[pd.DataFrame, str]) -> list[tuple[pd.DataFrame, str]]:
    """Those of the tables that have rows."""
    return [(table, caption) for table, caption in shown if len(table)]


def draw(
    figures: Figures, drawn: Mapping[str, go.Figure], caption: str
) -> list[tuple[go.Figure | Fragment, str]]:
    """Keep these figures under their names, and show them with a caption."""
    figures.update(drawn)
    return [(figure, caption) for figure in drawn.values()]


def chance_of(done: BehaviourRun) -> float:
    """One over the number of options, on average over the choice items."""
    sizes = [len(item.choices) for item in done.items if isinstance(item, ChoiceItem)]
    return float(np.mean([1 / k for k in sizes])) if sizes else 1 / 3


def flip_table(table: pd.DataFrame) -> pd.DataFrame:
    """Counts and net change of every arm, one row an arm and subset."""
    records = []
    for subset in subsets_of(table):
        for arm, rows in arms(table[table["items"] == subset]):
            for row in rows.to_dict("records"):
                counts = {name.replace("_", " → "): int(row[name]) for name in _COUNTS}
                key = {"items": subset, "prompt": arm}
                records.append(key | counts | {"net": cell(row, "net"), "p": row["p"]})
    return pd.DataFrame(records)


def flip_sentences(table: pd.DataFrame) -> list[str]:
    """A paragraph per condition: its flips and its placebo's, context conditions apart."""
    rows = {tuple(row[k] for k in _FLIP_KEYS): row for row in table.to_dict("records")}
    paragraphs = []
    for name in control_first(table):
        said = [
            words.read_flips(
                name, subset, rows[subset, name, ""], rows.get((subset, "placebo", name))
            )
            for subset in apart(table)
            if (subset, name, "") in rows
        ]
        paragraphs.append(" ".join(said))
    return paragraphs


def ends(rows: pd.DataFrame) -> tuple[Interval, Interval]:
    """The first and the last round of one arm and measure."""
    ordered = rows.sort_values("round").to_dict("records")
    return words.interval_of(ordered[0]), words.interval_of(ordered[-1])
