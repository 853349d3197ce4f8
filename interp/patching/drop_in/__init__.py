"""TransformerLens's patching functions, exact and faster: change one import.

``import interp.patching.drop_in as patching`` stands where ``import transformer_lens.patching as
patching`` stood: every public name of that module is here (and in :mod:`interp.patching`), takes the
same arguments and gives the same results, a tensor or a ``PatchingResult``.

What runs on the exact engine: every ``get_act_patch_*`` function, direct paths included, and
``generic_activation_patch`` with one of TransformerLens's setters at ``resid_pre``, ``resid_mid``,
``resid_post``, ``attn_out``, ``mlp_out``, ``z``, ``q``, ``k``, ``v`` or ``pattern``. Any other setter or
activation goes to TransformerLens's own function. Setters, ``make_df_from_ranges`` and
``PatchingResult`` are TransformerLens's.

A metric gets logits of full shape ``[batch, pos, d_vocab]``. Which rows it reads is found by one
backward pass from its value on the corrupted run; only they are computed, the others hold NaN. So a
metric that reads more rows in a patched run (a maximum over positions) says so itself. Two cells are
computed again in full besides; where any of that goes wrong, or the metric has no gradient, every row
of every cell is computed.

Two differences are meant. ``resid_mid`` always sets the residual stream itself; TransformerLens 4.3
writes in place and does so only while gradients are off, and reaches the MLP alone while they are on.
And on models whose attention shows its pattern only after use (OPT, say), where TransformerLens's
``pattern`` functions change nothing and give the unpatched value everywhere, ours refuse. Direct paths
also run where TransformerLens has no fork of the attention's input.

More keywords than TransformerLens has: ``padding`` (where its results hold zeros that no run gave: the
heads that ``k`` and ``v`` lack, the layers not behind a direct path's source), ``max_bytes`` and
``progress``.

Example::

    _, cache = model.run_with_cache(clean_tokens)
    effects = get_act_patch_resid_pre(model, corrupted_tokens, cache, logit_difference)
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from transformer_lens.patching import (
        PatchingResult,
        layer_head_dest_src_pos_pattern_patch_setter,
        layer_head_pattern_patch_setter,
        layer_head_pos_pattern_patch_setter,
        layer_head_vector_patch_setter,
        layer_pos_head_vector_patch_setter,
        layer_pos_patch_setter,
        make_df_from_ranges,
    )

    from interp.patching.drop_in.direct_path import (
        get_act_patch_direct_path,
        get_act_patch_direct_path_all_sources,
    )
    from interp.patching.drop_in.every import (
        get_act_patch_attn_head_all_pos_every,
        get_act_patch_attn_head_by_pos_every,
        get_act_patch_block_every,
    )
    from interp.patching.drop_in.generic import (
        generic_activation_patch,
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
        get_act_patch_mlp_out,
        get_act_patch_resid_mid,
        get_act_patch_resid_pre,
    )

__all__ = [
    "PatchingResult",
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
    "layer_head_dest_src_pos_pattern_patch_setter",
    "layer_head_pattern_patch_setter",
    "layer_head_pos_pattern_patch_setter",
    "layer_head_vector_patch_setter",
    "layer_pos_head_vector_patch_setter",
    "layer_pos_patch_setter",
    "make_df_from_ranges",
]

attach(__name__)
