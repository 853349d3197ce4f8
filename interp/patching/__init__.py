"""Patching: exact interventions between two aligned prompts."""

from interp.patching.result import SweepResult
from interp.patching.sweep import ALL, alignment_notes, sweep

__all__ = ["ALL", "SweepResult", "alignment_notes", "sweep"]
