"""What TransformerLens's setters copy, as cells of the exact engine.

A setter reads an index by place: ``layer_pos_head_vector_patch_setter`` takes ``(layer, pos, head)``
whatever the columns are called. :data:`SETTERS` says what the places of each one mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.cells import Cell, Patch, PatchSite
from interp.patching.drop_in.metric_sweep import PatchedRow
from interp.patching.hooked import hook_of, supports_hook
from interp.patching.plan import n_heads, require_site
from interp.patching.sites import KEY_VALUE_SITES, SweepSite

Setter: TypeAlias = Callable[..., Any]
"""``setter(corrupted_activation, index, clean_activation)``: the patched activation."""

Cache: TypeAlias = ActivationCache | Mapping[str, Tensor]

SETTERS: dict[Setter, tuple[str, ...]] = {
    upstream.layer_pos_patch_setter: ("layer", "pos"),
    upstream.layer_pos_head_vector_patch_setter: ("layer", "pos", "head"),
    upstream.layer_head_vector_patch_setter: ("layer", "head"),
    upstream.layer_head_pattern_patch_setter: ("layer", "head"),
    upstream.layer_head_pos_pattern_patch_setter: ("layer", "head", "pos"),
    upstream.layer_head_dest_src_pos_pattern_patch_setter: ("layer", "head", "pos", "key"),
}
"""TransformerLens's setters and what each place of their index is (``pos``: the one written to)."""

_OF_PATTERNS = tuple(setter for setter in SETTERS if "pattern" in setter.__name__)
_WITH_HEADS = ("z", "q", *KEY_VALUE_SITES)
SAME = 4 * torch.finfo(torch.float32).eps
"""Two activations closer than this, of their norm, are the same: the patch changes nothing."""


def engine_places(setter: Setter, activation_name: str) -> tuple[str, ...] | None:
    """The places of a setter's index where the engine runs it at this activation; None elsewhere."""
    if setter not in SETTERS or activation_name not in get_args(SweepSite):
        return None
    places = SETTERS[setter]
    fits = (
        activation_name == "pattern"
        if setter in _OF_PATTERNS
        else activation_name != "pattern"
        and ("head" not in places or activation_name in _WITH_HEADS)
    )
    return places if fits else None


@torch.no_grad()
def patched_rows(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    cache: Cache,
    site: PatchSite,
    places: Sequence[str],
    index: Int[np.ndarray, "row place"],
) -> list[PatchedRow]:
    """The rows of the index at which the clean run differs from the corrupted one.

    Raises:
        InterpError: a site whose hook does not hold what its name says, an index out of its range, an
            activation that the cache lacks or that has another shape there.
    """
    require_site(model, site)
    if not supports_hook(model, site):
        raise InterpError(
            f"{site} of {type(model.original_model).__name__}: its hook shows what attention has used "
            f"and TransformerLens cannot set it; use interp.sweep(site={site!r})"
        )
    index = _in_range(model, tokens, site, places, index)
    layers = sorted(set(index[:, places.index("layer")].tolist()))
    changes = _changes(model, tokens, cache, site, layers, places)
    found = []
    for number, row in enumerate(index.tolist()):
        place = dict(zip(places, row, strict=True))
        where = changes[place["layer"]].positions(place)
        if where:
            start = min(int(positions[0]) for positions in where.values())
            build = partial(changes[place["layer"]].cells, place, where)
            n_bytes = sum(map(len, where.values())) * changes[place["layer"]].row_bytes
            found.append(PatchedRow(number, start, n_bytes, build))
    return found


