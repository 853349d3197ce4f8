"""Patching: exact interventions between two aligned prompts."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.patching.attribution import attribute
    from interp.patching.cells import Cell, Part, Patch
    from interp.patching.dose import dose
    from interp.patching.drop_in import (
        get_act_patch_attn_head_out_all_pos,
        get_act_patch_attn_head_out_by_pos,
        get_act_patch_attn_out,
        get_act_patch_mlp_out,
        get_act_patch_resid_mid,
        get_act_patch_resid_pre,
    )
    from interp.patching.grid import Grid
    from interp.patching.health import JACCARD_BAR, interaction, moved_against, top_overlap
    from interp.patching.identities import measure_identities
    from interp.patching.knockout import knockout
    from interp.patching.metrics import Metric
    from interp.patching.patched import PatchedRuns
    from interp.patching.plan import ALL, SweepPlan, plan_sweep
    from interp.patching.result import SweepResult, alignment_notes
    from interp.patching.sites import Cells, PatchSite, SweepSite
    from interp.patching.sweep import sweep

__all__ = [
    "ALL",
    "JACCARD_BAR",
    "Cell",
    "Cells",
    "Grid",
    "Metric",
    "Part",
    "Patch",
    "PatchSite",
    "PatchedRuns",
    "SweepPlan",
    "SweepResult",
    "SweepSite",
    "alignment_notes",
    "attribute",
    "dose",
    "get_act_patch_attn_head_out_all_pos",
    "get_act_patch_attn_head_out_by_pos",
    "get_act_patch_attn_out",
    "get_act_patch_mlp_out",
    "get_act_patch_resid_mid",
    "get_act_patch_resid_pre",
    "interaction",
    "knockout",
    "measure_identities",
    "moved_against",
    "plan_sweep",
    "sweep",
    "top_overlap",
]

attach(__name__)
