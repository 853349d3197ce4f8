"""Several sweeps of one batch, stacked: every kind of activation of a head, or of a block.

Key/value heads are fewer than query heads in grouped-query attention, so that ``k`` and ``v`` have no
value at the last heads: ``padding`` stands there, 0.0 as with TransformerLens unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.patching import PatchingResult, make_df_from_ranges

from interp.patching.drop_in.generic import sweep_values
from interp.patching.drop_in.index_rows import Cache, Setter
from interp.patching.drop_in.metric_sweep import LogitsMetric, Reduce, Request
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import n_heads
from interp.patching.sites import PatchSite

_Sweep: TypeAlias = tuple[str, PatchSite, Setter, tuple[str, ...]]
"""Name of the patch type, site, setter, and the axes in the setter's order."""

_HEAD_SITES: tuple[tuple[str, PatchSite], ...] = (("out", "z"), ("q", "q"), ("k", "k"), ("v", "v"))


def get_act_patch_block_every(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: LogitsMetric | Mapping[str, LogitsMetric],
    *,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor | PatchingResult:
    """``resid_pre``, ``attn_out`` and ``mlp_out`` at every layer and position, ``[3, layer, pos]``.

    Arguments, unit and errors are those of
    :func:`interp.patching.drop_in.generic.generic_activation_patch`; a ``PatchingResult`` names the
    first axis in ``patch_type_names``.
    """
    sites: tuple[PatchSite, ...] = ("resid_pre", "attn_out", "mlp_out")
    sweeps = [(site, site, upstream.layer_pos_patch_setter, ("layer", "pos")) for site in sites]
    request = Request.of(metric, reduce, baseline)
    return _stacked(
        model, corrupted_tokens, clean_cache, request, sweeps, ("layer", "pos"),
        padding=0.0, max_bytes=max_bytes, progress=progress,
    )  # fmt: skip


def get_act_patch_attn_head_all_pos_every(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: LogitsMetric | Mapping[str, LogitsMetric],
    *,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    padding: float = 0.0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor | PatchingResult:
    """Output, query, key, value and pattern of every head at all positions, ``[5, layer, head]``.

    Arguments, unit and errors are those of
    :func:`interp.patching.drop_in.generic.generic_activation_patch`; a ``PatchingResult`` names the
    first axis in ``patch_type_names``. ``padding``: what stands at the heads that keys and values do
    not have; ``float("nan")`` keeps them from passing for measured values.
    """
    vector = upstream.layer_head_vector_patch_setter
    axes = ("layer", "head")
    sweeps: list[_Sweep] = [(name, site, vector, axes) for name, site in _HEAD_SITES]
    sweeps.append(("pattern", "pattern", upstream.layer_head_pattern_patch_setter, axes))
    request = Request.of(metric, reduce, baseline)
    return _stacked(
        model, corrupted_tokens, clean_cache, request, sweeps, axes,
        padding=padding, max_bytes=max_bytes, progress=progress,
    )  # fmt: skip


def get_act_patch_attn_head_by_pos_every(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: LogitsMetric | Mapping[str, LogitsMetric],
    *,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    padding: float = 0.0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor | PatchingResult:
    """The same by position, ``[5, layer, pos, head]``; of the pattern the rows of one query.

    Arguments as :func:`get_act_patch_attn_head_all_pos_every`.
    """
    vector = upstream.layer_pos_head_vector_patch_setter
    axes = ("layer", "pos", "head")
    sweeps: list[_Sweep] = [(name, site, vector, axes) for name, site in _HEAD_SITES]
    rows = upstream.layer_head_pos_pattern_patch_setter
    sweeps.append(("pattern", "pattern", rows, ("layer", "head", "pos")))
    request = Request.of(metric, reduce, baseline)
    return _stacked(
        model, corrupted_tokens, clean_cache, request, sweeps, axes,
        padding=padding, max_bytes=max_bytes, progress=progress,
    )  # fmt: skip


def _stacked(
    model: TransformerBridge,
    tokens: Tensor,
    cache: Cache,
    request: Request,
    sweeps: Sequence[_Sweep],
    axes: tuple[str, ...],
    *,
    padding: float,
    max_bytes: int,
    progress: bool,
) -> Tensor | PatchingResult:
    """The sweeps one after the other, each brought to ``axes`` and to the number of query heads."""
    known = {"layer": int(model.cfg.n_layers), "pos": int(tokens.shape[-1])}
    wanted = [known.get(axis, int(model.cfg.n_heads)) for axis in axes]
    by_type = []
    own = None
    for _, site, setter, order in sweeps:
        sizes = [known.get(axis, n_heads(model, site)) for axis in order]
        index_df = make_df_from_ranges(sizes, order)
        values, own = sweep_values(
            model, tokens, cache, request, setter, site, index_df,
            max_bytes=max_bytes, progress=progress,
        )  # fmt: skip
        values = values.unflatten(1, sizes)
        values = values.movedim(
            [1 + order.index(axis) for axis in axes], [*range(1, 1 + len(axes))]
        )
        whole = values.new_full((len(values), *wanted, *values.shape[1 + len(axes) :]), padding)
        whole[(slice(None), *(slice(n) for n in values.shape[1 : 1 + len(axes)]))] = values
        by_type.append(whole)
    assert own is not None  # every function has sweeps
    names = ["patch_type", *axes]
    index_df = make_df_from_ranges([len(sweeps), *wanted], names)
    types = [name for name, *_ in sweeps]
    return request.result(torch.stack(by_type, dim=1), own, names, index_df, types)
