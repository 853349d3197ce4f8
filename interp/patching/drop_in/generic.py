"""``generic_activation_patch`` and the functions that are cases of it.

The ``get_act_patch_*`` functions take what TransformerLens's take: ``(model, corrupted_tokens,
clean_cache, patching_metric)``, and by keyword all that :func:`generic_activation_patch` has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, cast, overload

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.patching import PatchingResult, make_df_from_ranges
from transformer_lens.tools.analysis._model_state import require_eval_mode

from interp.errors import InterpError, first_line
from interp.patching.drop_in.index_rows import (
    SETTERS,
    Cache,
    Setter,
    engine_places,
    patched_rows,
)
from interp.patching.drop_in.metric_sweep import LogitsMetric, MetricSweep, Reduce, Request
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import n_heads
from interp.patching.sites import PatchSite


@overload
def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: LogitsMetric | Mapping[str, LogitsMetric],
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: bool = False,
    *,
    reduce: Literal["none"],
    baseline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> PatchingResult: ...


@overload
def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: LogitsMetric | Mapping[str, LogitsMetric],
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: bool = False,
    *,
    reduce: Reduce = "scalar",
    baseline: Literal[True],
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> PatchingResult: ...


@overload
def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: Mapping[str, LogitsMetric],
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: bool = False,
    *,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> PatchingResult: ...


@overload
def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: LogitsMetric,
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    *,
    return_index_df: Literal[True],
    reduce: Literal["scalar", "mean"] = "scalar",
    baseline: Literal[False] = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> tuple[Tensor, pd.DataFrame]: ...


@overload
def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: LogitsMetric,
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: Literal[False] = False,
    *,
    reduce: Literal["scalar", "mean"] = "scalar",
    baseline: Literal[False] = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor: ...


def generic_activation_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: LogitsMetric | Mapping[str, LogitsMetric],
    patch_setter: Setter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: bool = False,
    *,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor | tuple[Tensor, pd.DataFrame] | PatchingResult:
    """Patch a clean activation into the corrupted run at every index, and measure each run.

    On the exact engine where ``patch_setter`` is one of TransformerLens's and ``activation_name`` a
    site of :data:`interp.patching.sites.SweepSite` of the setter's layout; everything else is handed to
    TransformerLens's own function, one forward per index, as it is.

    Args:
        model: a bridge in evaluation mode.
        corrupted_tokens: the runs that are patched.
        clean_cache: what is copied: the cache of the clean run, of as many prompts or of one.
        patching_metric: from logits ``[batch, pos, d_vocab]`` to a scalar, or to ``[batch]`` unless
            ``reduce="scalar"``; or several by name.
        patch_setter: ``setter(corrupted_activation, index, clean_activation)``.
        activation_name: TransformerLens's short name.
        index_axis_names: go over all of these axes, the layer first: ``layer``, ``pos``, ``head``,
            ``head_index``, ``src_pos``, ``dest_pos``. Heads are key/value heads at ``k`` and ``v``.
        index_df: or these indices alone, a row each, in the setter's order.
        return_index_df: give the indices beside the tensor.
        reduce: ``scalar``; ``mean`` over the examples of a ``[batch]`` metric; ``none`` keeps them.
        baseline: also the metric of the corrupted run as it is.
        max_bytes: memory budget of the engine.
        progress: show a bar (TransformerLens's own function always does).

    Returns:
        The metric of every patched run, in its own unit: ``[*axes]``, or ``[row]`` with ``index_df``;
        with ``reduce="none"``, ``baseline=True`` or several metrics a ``PatchingResult``.

    Raises:
        InterpError: a ``ValueError``, as TransformerLens's: an unknown reduction, axis or index, a
            metric of another shape, a model in training mode, an activation that the cache lacks, a
            site whose hook does not hold what its name says or can only be read.
    """
    request = Request.of(patching_metric, reduce, baseline, return_index_df)
    if (index_df is None) == (index_axis_names is None):
        raise InterpError(
            "name the axes to go over (index_axis_names) or give index_df, one of them"
        )
    places = engine_places(patch_setter, activation_name)
    if places is None:
        return cast(
            "Tensor | tuple[Tensor, pd.DataFrame] | PatchingResult",
            upstream.generic_activation_patch(
                model,
                corrupted_tokens,
                clean_cache,
                patching_metric,
                patch_setter,
                activation_name,
                index_axis_names,
                index_df,
                return_index_df,
                reduce=reduce,
                baseline=baseline,
            ),
        )
    axes = list(index_axis_names or ())
    sizes = _sizes(model, corrupted_tokens, activation_name, axes)
    index_df = make_df_from_ranges(sizes, axes) if index_df is None else index_df
    values, own = sweep_values(
        model,
        corrupted_tokens,
        clean_cache,
        request,
        patch_setter,
        cast("PatchSite", activation_name),
        index_df,
        max_bytes=max_bytes,
        progress=progress,
    )
    if axes:
        values = values.unflatten(1, sizes)
    result = request.result(values, own, axes, index_df)
    return (result, index_df) if return_index_df and isinstance(result, Tensor) else result


@torch.no_grad()
def sweep_values(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    request: Request,
    patch_setter: Setter,
    site: PatchSite,
    index_df: pd.DataFrame,
    *,
    max_bytes: int,
    progress: bool,
) -> tuple[Float[Tensor, "metric row ..."], Float[Tensor, "metric ..."]]:
    """A sweep on the engine, ``[metric, row, batch?]``, and the corrupted run, ``[metric, batch?]``."""
    require_evaluation_mode(model)
    places, index = SETTERS[patch_setter], index_df.to_numpy()
    if index.shape[1] != len(places) or not np.issubdtype(index.dtype, np.integer):
        raise InterpError(
            f"{patch_setter.__name__} takes indices of {len(places)} whole numbers ("
            f"{', '.join(places)}); these have {index.shape[1]} of type {index.dtype}"
        )
    tokens = corrupted_tokens.long().to(model.cfg.device)
    rows = patched_rows(model, tokens, clean_cache, site, places, index)
    logits = model(tokens).float()
    sweep = MetricSweep(model, tokens, request, len(index), rows, logits, max_bytes)
    return sweep.run(progress=progress), sweep.evaluate(logits)


def require_evaluation_mode(model: TransformerBridge) -> None:
    """Refuse a model with a module in training mode.

    Raises:
        InterpError: names the module.
    """
    try:
        require_eval_mode(model, operation="activation patching")
    except ValueError as error:
        raise InterpError(first_line(error)) from error


def _sizes(
    model: TransformerBridge, tokens: Tensor, activation_name: str, axes: Sequence[str]
) -> tuple[int, ...]:
    n_pos, heads = int(tokens.shape[-1]), n_heads(model, activation_name)
    known = {"layer": int(model.cfg.n_layers), "head": heads, "head_index": heads}
    known |= {"pos": n_pos, "src_pos": n_pos, "dest_pos": n_pos}
    unknown = [axis for axis in axes if axis not in known]
    if unknown:
        raise InterpError(f"no axis {unknown[0]!r}; known: {', '.join(known)}")
    return tuple(known[axis] for axis in axes)


_by_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_pos_patch_setter,
    index_axis_names=("layer", "pos"),
)
_head_by_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_pos_head_vector_patch_setter,
    index_axis_names=("layer", "pos", "head"),
)
_head_all_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_head_vector_patch_setter,
    index_axis_names=("layer", "head"),
)

get_act_patch_resid_pre = partial(_by_pos, activation_name="resid_pre")
"""The residual stream before every block, ``[layer, pos]``."""

get_act_patch_resid_mid = partial(_by_pos, activation_name="resid_mid")
"""The residual stream between attention and MLP, ``[layer, pos]``; set for all that read it."""

get_act_patch_attn_out = partial(_by_pos, activation_name="attn_out")
"""What attention adds to the residual stream, ``[layer, pos]``."""

get_act_patch_mlp_out = partial(_by_pos, activation_name="mlp_out")
"""What the MLP adds to the residual stream, ``[layer, pos]``."""

get_act_patch_attn_head_out_by_pos = partial(_head_by_pos, activation_name="z")
"""The output of every head (``z``), ``[layer, pos, head]``."""

get_act_patch_attn_head_q_by_pos = partial(_head_by_pos, activation_name="q")
"""The query of every head, before rotation and head norm, ``[layer, pos, head]``."""

get_act_patch_attn_head_k_by_pos = partial(_head_by_pos, activation_name="k")
"""The key of every key/value head, before rotation and head norm, ``[layer, pos, head]``."""

get_act_patch_attn_head_v_by_pos = partial(_head_by_pos, activation_name="v")
"""The value of every key/value head, ``[layer, pos, head]``."""

get_act_patch_attn_head_out_all_pos = partial(_head_all_pos, activation_name="z")
"""The output of every head (``z``) at all positions, ``[layer, head]``."""

get_act_patch_attn_head_q_all_pos = partial(_head_all_pos, activation_name="q")
"""The queries of every head at all positions, ``[layer, head]``."""

get_act_patch_attn_head_k_all_pos = partial(_head_all_pos, activation_name="k")
"""The keys of every key/value head at all positions, ``[layer, head]``."""

get_act_patch_attn_head_v_all_pos = partial(_head_all_pos, activation_name="v")
"""The values of every key/value head at all positions, ``[layer, head]``."""

get_act_patch_attn_head_pattern_all_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_head_pattern_patch_setter,
    activation_name="pattern",
    index_axis_names=("layer", "head_index"),
)
"""The attention pattern of every head, ``[layer, head_index]``."""

get_act_patch_attn_head_pattern_by_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_head_pos_pattern_patch_setter,
    activation_name="pattern",
    index_axis_names=("layer", "head_index", "dest_pos"),
)
"""One query's row of every head's attention pattern, ``[layer, head_index, dest_pos]``."""

get_act_patch_attn_head_pattern_dest_src_pos = partial(
    generic_activation_patch,
    patch_setter=upstream.layer_head_dest_src_pos_pattern_patch_setter,
    activation_name="pattern",
    index_axis_names=("layer", "head_index", "dest_pos", "src_pos"),
)
"""One entry of every head's attention pattern, ``[layer, head_index, dest_pos, src_pos]``; the row is
not normalised again."""
