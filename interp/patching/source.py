"""The source run: the activations that a plan copies, and the patches made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.sites import SITES
from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.cells import Part, Patch, as_index
from interp.patching.hooked import hook_of
from interp.patching.plan import PlannedCell, SweepPlan
from interp.patching.sites import PatchSite


@dataclass(frozen=True, eq=False)
class SourceRun:
    """Activations of one site at the positions that a plan copies, and the logits that are read.

    ``states[layer]``: ``[pos, ...]``, row ``row_of[p]`` for position p. ``logits``: of the last
    position; where a metric reads whole options, of every position that it reads.
    """

    states: dict[int, Tensor]
    row_of: dict[int, int]
    logits: Float[Tensor, "row d_vocab"]

    def at(self, layer: int, positions: Int[Tensor, " pos"]) -> Tensor:
        """The activations at some positions."""
        states = self.states[layer]
        return states[as_index([self.row_of[p] for p in positions.tolist()], states.device)]


@torch.no_grad()
def read_sources(
    model: TransformerBridge, ids: Int[Tensor, " pos"], plans: Sequence[SweepPlan], pair: int
) -> dict[PatchSite, SourceRun]:
    """Run the source of one pair once and keep, by site, what the plans copy from it."""
    read = {plan.site: _Reader(plan, pair) for plan in plans}
    hooks = [hook for reader in read.values() for hook in reader.hooks()]
    reset_rope(model)
    with model.hooks(fwd_hooks=hooks):
        logits = wrapped_logits(model, ids[None].to(model.cfg.device), logits_to_keep=1)[0].float()
    for site, reader in read.items():
        for layer, values in reader.states.items():
            require_finite(values, hook_of(site, layer), f"the source of pair {pair}")
    return {site: SourceRun(reader.states, reader.row_of, logits) for site, reader in read.items()}


class _Reader:
    """Keeps the activations of one site that a plan copies from one pair's source."""

    def __init__(self, plan: SweepPlan, pair: int) -> None:
        cells = [cell for cell in plan.to_run if cell.pair == pair]
        positions = sorted({int(p) for cell in cells for p in cell.source})
        self._site, self._positions = plan.site, positions
        self._layers = sorted({layer for cell in cells for layer in cell.layers})
        self.row_of = {p: k for k, p in enumerate(positions)}
        self.states: dict[int, Tensor] = {}

    def hooks(self) -> list[tuple[str, Callable[..., None]]]:
        """One for every layer that is copied."""
        return [(hook_of(self._site, layer), self._keep(layer)) for layer in self._layers]

    def _keep(self, layer: int) -> Callable[..., None]:
        def keep(activation: Tensor, hook: Any) -> None:
            rows = activation[0].transpose(0, 1) if self._site == "pattern" else activation[0]
            # a copy: a view would keep the positions that are not copied
            self.states[layer] = rows[as_index(self._positions, rows.device)].clone()

        return keep


def patches_of(
    site: PatchSite, cell: PlannedCell, source: SourceRun, part: Part | None
) -> tuple[Patch, ...]:
    """The patches of a cell, one per layer of its window."""
    patches = []
    for layer in cell.layers:
        values = source.at(layer, cell.source)
        if cell.heads:
            values = values[:, as_index(cell.heads, values.device)]
        patches.append(
            Patch(
                layer,
                site,
                cell.destination,
                values,
                cell.heads,
                None if part is None else part.vectors[layer],
                part is not None and part.kind == "orthogonal",
            )
        )
    return tuple(patches)


def require_part(model: TransformerBridge, site: str, part: Part | None) -> None:
    """Refuse a part whose vectors do not fit the model or the site.

    Raises:
        InterpError: a site with heads, another shape, or vectors that are not of unit length.
    """
    if part is None:
        return
    if site not in SITES:
        raise InterpError(f"a part along a direction is for {', '.join(SITES)}, not {site}")
    wanted = (int(model.cfg.n_layers), int(model.cfg.d_model))
    if tuple(part.vectors.shape) != wanted:
        raise InterpError(
            f"a part needs one vector per layer, {list(wanted)}, not {list(part.vectors.shape)}"
        )
    off = (part.vectors.float().norm(dim=-1) - 1).abs().max()
    if not bool(off <= 1e-4):
        raise InterpError(f"a part needs unit vectors: a norm is off by {float(off):.1e}")
