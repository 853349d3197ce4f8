"""TransformerLens's patching functions, exact and faster: change one import.

``from interp.patching import get_act_patch_resid_pre`` takes the arguments and gives the results of
``transformer_lens.patching.get_act_patch_resid_pre``: a tensor ``[layer, pos]``, or a
``PatchingResult`` with ``reduce="none"``, ``baseline=True`` or several metrics.

A metric gets logits of full shape ``[batch, pos, d_vocab]``. Which rows it reads is found by one
backward pass from its value on the corrupted run; only they are computed, the others hold NaN. So a
metric that reads more rows in a patched run (a maximum over positions) says so itself. Two cells are
computed again in full besides; where any of that goes wrong, or the metric has no gradient, every row
of every cell is computed.

One difference is meant: TransformerLens 4.3 writes ``resid_mid`` where only the MLP sees it; here the
residual stream itself is set.

Example::

    _, cache = model.run_with_cache(clean_tokens)
    effects = get_act_patch_resid_pre(model, corrupted_tokens, cache, logit_difference)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.patching import PatchingResult, make_df_from_ranges

from interp.errors import InterpError
from interp.patching.cells import Cell, Patch, PatchSite
from interp.patching.hooked import hook_of, run_cell
from interp.patching.patched import MAX_BYTES, PatchedRuns
from interp.patching.plan import require_site
from interp.stats import rng

LogitsMetric: TypeAlias = Callable[[Tensor], Any]
"""``metric(logits [batch, pos, d_vocab])``: a scalar, or ``[batch]`` unless ``reduce="scalar"``."""

Reduce = Literal["scalar", "mean", "none"]
_CHECKED_CELLS = 2
_SAME = 4 * torch.finfo(torch.float32).eps
"""Two activations closer than this, of their norm, are the same: the patch changes nothing."""


_Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Call:
    """One call: its arguments, the corrupted run, and the cells that change something.

    ``cells``: for each index of the grid the cells of the examples (one run each).
    """

    model: TransformerBridge
    tokens: Int[Tensor, "batch pos"]
    metrics: dict[str, LogitsMetric]
    per_example: bool
    sizes: tuple[int, ...]
    cells: dict[_Index, list[Cell]]
    logits: Float[Tensor, "batch pos d_vocab"]
    max_bytes: int

    def evaluate(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "metric ..."]:
        """Every metric on full-shape logits, ``[metric, batch?]``."""
        wanted = logits.shape[:1] if self.per_example else ()
        rows = []
        for name, metric in self.metrics.items():
            value = torch.as_tensor(metric(logits)).detach()
            if tuple(value.shape) != tuple(wanted):
                what = f"{list(wanted)}, one per example," if wanted else "a scalar"
                raise InterpError(
                    f"metric {name!r} gave shape {list(value.shape)}, must give {what} under this "
                    "reduce"
                )
            rows.append(value.float())
        return torch.stack(rows)


@torch.no_grad()
def _get_act_patch(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: ActivationCache | Mapping[str, Tensor],
    patching_metric: LogitsMetric | Mapping[str, LogitsMetric],
    *,
    site: PatchSite,
    axes: tuple[str, ...],
    return_index_df: bool = False,
    reduce: Reduce = "scalar",
    baseline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Tensor | tuple[Tensor, pd.DataFrame] | PatchingResult:
    several = isinstance(patching_metric, Mapping)
    metrics = dict(patching_metric) if isinstance(patching_metric, Mapping) else {
        "metric": patching_metric
    }  # fmt: skip
    wants_result = several or reduce == "none" or baseline
    if reduce not in ("scalar", "mean", "none"):
        raise InterpError(f"reduce is {reduce!r}: choose scalar, mean or none")
    if not metrics:
        raise InterpError("no metrics: name at least one")
    if wants_result and return_index_df:
        raise InterpError("return_index_df goes with a tensor: a PatchingResult has index_df")
    require_site(model, site)
    tokens = corrupted_tokens.long().to(model.cfg.device)
    known = {"layer": model.cfg.n_layers, "pos": tokens.shape[1], "head": model.cfg.n_heads}
    sizes = tuple(int(known[axis]) for axis in axes)
    changed = _changed(model, tokens, clean_cache, site, with_heads="head" in axes)
    cells = {
        index: cells
        for index in itertools.product(*map(range, sizes))
        if (cells := list(_cells(site, dict(zip(axes, index, strict=True)), clean_cache, changed)))
    }
    logits = model(tokens).float()
    call = _Call(model, tokens, metrics, reduce != "scalar", sizes, cells, logits, max_bytes)
    values, own = _values(call, progress), call.evaluate(logits)
    if reduce == "mean":
        values, own = values.mean(-1), own.mean(-1)
    keep = slice(None) if several else 0
    index_df = make_df_from_ranges(sizes, list(axes))
    if not wants_result:
        return (values[0], index_df) if return_index_df else values[0]
    return PatchingResult(
        values=values[keep],
        axis_names=list(axes),
        index_df=index_df,
        metric_names=list(metrics),
        reduced=reduce != "none",
        baseline=own[keep] if baseline else None,
        has_metric_axis=several,
    )


get_act_patch_resid_pre = partial(_get_act_patch, site="resid_pre", axes=("layer", "pos"))
get_act_patch_resid_mid = partial(_get_act_patch, site="resid_mid", axes=("layer", "pos"))
get_act_patch_attn_out = partial(_get_act_patch, site="attn_out", axes=("layer", "pos"))
get_act_patch_mlp_out = partial(_get_act_patch, site="mlp_out", axes=("layer", "pos"))
get_act_patch_attn_head_out_all_pos = partial(_get_act_patch, site="z", axes=("layer", "head"))
get_act_patch_attn_head_out_by_pos = partial(
    _get_act_patch, site="z", axes=("layer", "pos", "head")
)


def _changed(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    cache: Any,
    site: PatchSite,
    *,
    with_heads: bool,
) -> list[Bool[Tensor, "batch pos head"]]:
    """Per layer, where the clean activation differs from the corrupted run's own.

    One head where the site has none. The rest of a sweep is zero and is not run.
    """
    found: list[Tensor] = []

    def compare(activation: Tensor, hook: Any, name: str) -> None:
        try:
            clean = cache[name].to(activation)
        except KeyError as error:
            raise InterpError(
                f"the clean cache has no {name}: cache it in the clean run"
            ) from error
        if clean.shape != activation.shape:
            raise InterpError(
                f"{name} is {list(clean.shape)} in the clean cache and {list(activation.shape)} in "
                "the corrupted run: give both runs the same shape"
            )
        rows, own = clean - activation, activation
        if not with_heads:
            rows, own = rows.flatten(2)[:, :, None], own.flatten(2)[:, :, None]
        found.append((rows.norm(dim=-1) > _SAME * own.norm(dim=-1)).cpu())

    names = [hook_of(site, layer) for layer in range(int(model.cfg.n_layers))]
    with model.hooks(fwd_hooks=[(name, partial(compare, name=name)) for name in names]):
        model(tokens)
    return found


def _cells(
    site: PatchSite, place: dict[str, int], cache: Any, changed: Sequence[Tensor]
) -> Iterator[Cell]:
    """The cell of every example that one index of the grid changes."""
    layer, heads = place["layer"], (place["head"],) if "head" in place else ()
    where = changed[layer][:, :, place.get("head", 0)]
    for example, row in enumerate(where):
        positions = row.nonzero()[:, 0]
        if "pos" in place:
            positions = positions[positions == place["pos"]]
        if len(positions):
            values = cache[hook_of(site, layer)][example]
            values = values[positions.to(values.device)]
            patch = Patch(
                layer, site, positions, values[:, list(heads)] if heads else values, heads
            )
            yield Cell(example, (patch,))


def _values(call: _Call, progress: bool) -> Float[Tensor, "metric ..."]:
    """Metrics of every cell, ``[metric, *axes, batch?]``."""
    every_row = [torch.arange(call.tokens.shape[1])] * len(call.tokens)
    rows = _rows_read(call)
    if rows is not None:
        try:
            values = _values_of_rows(call, rows, progress)
            if _holds(call, values):
                return values
        except InterpError:
            raise
        except Exception:  # a metric that does not take NaN has read a row that is not computed
            pass
    return _values_of_rows(call, every_row, progress)


def _values_of_rows(
    call: _Call, rows: Sequence[Tensor], progress: bool
) -> Float[Tensor, "metric ..."]:
    """The same, with logits computed at the named rows of every example and NaN at the others."""
    runs = PatchedRuns(call.model, list(call.tokens.cpu()), rows, max_bytes=call.max_bytes)
    own = call.evaluate(call.logits)
    ones = [1] * len(call.sizes)
    values = own.view(len(own), *ones, *own.shape[1:]).repeat(1, *call.sizes, *[1] * (own.ndim - 1))
    unread = torch.full_like(call.logits, float("nan"))
    for example, where in enumerate(rows):
        unread[example, where] = 0.0
    buffer = call.logits + unread
    for slab in tqdm(list(_slabs(call, rows)), desc="patching", disable=not progress):
        cells = [(index, cell) for index in slab for cell in call.cells[index]]
        waiting: dict[_Index, dict[int, Tensor]] = {}

        def enter(
            numbers: list[int],
            logits: Tensor,
            cells: list[tuple[_Index, Cell]] = cells,
            waiting: dict[_Index, dict[int, Tensor]] = waiting,
        ) -> None:
            for number, row in zip(numbers, logits, strict=True):
                index, cell = cells[number]
                found = waiting.setdefault(index, {})
                found[cell.run] = row
                if len(found) == len(call.cells[index]):
                    for example, where in enumerate(rows):
                        own_rows = call.logits[example, where]
                        buffer[example, where] = found.get(example, own_rows)
                    for grid, value in zip(values, call.evaluate(buffer), strict=True):
                        grid[index] = value
                    del waiting[index]

        runs.run([cell for _, cell in cells], enter)
    return values


def _slabs(call: _Call, rows: Sequence[Tensor]) -> Iterator[list[_Index]]:
    """Indices position by position, in groups whose logits may wait for each other in memory.

    A metric needs all examples of a cell at once; one example never waits.
    """
    order = sorted(call.cells, key=lambda index: call.cells[index][0].start)
    held = 4 * int(call.model.cfg.d_vocab) * sum(len(row) for row in rows)
    size = len(order) if len(rows) == 1 else max(1, call.max_bytes // (4 * held))
    for k in range(0, len(order), max(1, size)):
        yield order[k : k + size]


def _rows_read(call: _Call) -> list[Tensor] | None:
    """For each example the rows that some metric's gradient reaches; None where there is none."""
    reached = torch.zeros(call.logits.shape[:2], dtype=torch.bool)
    with torch.enable_grad():
        for metric in call.metrics.values():
            logits = call.logits.detach().clone().requires_grad_(True)
            try:
                value = torch.as_tensor(metric(logits))
                (gradient,) = torch.autograd.grad(value.sum(), logits)
            except RuntimeError:  # an accuracy, a metric that detaches, ...
                return None
            reached |= (gradient != 0).any(-1).cpu()  # NaN counts as read
    rows = [row.nonzero()[:, 0] for row in reached]
    return rows if all(len(row) for row in rows) else None


def _holds(call: _Call, values: Float[Tensor, "metric ..."]) -> bool:
    """Whether no cell read NaN, and two cells run in full give what the chosen rows gave."""
    if not call.cells:
        return True
    if not bool(torch.isfinite(values).all()):
        return False
    indices = list(call.cells)
    generator = rng(0, "metrics of full runs")
    picked = generator.choice(len(indices), min(_CHECKED_CELLS, len(indices)), replace=False)
    every_row = torch.arange(call.tokens.shape[1])
    spread = values.flatten(1).amax(1) - values.flatten(1).amin(1)
    for index in (indices[int(k)] for k in picked):
        logits = call.logits.clone()
        for cell in call.cells[index]:
            logits[cell.run] = run_cell(call.model, call.tokens[cell.run], cell.patches, every_row)
        full = call.evaluate(logits).view(len(call.metrics), -1)
        here = torch.stack([grid[index] for grid in values]).view(len(call.metrics), -1)
        allowed = 1e-3 * spread + 1e-5 * full.abs().amax(1)
        if not bool(((full - here).abs().amax(1) <= allowed).all()):
            return False
    return True
