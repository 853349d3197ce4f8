"""What the demo measured: the results of its studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.attention.tables import AttentionResult
from analyses.behaviour.tables import BehaviourResult
from analyses.demo.config import DemoConfig
from analyses.lens.tables import LensResult
from analyses.patch.tables import PatchResult
from analyses.project.tables import ProjectResult
from interp.data import ChoiceItem
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
