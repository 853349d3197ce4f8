"""How large a patch is: the change it makes, next to the state that it changes.

A cell may act because much was written there, not because something of meaning was. Two cells of equal
effect and unequal dose are not alike, and an effect that needs a dose far beyond what prompts of this
kind differ by says little of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.grid import Grid
from interp.patching.hooked import hook_of
from interp.patching.plan import PlannedCell, plan_sweep
from interp.patching.sites import PatchSite
from interp.prompts import PromptPair


@torch.no_grad()
def dose(
    model: TransformerBridge, pairs: PromptPair | Sequence[PromptPair], grid: Grid
) -> Float64[np.ndarray, "*cells pair"]:
    """Norm of what each cell of a sweep changes, relative to the norm of what was there.

    Euclidean norms over all layers, positions and heads of the cell: |source - destination| /
    |destination|. 0: the patch changes nothing. NaN: nothing is aligned there. Of a span that is patched
    in part, between prompts of unequal length, it is the dose at the tokens that are patched: how many
    they are stands in the ``tokens`` of the plan and of the sweep of the same arguments.

    Args:
        model: a bridge in evaluation mode.
        pairs: those of the sweep.
        grid: that of the sweep.

    Raises:
        InterpError: attention patterns, and what :func:`interp.patching.plan_sweep` refuses.

    Example:
        >>> sizes = dose(model, pairs, Grid(site="resid_pre"))          # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    plan = plan_sweep(model, pairs, grid=grid)
    if plan.site == "pattern":
        raise InterpError("dose: patterns are no vectors; choose another site")
    found = np.full((*plan.shape, len(pairs)), np.nan)
    layers = sorted({layer for cell in plan.cells for layer in cell.layers})
    for number, pair in enumerate(pairs):
        source, destination = (
            _activations(model, prompt.ids, plan.site, layers)
            for prompt in (pair.source, pair.destination)
        )
        for cell in plan.cells:
            if cell.pair == number and cell.state != "empty":
                found[(*cell.index, number)] = _relative(cell, source, destination)
    return found


def _activations(
    model: TransformerBridge, ids: Int[Tensor, " pos"], site: PatchSite, layers: Sequence[int]
) -> dict[int, Tensor]:
    """The site of every layer, ``[pos, ...]``."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> tuple[str, object]:
        def hook(activation: Tensor, hook: object) -> None:
            kept[layer] = activation[0].float().cpu()

        return hook_of(site, layer), hook

    reset_rope(model)
    with model.hooks(fwd_hooks=[keep(layer) for layer in layers]):
        wrapped_logits(model, ids[None].to(model.cfg.device), logits_to_keep=1)
    return kept


def _relative(
    cell: PlannedCell, source: dict[int, Tensor], destination: dict[int, Tensor]
) -> float:
    changed, there = 0.0, 0.0
    for layer in cell.layers:
        old, new = destination[layer][cell.destination], source[layer][cell.source]
        if old.ndim == 3:
            heads = list(cell.heads)
            old, new = old[:, heads], new[:, heads]
        changed += float((new - old).double().square().sum())
        there += float(old.double().square().sum())
    return (changed / there) ** 0.5 if there else float("nan")
