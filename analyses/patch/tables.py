"""What a patching run measured: the sweeps, the effect to explain, shares of spans, largest cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.contrast import Question, read_example
from analyses.patch.asked import arms_of
from analyses.patch.config import PatchConfig
from analyses.patch.health import REVERSED, health_table
from analyses.study import Saved
from analyses.totals import totals_of
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.models import ModelCard
from interp.patching import SweepResult
from interp.patching.pooled import pool_pairs, span_means
from interp.prompts import ConditionSpec
from interp.stats import interval_column_names
from interp.viz.grids import cell_name
from interp.viz.sweeps import largest_cells

TOP = 20
Results = Mapping[tuple[str, str], SweepResult]
"""Sweeps by condition and site."""


@dataclass(frozen=True)
class PatchResult:
    """What a run measured.

    ``spec``: the condition asked about; ``dropped``: how many items have no margin;
    ``results[condition, site]``; ``totals``: the effect to explain in every metric
    (:func:`analyses.totals.totals_of`), of the condition and the control's arms;
    ``summary``: mean effect and share per span; ``top``: largest cells; ``health``: of each site's
    map (:func:`analyses.patch.health.health_table`); ``example``: the text of either side, empty
    where there is none.
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
    health: pd.DataFrame
    example: dict[str, str]
    report: Path

    __repr__ = short_repr


def table_name(condition: str, site: str) -> str:
    """The table of a sweep."""
    return f"patching-{condition}-{site}"


def read(asked: Question[PatchConfig], saved: Saved) -> PatchResult:
    """The result of the saved sweeps."""
    config, arms = asked.config, arms_of(asked.config)
    noted = saved.table("notes").set_index("condition")["note"]
    results: dict[tuple[str, str], SweepResult] = {}
    used = saved.table("readings")["item"].nunique()
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
    return PatchResult(
        config=config,
        card=saved.card,
        items=asked.items,
        spec=asked.specs[config.asked],
        dropped=len(asked.items) - used,
        results=results,
        totals=totals_of(saved.table("readings"), config.metric),
        summary=whole_summary(results),
        top=top_table(results),
        health=_health(config, results, saved),
        example=read_example(saved),
        report=saved.report,
    )


def _health(config: PatchConfig, results: Results, saved: Saved) -> pd.DataFrame:
    parts = []
    for site in config.site:
        back, doses = None, None
        if config.checks:
            rows = saved.table(table_name(REVERSED, site))
            back = pool_pairs(rows, config.axes(site), seed=config.seed)
            doses = saved.table(table_name(config.condition, site)) if site != "pattern" else None
        parts.append(health_table(results[config.condition, site], back, doses).assign(site=site))
    return pd.concat(parts, ignore_index=True)


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
    """The largest cells of every sweep but ceilings, with intervals and family-wise p (max-t)."""
    parts = []
    for (condition, site), result in results.items():
        top = largest_cells(result, TOP)
        cells = pd.Series([cell_name(row) for row in top.to_dict("records")], top.index, "str")
        parts.append(top.assign(condition=condition, site=site, cell=cells))
    columns = ["condition", "site", "cell", *interval_column_names(), "p_corrected"]
    return pd.concat(parts, ignore_index=True)[columns]
