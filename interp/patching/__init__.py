"""Patching: exact interventions between two aligned prompts."""

from interp.patching.cells import Cell, Part, Patch, PatchSite
from interp.patching.metrics import Metric
from interp.patching.patched import PatchedRuns
from interp.patching.plan import ALL, Cells, Plan, plan_sweep
from interp.patching.result import SweepResult
from interp.patching.sweep import alignment_notes, sweep

__all__ = [
    "ALL",
    "Cell",
    "Cells",
    "Metric",
    "Part",
    "Patch",
    "PatchSite",
    "PatchedRuns",
    "Plan",
    "SweepResult",
    "alignment_notes",
    "plan_sweep",
    "sweep",
]
