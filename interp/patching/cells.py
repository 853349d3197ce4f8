"""Cells: what is set where in one patched run.

A :class:`Patch` sets activations of one site of one layer; a :class:`Cell` is the set of patches of
one patched run. Both are plain data: :mod:`interp.patching.wavefront` runs many cells at once,
:mod:`interp.patching.hooked` runs one at a time through TransformerLens's hooks, and both mean the
same by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.display import short_repr
from interp.patching.sites import SPREADING_SITES, PatchSite


@dataclass(frozen=True, eq=False)
class Part:
    """The part of an activation that a patch sets, per layer along one unit vector.

    ``along``: ``h + v v^T (h_source - h)``; ``orthogonal``: ``h + (I - v v^T)(h_source - h)``; both
    on the current state ``h``. At one layer and all positions, one after the other gives the
    source's activation.
    """

    kind: Literal["along", "orthogonal"]
    vectors: Float[Tensor, "layer d_model"]

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Patch:
    """Set ``site`` of ``layer`` at ``positions`` (ascending) of the destination.

    ``values``: ``[pos, d_model]``; at sites with heads ``[pos, head, d_head]`` for the ``heads``
    named (query heads at ``z`` and ``q``, key/value heads at ``k`` and ``v``); for ``pattern`` the
    rows ``[pos, head, key]`` over all keys; for ``edges`` the same shape, true where an edge goes.
    ``vector`` and ``orthogonal`` restrict the patch to a part (:class:`Part`): along one unit vector,
    or in the subspace of several orthonormal ones ``[k, d_model]``.
    """

    layer: int
    site: PatchSite
    positions: Int[Tensor, " pos"]
    values: Tensor
    heads: tuple[int, ...] = ()
    vector: Float[Tensor, "*k d_model"] | None = None
    orthogonal: bool = False

    __repr__ = short_repr

    def apply(self, current: Tensor) -> Tensor:
        """The new value of ``current``, the activation at the positions (and heads)."""
        values = self.values.to(current)
        if self.vector is None:
            return values
        basis = self.vector.to(current).reshape(-1, current.shape[-1])
        step = values - current
        along = (step @ basis.T) @ basis
        return current + (step - along if self.orthogonal else along)


@dataclass(frozen=True, eq=False)
class Cell:
    """One patched run of destination ``run``: its patches, all from one source."""

    run: int
    patches: tuple[Patch, ...]
    layer: int = field(init=False)
    start: int = field(init=False)
    """First position that any patch sets: earlier ones stay the destination's."""

    def __post_init__(self) -> None:
        positions = torch.cat([patch.positions for patch in self.patches])
        object.__setattr__(self, "layer", min(patch.layer for patch in self.patches))
        object.__setattr__(self, "start", int(positions.min()))

    @property
    def first_patches(self) -> tuple[Patch, ...]:
        """The patches of the first layer."""
        return tuple(patch for patch in self.patches if patch.layer == self.layer)

    @property
    def spreads(self) -> bool:
        """Whether the first layer's patches reach later positions within that layer."""
        return any(patch.site in SPREADING_SITES for patch in self.first_patches)


def as_index(wanted: Sequence[int], device: torch.device) -> slice | Int[Tensor, " _n"]:
    """Indices along an axis: a slice where they follow each other.

    A tensor of indices is copied to the device, and a graphics card waits for each such copy: one per
    cell would be most of a sweep's time there.
    """
    if wanted and list(wanted) == list(range(wanted[0], wanted[0] + len(wanted))):
        return slice(wanted[0], wanted[0] + len(wanted))
    return torch.tensor(wanted, dtype=torch.long, device=device)


def reaches(cell: Cell, positions: Sequence[int], n_layers: int) -> bool:
    """Whether a patched run can differ from its destination at one of the positions."""
    return any(
        site_reaches(p.site, p.layer, p.positions.tolist(), positions, n_layers)
        for p in cell.patches
    )


def site_reaches(
    site: str, layer: int, own: Sequence[int], positions: Sequence[int], n_layers: int
) -> bool:
    """Whether setting a site at its ``own`` positions can change anything at one of the others.

    Causality: a patch changes later positions only, and at the last layer a site that does not
    spread changes its own position only.
    """
    if layer == n_layers - 1 and site not in SPREADING_SITES:
        return bool(set(own) & set(positions))
    return min(own) <= max(positions)
