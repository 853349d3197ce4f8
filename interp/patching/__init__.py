"""Patching: exact interventions between two aligned prompts."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.patching.attribution import attribute
    from interp.patching.cells import Cell, Part, Patch
    from interp.patching.dose import dose
    from interp.patching.drop_in import (
        PatchingResult,
        generic_activation_patch,
        get_act_patch_attn_head_all_pos_every,
        get_act_patch_attn_head_by_pos_every,
        get_act_patch_attn_head_k_all_pos,
        get_act_patch_attn_head_k_by_pos,
        get_act_patch_attn_head_out_all_pos,
        get_act_patch_attn_head_out_by_pos,
        get_act_patch_attn_head_pattern_all_pos,
        get_act_patch_attn_head_pattern_by_pos,
        get_act_patch_attn_head_pattern_dest_src_pos,
        get_act_patch_attn_head_q_all_pos,
        get_act_patch_attn_head_q_by_pos,
        get_act_patch_attn_head_v_all_pos,
        get_act_patch_attn_head_v_by_pos,
        get_act_patch_attn_out,
        get_act_patch_block_every,
        get_act_patch_direct_path,
        get_act_patch_direct_path_all_sources,
        get_act_patch_mlp_out,
        get_act_patch_resid_mid,
        get_act_patch_resid_pre,
        layer_head_dest_src_pos_pattern_patch_setter,
        layer_head_pattern_patch_setter,
        layer_head_pos_pattern_patch_setter,
        layer_head_vector_patch_setter,
        layer_pos_head_vector_patch_setter,
        layer_pos_patch_setter,
        make_df_from_ranges,
    )
    from interp.patching.grid import Grid
    from interp.patching.health import JACCARD_BAR, interaction, moved_against, top_overlap
    from interp.patching.identities import measure_identities
    from interp.patching.knockout import knockout
    from interp.patching.metrics import Metric
    from interp.patching.one_cell import applied, blocked_edges, cell_patches
    from interp.patching.patched import PatchedRuns
    from interp.patching.plan import SweepPlan, plan_sweep
    from interp.patching.positions import ALL, TokenCounts, alignment_notes
    from interp.patching.read_continuation import read_continuation
    from interp.patching.read_options import read_options
    from interp.patching.result import SweepResult
    from interp.patching.screen import screen
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
    "PatchingResult",
    "SweepPlan",
    "SweepResult",
    "SweepSite",
    "TokenCounts",
    "alignment_notes",
    "applied",
    "attribute",
    "blocked_edges",
    "cell_patches",
    "dose",
    "generic_activation_patch",
    "get_act_patch_attn_head_all_pos_every",
    "get_act_patch_attn_head_by_pos_every",
    "get_act_patch_attn_head_k_all_pos",
    "get_act_patch_attn_head_k_by_pos",
    "get_act_patch_attn_head_out_all_pos",
    "get_act_patch_attn_head_out_by_pos",
    "get_act_patch_attn_head_pattern_all_pos",
    "get_act_patch_attn_head_pattern_by_pos",
    "get_act_patch_attn_head_pattern_dest_src_pos",
    "get_act_patch_attn_head_q_all_pos",
    "get_act_patch_attn_head_q_by_pos",
    "get_act_patch_attn_head_v_all_pos",
    "get_act_patch_attn_head_v_by_pos",
    "get_act_patch_attn_out",
    "get_act_patch_block_every",
    "get_act_patch_direct_path",
    "get_act_patch_direct_path_all_sources",
    "get_act_patch_mlp_out",
    "get_act_patch_resid_mid",
    "get_act_patch_resid_pre",
    "interaction",
    "knockout",
    "layer_head_dest_src_pos_pattern_patch_setter",
    "layer_head_pattern_patch_setter",
    "layer_head_pos_pattern_patch_setter",
    "layer_head_vector_patch_setter",
    "layer_pos_head_vector_patch_setter",
    "layer_pos_patch_setter",
    "make_df_from_ranges",
    "measure_identities",
    "moved_against",
    "plan_sweep",
    "read_continuation",
    "read_options",
    "screen",
    "sweep",
    "top_overlap",
]

attach(__name__)
