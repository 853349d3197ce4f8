"""Behaviour-study figures: instructions and their placebos, over subsets, ranks, and rounds.

Every function takes one long-form table: a number a row, with the columns of its 95 % interval
(:mod:`interp.stats.columns`; ``reason`` says why there is none). A placebo's row has ``condition`` =
placebo and in ``control_of`` the condition it stands in for; the two always share a panel or stand next
to each other. Open markers have no interval. + is the better answer; margins are in nats.

Example::

    interp.viz.effects_by_condition(tables["effects"])
    interp.viz.rounds(tables["rounds"], measure="p_unknown")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.behaviour.scores import PRIMARY
from interp.data.items import ContextCondition
from interp.errors import InterpError
from interp.stats.columns import require_columns
from interp.viz.theme import (
    CONDITION_COLOURS,
    FAINT,
    MUTED,
    PAPER,
    ZERO,
    apply_style,
    escape_label,
    symbol_of,
    wrap_label,
)

BASELINES = ("clean", "specificity_0")
"""Prompts without an instruction: drawn in grey with every condition, never as one."""

_OTHERS = ("#56b4e9", "#7b5ea7", "#882255", "#117733")  # none like the placebo's orange
INTERVAL = ("estimate", "low", "high")
SUBSETS = ("all", *get_args(ContextCondition))
DASHED = {"color": MUTED, "width": 1, "dash": "dash"}


def effects_by_condition(frame: pd.DataFrame) -> go.Figure:
    """Forest plot of condition - placebo on the option margin, nats per token, one panel a subset.

    ``frame``: items, condition, against, metric and an interval. Rows of other metrics, or against
    anything but the placebo, are left out. An effect that could not be measured shows its reason.

    Raises:
        InterpError: a column is missing, or no row is against the placebo.
    """
    needed = ("items", "condition", "against", "metric", *INTERVAL, "reason")
    require(frame, "effects_by_condition", *needed)
    rows = frame[(frame["against"] == "placebo") & (frame["metric"] == PRIMARY)]
    require_rows(rows, "effects_by_condition", "no effect against the placebo")
    conditions, subsets = treated_of(rows), subsets_of(rows)
    figure = panels(subsets)
    for col, subset in enumerate(subsets, start=1):
        for k, name in enumerate(conditions):
            own = rows[(rows["items"] == subset) & (rows["condition"] == name)]
            trace = dots(own, name, colour(name, k), across=[-k] * len(own), horizontal=True)
            figure.add_trace(trace.update(marker_size=10, showlegend=False), row=1, col=col)
            figure.add_trace(_reasons(own, [-k] * len(own), horizontal=True), row=1, col=col)
    title = "effect on the option margin, nats per token"
    figure.update_xaxes(title=title, nticks=6, matches="x", **ZERO)
    name_rows(figure, conditions, [-k for k in range(len(conditions))])
    return apply_style(
        figure,
        title="Effect of each instruction",
        subtitle=("treated − its placebo; 95 % intervals over texts and item clusters",),
        height=190 + 40 * len(conditions),
        panels=True,
    )


def gain_by_rank(frame: pd.DataFrame, *, items: str = "all", chance: float = 1 / 3) -> go.Figure:
    """Gain against the placebo (nats per token) and accuracy after, by the rank of gold before.

    ``frame``: items, condition, against, rank (``1``, ``2``, ..., ``top - rest``), measure
    (``gain``, ``correct``) and an interval with n. ``items`` is the subset; the dashed line is
    ``chance``, one over the number of options.

    Raises:
        InterpError: a column is missing, or there is no number for this subset.
    """
    require(frame, "gain_by_rank", "items", "condition", "against", "rank", "measure", "n", "low")
    frame = frame[frame["items"] == items]
    require_rows(frame[frame["estimate"].notna()], "gain_by_rank", f"no gain on {items} items")
    frame = frame.assign(rank=frame["rank"].astype(str))
    ranks = sorted({rank for rank in frame["rank"] if rank.isdigit()}, key=int)
    ticks = {rank: float(k) for k, rank in enumerate(ranks)} | {"top - rest": len(ranks) + 0.25}
    pairs = list(frame.groupby(["condition", "against"], sort=False))
    figure = make_subplots(
        rows=2, cols=len(pairs), vertical_spacing=0.16, horizontal_spacing=0.09,
        subplot_titles=[escape_label(f"{name} − {against}") for (name, against), _ in pairs],
    )  # fmt: skip
    for col, ((name, _), own) in enumerate(pairs, start=1):
        for row, measure in enumerate(("gain", "correct"), start=1):
            shown = own[(own["measure"] == measure) & own["estimate"].notna()]
            trace = dots(
                shown, str(name), colour(str(name), col - 1),
                across=[ticks[rank] for rank in shown["rank"]], horizontal=False,
            )  # fmt: skip
            trace.update(
                mode="markers+text", text=[f" n={n}" for n in shown["n"]], showlegend=False,
                textposition="middle right", textfont={"size": 10, "color": MUTED},
            )  # fmt: skip
            figure.add_trace(trace, row=row, col=col)
        gain = own[own["measure"] == "gain"]
        missing = _reasons(gain, [ticks[rank] for rank in gain["rank"]], horizontal=False)
        figure.add_trace(missing, row=1, col=col)
    labels = [name.replace("-", "−") for name in ticks]
    figure.update_xaxes(
        tickvals=list(ticks.values()), ticktext=labels, range=[-0.4, len(ranks) + 0.95],
        showgrid=False,
    )  # fmt: skip
    figure.update_xaxes(
        title="rank of gold before", tickvals=list(ticks.values())[:-1], ticktext=labels[:-1], row=2
    )
    figure.add_hline(y=chance, line=DASHED, row=2)
    figure.add_vline(x=len(ranks) - 0.35, line={"color": FAINT, "width": 1}, row=1)
    figure.update_yaxes(**ZERO, row=1)
    figure.update_yaxes(range=[0, 1.05], row=2)
    figure.update_yaxes(title="gain in option margin, nats per token", row=1, col=1)
    figure.update_yaxes(title="accuracy after", row=2, col=1)
    return apply_style(
        figure,
        title=f"Who gains: {items} items by the rank of the right answer before",
        subtitle=(
            "rank from the first order of the options, gain and accuracy from the others; 95 % "
            "intervals over item clusters, of gains over texts too; dashed: chance; every gain panel "
            "has its own scale",
        ),
        height=560,
        panels=True,
    )


def categories(frame: pd.DataFrame) -> go.Figure:
    """The effect (nats against the placebo) per category, ambiguous and disambiguated apart.

    ``frame``: benchmark, category, items, condition, measure (rows of ``effect`` are drawn) and an
    interval. Sorted by the first condition's effect in the first panel, after ``all``.

    Raises:
        InterpError: a column is missing, or there is no row of an effect.
    """
    require(frame, "categories", "benchmark", "category", "items", "condition", "measure")
    rows = frame[frame["measure"] == "effect"]
    apart = rows[rows["items"] != "all"]
    rows = rows if apart.empty else apart
    require_rows(rows, "categories", "no effect per category")
    several = rows["benchmark"].nunique() > 1
    prefix = rows["benchmark"] + ": " if several else ""
    rows = rows.assign(label=prefix + rows["category"].astype(str))
    conditions, subsets = treated_of(rows), subsets_of(rows)
    key = rows.assign(
        part=rows["category"] != "all",
        panel=rows["items"].map(subsets.index),
        k=rows["condition"].map(conditions.index),
    ).sort_values(["part", "panel", "k", "estimate"], ascending=[True, True, True, False])
    labels = list(dict.fromkeys(key["label"]))
    figure = panels(subsets)
    for col, subset in enumerate(subsets, start=1):
        for k, name in enumerate(conditions):
            own = rows[(rows["items"] == subset) & (rows["condition"] == name)]
            shift = 0.24 * (k - (len(conditions) - 1) / 2)
            across = [-labels.index(label) - shift for label in own["label"]]
            trace = dots(own, name, colour(name, k), across=across, horizontal=True)
            figure.add_trace(trace.update(showlegend=col == 1), row=1, col=col)
    figure.update_xaxes(title="effect on the option margin, nats per token", nticks=6, **ZERO)
    shown = [label.replace("_", " ") for label in labels]
    name_rows(figure, shown, [-k for k in range(len(labels))])
    return apply_style(
        figure,
        title="Effect per category",
        subtitle=(
            "treated − its placebo; 95 % intervals over texts and item clusters, a category at a time",
            "the panels have their own scales",
        ),
        height=230 + len(labels) * (14 + 10 * len(conditions)),
        panels=True,
        legend=len(conditions) > 1,
    )


def letters(frame: pd.DataFrame) -> go.Figure:
    """How often each letter is the most probable one, and each position's option is chosen.

    ``frame``: condition, letter, share, option_chosen, n. Over all cyclic orders every option has
    every letter once: without a preference all points lie on the dashed line, 1/k.

    Raises:
        InterpError: a column is missing, or no share could be read.
    """
    require(frame, "letters", "condition", "letter", "share", "option_chosen")
    titles = {"share": "letter most probable", "option_chosen": "option chosen by its text"}
    panels = [column for column in titles if frame[column].notna().any()]
    require_rows(frame if panels else frame.iloc[:0], "letters")
    names, ticks = list(dict.fromkeys(frame["condition"])), list(dict.fromkeys(frame["letter"]))
    figure = make_subplots(
        cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05,
        subplot_titles=[titles[column] for column in panels],
    )  # fmt: skip
    for col, column in enumerate(panels, start=1):
        for k, name in enumerate(names):
            own = frame[frame["condition"] == name]
            shift = 0.09 * (k - (len(names) - 1) / 2)
            across = [ticks.index(letter) + shift for letter in own["letter"]]
            bare = own.assign(estimate=own[column], low=np.nan, high=np.nan)
            trace = dots(bare, str(name), colour(str(name), k), across=across, horizontal=False)
            trace.update(marker_color=colour(str(name), k), showlegend=col == 1)
            figure.add_trace(trace, row=1, col=col)
    figure.add_hline(y=1 / len(ticks), line=DASHED)
    figure.update_xaxes(
        title="letter", tickvals=list(range(len(ticks))), ticktext=[f"({t})" for t in ticks],
        range=[-0.5, len(ticks) - 0.5], showgrid=False,
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="share of prompts", col=1)
    return apply_style(
        figure,
        title="Preference for a letter",
        subtitle=("over all cyclic orders, items and texts; dashed: no preference",),
        height=400,
        panels=True,
        legend=True,
    )


@dataclass(frozen=True)
class Arm:
    """A condition, its placebo or a baseline: how it is called and drawn, and its rows."""

    label: str
    name: str
    colour: str
    dash: str
    rows: pd.DataFrame


def pair(frame: pd.DataFrame, condition: str, index: int) -> Iterator[Arm]:
    """A condition, then its placebo where it has one; ``index`` chooses among the extra colours."""
    own = frame[(frame["condition"] == condition) & (condition != "placebo")]
    dash = "dot" if condition in BASELINES else "solid"
    yield Arm(condition, condition, colour(condition, index), dash, own)
    control = frame[(frame["condition"] == "placebo") & (frame["control_of"] == condition)]
    if not control.empty:
        label = f"placebo of {condition}"
        yield Arm(label, "placebo", colour("placebo", index), "dash", control)


def colour(condition: str, index: int) -> str:
    """The fixed colour of a condition; grey without an instruction; others from the palette."""
    if condition in BASELINES:
        return CONDITION_COLOURS["clean"]
    return CONDITION_COLOURS.get(condition, _OTHERS[index % len(_OTHERS)])


def names_of(frame: pd.DataFrame) -> list[str]:
    """Conditions in the order of the table, baselines last; a placebo goes with its condition."""
    found = [str(name) for name in dict.fromkeys(frame["condition"]) if name != "placebo"]
    return sorted(found, key=lambda name: name in BASELINES)


def treated_of(frame: pd.DataFrame) -> list[str]:
    """:func:`names_of` without baselines; the baselines where there is nothing else."""
    names = names_of(frame)
    return [name for name in names if name not in BASELINES] or names


def subsets_of(frame: pd.DataFrame) -> list[str]:
    """Subsets present, all items first."""
    present = list(dict.fromkeys(frame["items"]))
    return [s for s in SUBSETS if s in present] + [s for s in present if s not in SUBSETS]


def require(frame: pd.DataFrame, who: str, *columns: str) -> None:
    """Refuse a table without one of these columns."""
    require_columns(frame, columns, f"{who}: the table")


def require_rows(frame: pd.DataFrame, who: str, what: str = "the table has no row") -> None:
    """Refuse to draw an empty panel."""
    if frame.empty:
        raise InterpError(f"{who}: nothing to draw, {what}: leave the figure out")


def dots(
    rows: pd.DataFrame, name: str, shade: str, *, across: Sequence[float | int], horizontal: bool
) -> go.Scatter:
    """Estimates with their error bars; open where there is no interval, the reason on hover."""
    along, other = ("x", "y") if horizontal else ("y", "x")
    estimate, low, high = (rows[c].to_numpy(float) for c in INTERVAL)
    reasons = rows.get("reason", pd.Series(index=rows.index)).fillna("").astype(str)
    reason = [f" ({escape_label(r)})" if r else "" for r in reasons]
    return go.Scatter(
        {along: estimate, other: list(across)},
        mode="markers",
        marker={
            "size": 8,
            "symbol": symbol_of(name),
            "color": [PAPER if bare else shade for bare in np.isnan(low)],
            "line": {"width": 1.5, "color": shade},
        },
        **{
            f"error_{along}": {
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - estimate),
                "arrayminus": np.nan_to_num(estimate - low),
                "color": shade,
                "thickness": 2,
                "width": 0,
            }
        },
        cliponaxis=False,
        name=escape_label(name),
        legendgroup=name,
        customdata=list(zip(low, high, reason, strict=True)),
        hovertemplate=f"{escape_label(name)}: %{{{along}:.3f}} [%{{customdata[0]:.3f}}, "
        "%{customdata[1]:.3f}]%{customdata[2]}<extra></extra>",
    )


def grid(rows: Sequence[str], names: Sequence[str], *, shared: bool = True) -> go.Figure:
    """Panels: a column per condition, titled; ``shared``: one scale a row."""
    return make_subplots(
        rows=len(rows), cols=len(names), shared_xaxes=True, shared_yaxes=shared,
        horizontal_spacing=0.04 if shared else 0.08, vertical_spacing=0.16 / len(rows),
        column_titles=[wrap_label(name, 16) for name in names],
    )  # fmt: skip


def _reasons(rows: pd.DataFrame, across: Sequence[float | int], *, horizontal: bool) -> go.Scatter:
    """What is written at 0 in the place of a number that could not be measured."""
    along, other = ("x", "y") if horizontal else ("y", "x")
    missing = rows["estimate"].isna().to_numpy()
    negative = rows["estimate"].mean() < 0  # then the panel lies on that side of 0
    side = ("left" if negative else "right") if horizontal else ("bottom" if negative else "top")
    return go.Scatter(
        {
            along: [0.0] * int(missing.sum()),
            other: np.asarray(across, dtype=float)[missing],
        },
        mode="text",
        text=[
            wrap_label(reason or "not measured", 26 if horizontal else 14)
            for reason in rows.loc[missing, "reason"]
        ],
        textposition=f"middle {side}" if horizontal else f"{side} center",
        textfont={"size": 10, "color": MUTED},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
    )


def panels(titles: Sequence[str]) -> go.Figure:
    """Panels side by side whose rows are the same."""
    return make_subplots(
        cols=len(titles), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=list(titles)
    )


def name_rows(figure: go.Figure, names: Sequence[str], at: Sequence[float | int]) -> None:
    """Labels of the rows of a panel, at these heights."""
    figure.update_yaxes(
        tickvals=list(at),
        ticktext=[escape_label(name) for name in names],
        range=[min(at) - 0.7, max(at) + 0.7],
        showgrid=False,
    )
