"""The sites of a patch, as words: nothing here loads torch, so configurations can name them."""

from __future__ import annotations

from typing import Literal, get_args

SweptSite = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"
]
"""What a sweep copies. ``q``, ``k`` and ``v`` are the projections before rotation and head norms, as
TransformerLens's ``hook_q``."""

PatchSite = Literal[SweptSite, "edges"]
"""What a patch sets; ``edges`` removes attention edges before the softmax."""

PATCH_SITES: tuple[str, ...] = get_args(PatchSite)
HEAD_SITES = ("z", "q", "pattern", "edges")
KEY_VALUE_SITES = ("k", "v")
SPREADING_SITES = ("resid_pre", "k", "v")
"""Sites whose patch at one position changes later positions within the same layer."""