@dataclass(frozen=True, eq=False)
class _Changes:
    """The clean activation of one layer, and where it differs from the corrupted run's own.

    ``differs`` has one head where none is chosen, and keys where one is. ``own``: the corrupted run's
    pattern, of which a single entry is set.
    """

    site: PatchSite
    clean: Tensor
    differs: Bool[np.ndarray, "batch pos head *key"]
    own: Tensor | None
    n_heads: int

    @property
    def row_bytes(self) -> int:
        """Bytes of what is set at one position, at most."""
        row = self.clean[0, 0, 0] if self.site == "pattern" else self.clean[0, 0]
        return row.numel() * self.clean.element_size()

    def positions(self, place: Mapping[str, int]) -> dict[int, Int[np.ndarray, " pos"]]:
        """By example, the positions at which this place of the index changes something."""
        differs = self.differs[:, :, place.get("head", 0)]
        if "key" in place:
            differs = differs[..., place["key"]]
        if "pos" in place:
            at = np.array([place["pos"]])
            return {int(k): at for k in np.flatnonzero(differs[:, place["pos"]])}
        every = {k: np.flatnonzero(row) for k, row in enumerate(differs)}
        return {k: positions for k, positions in every.items() if len(positions)}

    def cells(self, place: Mapping[str, int], where: Mapping[int, np.ndarray]) -> list[Cell]:
        """One cell per example: this place of the index set to its clean activation."""
        heads = (place["head"],) if "head" in place else tuple(range(self.n_heads))
        return [
            Cell(example, (Patch(place["layer"], self.site, torch.from_numpy(at), values, heads),))
            for example, at in where.items()
            for values in [self._values(example, torch.from_numpy(at), place)]
        ]

    def _values(
        self, example: int, positions: Int[Tensor, " pos"], place: Mapping[str, int]
    ) -> Tensor:
        at = positions.to(self.clean.device)
        if self.site != "pattern":
            values = self.clean[example, at]
            return values[:, place["head"], None] if "head" in place else values
        rows = self.clean[example, place["head"], at]
        if self.own is not None:
            clean, rows = rows, self.own[example, place["head"], at]
            rows[:, place["key"]] = clean[:, place["key"]]
        return rows[:, None]


def _changes(
    model: TransformerBridge,
    tokens: Tensor,
    cache: Cache,
    site: PatchSite,
    layers: Sequence[int],
    places: Sequence[str],
) -> dict[int, _Changes]:
    """What one forward of the corrupted batch shows to differ, by layer."""
    found: dict[int, _Changes] = {}
    heads = n_heads(model, site) if site in _WITH_HEADS else 0

    def compare(activation: Tensor, hook: Any, layer: int) -> None:
        clean = _clean(cache, hook_of(site, layer), activation)
        differs = _differs(clean, activation, site, places).cpu().numpy()
        own = activation.clone() if "key" in places else None
        found[layer] = _Changes(site, clean, differs, own, heads)

    hooks = [(hook_of(site, layer), partial(compare, layer=layer)) for layer in layers]
    with model.hooks(fwd_hooks=hooks):
        model(tokens)
    return found


def _clean(cache: Cache, name: str, activation: Tensor) -> Tensor:
    """The cached activation; one clean prompt serves all corrupted ones, as with TransformerLens."""
    try:
        clean = cache[name].to(activation)
    except KeyError as error:
        raise InterpError(f"the clean cache has no {name}: cache it in the clean run") from error
    if clean.shape == (1, *activation.shape[1:]):
        clean = clean.expand_as(activation)
    if clean.shape != activation.shape:
        raise InterpError(
            f"{name} is {list(clean.shape)} in the clean cache and {list(activation.shape)} in "
            "the corrupted run: give both runs the same shape"
        )
    return clean


def _differs(clean: Tensor, own: Tensor, site: str, places: Sequence[str]) -> Bool[Tensor, ...]:
    """Where a row differs, ``[batch, pos, head]``; ``[batch, pos, head, key]`` for single entries."""
    if site == "pattern":
        clean, own = clean.transpose(1, 2), own.transpose(1, 2)
    elif "head" not in places:
        clean, own = clean.flatten(2)[:, :, None], own.flatten(2)[:, :, None]
    if "key" in places:
        return (clean - own).abs() > SAME * own.norm(dim=-1, keepdim=True)
    return (clean - own).norm(dim=-1) > SAME * own.norm(dim=-1)


def _in_range(
    model: TransformerBridge,
    tokens: Tensor,
    site: str,
    places: Sequence[str],
    index: Int[np.ndarray, "row place"],
) -> Int[np.ndarray, "row place"]:
    """The index with positions and heads counted from the end made plain."""
    n_pos = tokens.shape[1]
    heads = n_heads(model, site)
    sizes = {"layer": int(model.cfg.n_layers), "pos": n_pos, "head": heads, "key": n_pos}
    for k, place in enumerate(places):
        lowest = 0 if place == "layer" else -sizes[place]
        outside = (index[:, k] < lowest) | (index[:, k] >= sizes[place])
        if outside.any():
            raise InterpError(
                f"{place} {index[outside, k][0]} of the index is not one of the {sizes[place]} that "
                f"{site} has"
            )
    return index % np.array([sizes[place] for place in places])
