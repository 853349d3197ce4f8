"""What a patching run measured: the sweeps, the effect to explain, shares of spans, largest cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.contrast import CONTROL, Question, read_example
from analyses.patch.config import PatchConfig
from analyses.study import Saved
from interp.data import ChoiceItem
from interp.models import ModelCard
from interp.patching import SweepResult
from interp.patching.pooled import pool_pairs, span_means
from interp.prompts import ConditionSpec
from interp.stats import interval_column_names, text_effects
from interp.viz.grids import cell_name
from interp.viz.sweeps import largest_cells

TOP = 20
Results = Mapping[tuple[str, str], SweepResult]
"""Sweeps by condition and site."""


@dataclass(frozen=True)
class PatchResult:
    """What a run measured.

    ``spec``: the condition asked about; ``dropped``: how many items have no margin;
    ``results[condition, site]``; ``totals``: the effect to explain, per condition and context;
    ``summary``: mean effect and share per span; ``top``: largest cells; ``example``: the text of
    either side, empty where there is none.
    """

    config: PatchConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    dropped: int
    results: dict[tuple[str, str], SweepResult]
    totals: pd.DataFrame
    summary: pd.DataFrame
    top: pd.DataFrame
    example: dict[str, str]
    report: Path


def arms_of(config: PatchConfig) -> dict[str, str]:
    """The conditions that are patched, each with what it is patched into."""
    own = {config.condition: config.against}
    control = {CONTROL: "placebo"} if config.control else {}
    # the condition asked about comes first, and keeps its side where it is the control
    return own | control | own


def table_name(condition: str, site: str) -> str:
    """The table of a sweep."""
    return f"patching-{condition}-{site}"


def read(asked: Question[PatchConfig], saved: Saved) -> PatchResult:
    """The result of the saved sweeps."""
    config, arms = asked.config, arms_of(asked.config)
    noted = saved.table("notes").set_index("condition")["note"]
    results: dict[tuple[str, str], SweepResult] = {}
    frames: dict[str, pd.DataFrame] = {}
    for site in config.site:
        for condition, against in arms.items():
            frame = saved.table(table_name(condition, site))
            notes = [noted[condition], *frame["notes"].unique()]
            results[condition, site] = pool_pairs(
                frame,
                config.axes(site),
                title=f"{condition} -> {against}, {site}",
                seed=config.seed,
                notes=[note for note in notes if note],
            )
            frames[condition] = frame
    return PatchResult(
        config=config,
        card=saved.card,
        items=asked.items,
        spec=asked.specs[config.asked],
        dropped=len(asked.items) - frames[config.condition]["item"].nunique(),
        results=results,
        totals=sweep_totals(frames, arms, config.seed),
        summary=whole_summary(results),
        top=top_table(results),
        example=read_example(saved),
        report=saved.report,
    )


def sweep_totals(
    frames: Mapping[str, pd.DataFrame], arms: Mapping[str, str], seed: int
) -> pd.DataFrame:
    """The effect there is to explain, mean(source - destination), per condition and context.

    ``frames`` hold the cells of each condition's pairs, ``arms`` what it is patched into. The
    columns are those of :func:`interp.stats.text_effects`; the clean prompt counts as one text.
    """
    rows = []
    for condition, frame in frames.items():
        pairs = frame.drop_duplicates("pair")
        items = pairs.drop_duplicates("item").set_index("item")
        if pairs["item"].is_unique:  # one text, or one of several in turn
            pairs = pairs.assign(slot=0)
        names = {"source": condition, "destination": arms[condition]}
        source, destination = (
            pairs.pivot(index="slot", columns="item", values=side)[items.index].to_numpy(float)[
                : 1 if name == "clean" else None
            ]
            for side, name in names.items()
        )
        effects = text_effects(
            source,
            destination,
            items["cluster"].tolist(),
            items["context"].tolist(),
            seed=seed,
            labels=("total",),
        )
        rows += [{"condition": condition, **row} for row in effects]
    return pd.DataFrame(rows)


def whole_summary(results: Results) -> pd.DataFrame:
    """:func:`~interp.patching.pooled.span_means` of every sweep."""
    parts = []
    for (condition, site), result in results.items():
        part = span_means(result)
        part.insert(0, "site", site)
        part.insert(0, "condition", condition)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def top_table(results: Results) -> pd.DataFrame:
    """The largest cells of every sweep but ceilings, with intervals and family-wise p (max-T)."""
    parts = []
    for (condition, site), result in results.items():
        top = largest_cells(result, TOP)
        cells = [cell_name(row) for row in top.to_dict("records")]
        parts.append(top.assign(condition=condition, site=site, cell=cells))
    columns = ["condition", "site", "cell", *interval_column_names(), "p"]
    return pd.concat(parts, ignore_index=True)[columns]
