"""What the demo measured: the results of its studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.attention.tables import AttentionResult
from analyses.behaviour.claims import with_verdicts
from analyses.behaviour.tables import BehaviourResult
from analyses.demo.config import DemoConfig
from analyses.lens.tables import LensResult, with_clear
from analyses.patch.tables import PatchResult
from analyses.project.tables import ProjectResult, findings, with_findings
from analyses.report.claims import corrected_for
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.models import ModelCard


@dataclass(frozen=True)
class DemoResult:
    """The studies' results; ``identities``: measured on a pair of this run."""

    config: DemoConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    behaviour: BehaviourResult
    patch: PatchResult
    lens: LensResult
    project: ProjectResult
    attention: AttentionResult
    identities: pd.DataFrame
    report: Path

    __repr__ = short_repr


def over_studies(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with every p of a claim corrected for the number of studies as well (Bonferroni).

    The demo asks one question of one instruction in several ways, and tells whatever it finds.
    """
    k = len(results)
    behaviour, lens, project = (results[name] for name in ("behaviour", "lens", "project"))
    effects = with_verdicts(corrected_for(behaviour.tables["effects"], k))
    layers, contrasts = (corrected_for(t, k) for t in (lens.effects, project.contrasts))
    parts = corrected_for(project.contributors, k)
    return {
        **results,
        "behaviour": replace(behaviour, tables={**behaviour.tables, "effects": effects}),
        "patch": _with_totals(results["patch"], k),
        "lens": replace(_with_totals(lens, k), effects=with_clear(layers)),
        "project": replace(
            _with_totals(project, k),
            contrasts=with_findings(contrasts, project.nulls),
            contributors=parts.assign(sure=findings(parts)),
        ),
        "attention": replace(
            results["attention"], heads=corrected_for(results["attention"].heads, k)
        ),
    }


def _with_totals(result: Any, k: int) -> Any:
    return replace(result, totals=corrected_for(result.totals, k))
