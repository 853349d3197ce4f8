"""What a projection run measured: the tables of its contrasts, and which of them are findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.contrast import CONTROL, read_example
from analyses.project.asked import ProjectQuestion
from analyses.project.config import ProjectConfig
from analyses.report.claims import corrected_for
from analyses.report.verdicts import is_finding
from analyses.study import Saved
from analyses.totals import totals_of
from interp.data import ChoiceItem
from interp.directions import DirectionStack, load_direction
from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_tables import (
    ContrastSample,
    contrast_table,
    contributor_table,
    level_table,
    null_table,
)
from interp.display import short_repr
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import ALPHA, intervals_of

KINDS = 3
"""Of claims: the answer, layers (with positions and parts of the stream), and parts at one layer."""

FITTED = "directions/morality.safetensors"
"""The direction of a run that was given none."""


@dataclass(frozen=True)
class ProjectResult:
    """What a run measured.

    ``totals``: the effect on the answer in every metric (:func:`analyses.totals.totals_of`). All p are
    corrected for the three kinds of claims.
    ``contrasts``: per position, condition and cell, as :func:`with_findings` leaves them. ``nulls``:
    along null directions. ``contributors``: the parts of the contrast at the direction's best layer,
    ``sure`` where they are findings. ``levels``: means of every condition. ``example``: a text of the
    condition and its placebo.
    """

    config: ProjectConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    direction: DirectionStack
    totals: pd.DataFrame
    contrasts: pd.DataFrame
    nulls: pd.DataFrame
    contributors: pd.DataFrame
    levels: pd.DataFrame
    example: dict[str, str]
    report: Path

    __repr__ = short_repr


def read(asked: ProjectQuestion, saved: Saved) -> ProjectResult:
    """The result of the saved readings."""
    sample = _sample(asked, saved)
    nulls, contributors = null_table(sample), corrected_for(contributor_table(sample), KINDS)
    return ProjectResult(
        config=asked.config,
        card=saved.card,
        items=asked.items,
        spec=asked.spec,
        direction=sample.direction,
        totals=corrected_for(totals_of(saved.table("readings")), KINDS),
        contrasts=with_findings(corrected_for(contrast_table(sample), KINDS), nulls),
        nulls=nulls,
        contributors=contributors.assign(sure=findings(contributors)),
        levels=level_table(sample),
        example=read_example(saved),
        report=saved.report,
    )


def _sample(asked: ProjectQuestion, saved: Saved) -> ContrastSample:
    config = asked.config
    direction = load_direction(saved.path(FITTED)) if asked.given is None else asked.given
    cells, parts, nulls = (saved.table(t) for t in ("cells", "components", "null_directions"))
    n_nulls = [int((nulls["position"] == position).sum()) for position in config.positions]
    arrays = ContrastArrays.empty(
        [item.cluster for item in asked.items],
        config.positions,
        {config.condition: config.texts, CONTROL: _control_texts(saved)},
        n_cells=len(cells),
        n_parts=len(parts),
        n_nulls=[len(direction.layers) * n for n in n_nulls],
    )
    index = {item.id: k for k, item in enumerate(asked.items)}
    for rows in saved.parts("projections"):
        arrays.add(index[rows["item"].iloc[0]], rows)
    return ContrastSample(arrays, cells, parts, nulls, direction, config.seed)


def _control_texts(saved: Saved) -> int:
    """How many wordings of the control were read."""
    readings = saved.table("readings")
    return int(readings.loc[readings["condition"] == CONTROL, "slot"].nunique())


def with_findings(rows: pd.DataFrame, nulls: pd.DataFrame) -> pd.DataFrame:
    """Contrasts with ``sure``: its :func:`findings`; and ``beyond``.

    ``beyond``: sure, and beyond the nulls of ``p_null`` and every non-moral contrast of its layer.
    """
    others = nulls[nulls["kind"] == "contrast"]
    sizes = others["estimate"].abs().fillna(0)
    largest = sizes.groupby([others["position"], others["layer"]]).max().to_dict()
    places = zip(rows["position"], rows["layer"], strict=True)
    larger = rows["estimate"].abs() > [largest.get(place, np.inf) for place in places]
    sure = np.array(findings(rows), dtype=bool)
    beyond = sure & larger & (rows["p_null"] < ALPHA)
    return rows.drop(columns="fixed").assign(sure=sure, beyond=beyond, fixed=rows["fixed"])


def findings(rows: pd.DataFrame) -> list[bool]:
    """Whether the interval of a row and its family-wise p make an effect."""
    pairs = zip(intervals_of(rows), rows["p_corrected"], strict=True)
    return [is_finding(interval, p) for interval, p in pairs]
