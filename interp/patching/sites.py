"""What a sweep is asked for, in plain words: sites, grids and ways of running.

Nothing here loads torch, so that a configuration can name and check these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

SweepSite = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"
]
"""What a sweep copies. ``q``, ``k`` and ``v`` are the projections before rotation and head norms, as
TransformerLens's ``hook_q``."""

PatchSite = Literal[SweepSite, "edges"]
"""What a patch sets: a sweep's sites, and ``edges``, which removes attention edges before the
softmax."""

PATCH_SITES: tuple[str, ...] = get_args(PatchSite)
HEAD_SITES = ("z", "q", "pattern", "edges")
KEY_VALUE_SITES = ("k", "v")
SPREADING_SITES = ("resid_pre", "k", "v")
"""Sites whose patch at one position changes later positions within the same layer."""

Cells = Literal["layer_pos", "layer_span", "layer_head", "layer_head_pos"]
"""The grid of a sweep; its axes are the words of its name, joined by an underscore."""

KnockoutCells = Literal["layer", "layer_head", "layer_span"]
"""The axes of an attention knockout; the spans are those of the queries."""

Positions: TypeAlias = str | Sequence[int]
"""``"aligned"`` (aligned and at or after the first difference), ``"all"`` (aligned, all),
``"post_instruction"``, the name of a span, or positions of the destination."""

MetricName = Literal["margin", "option_margin", "log_prob"]
"""What is read at the end of a run, by name: the margin (logit difference) of two options, the mean
log-probability per token of one's full text minus the other's, and that of the first one's token."""

AttributionMethod = Literal["gradient", "relp"]
"""What an attribution multiplies differences with: the gradient (AtP, with steps integrated
gradients), or the coefficients of relevance propagation (RelP)."""

SweepMethod = Literal["exact", "hooked"]
"""Cells in one pass over the layers, or one forward through hooks for each."""


def default_cells(site: str, n_pairs: int, spans: Sequence[str] | None) -> Cells:
    """By head where there are heads; else by position for one pair, by span for several."""
    if site in (*HEAD_SITES, *KEY_VALUE_SITES):
        return "layer_head"
    return "layer_pos" if n_pairs == 1 and spans is None else "layer_span"
