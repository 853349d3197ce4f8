"""Direct path patching: one head's output into the queries, keys or values of one later head alone.

The destination's copy of the residual stream gets the source's clean minus corrupted write, and every
other reader still sees the corrupted one. What that changes is the destination's query (key, value):
the projection of the norm of that copy. So an edge is a patch of ``q``, ``k`` or ``v`` at one head,
which the exact engine runs; the projections of all heads of a layer are made at once, by the model's
own modules. Where those of the corrupted stream are not the model's own (a block that does more in
between), TransformerLens's function is called for every source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError, first_line
from interp.models.packed import TOLERANCE
from interp.patching.attend import project_heads
from interp.patching.cells import Cell, Patch
from interp.patching.drop_in.generic import require_evaluation_mode
from interp.patching.drop_in.index_rows import SAME, Cache
from interp.patching.drop_in.metric_sweep import LogitsMetric, MetricSweep, PatchedRow, Request
from interp.patching.hooked import hook_of
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import require_site

ForkInput = Literal["q", "k", "v"]
_Head: TypeAlias = tuple[int, int]


def get_act_patch_direct_path(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    corrupted_cache: Cache,
    patching_metric: LogitsMetric,
    src_layer: int,
    src_head: int,
    component: ForkInput = "q",
    verbose: bool = True,
    *,
    padding: float = 0.0,
    max_bytes: int = MAX_BYTES,
) -> Float[Tensor, "n_layers n_heads"]:
    """Patch one head's output into each later head's queries, keys or values alone, at all positions.

    Args:
        model: a bridge in evaluation mode.
        corrupted_tokens: the runs that are patched.
        clean_cache: the clean run's cache; ``blocks.{src_layer}.attn.hook_z`` is read.
        corrupted_cache: the corrupted run's; the same.
        patching_metric: from logits ``[batch, pos, d_vocab]`` to a scalar.
        src_layer: layer of the source head.
        src_head: the source head.
        component: what of the destination reads the source's clean output.
        verbose: show a bar.
        padding: what stands at the layers up to the source's, which no path leads to; ``float("nan")``
            keeps them from passing for measured values.
        max_bytes: memory budget of the engine.

    Returns:
        The metric with the path into head ``(layer, head)`` patched, in its own unit.

    Raises:
        InterpError: a ``ValueError``, as TransformerLens's: a block without attention, a source whose
            output is normalised or scaled before it is added, keys or values of grouped queries, a
            head that the model does not have, a model in training mode.
    """
    values = _direct_paths(
        model, corrupted_tokens, clean_cache, corrupted_cache, patching_metric,
        [(src_layer, src_head)], component, verbose, padding, max_bytes,
    )  # fmt: skip
    return values[0]


def get_act_patch_direct_path_all_sources(
    model: TransformerBridge,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    corrupted_cache: Cache,
    patching_metric: LogitsMetric,
    component: ForkInput = "q",
    verbose: bool = True,
    *,
    padding: float = 0.0,
    max_bytes: int = MAX_BYTES,
) -> Float[Tensor, "n_layers n_heads n_layers n_heads"]:
    """:func:`get_act_patch_direct_path` from every head, ``[src_layer, src_head, layer, head]``."""
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    sources = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    values = _direct_paths(
        model, corrupted_tokens, clean_cache, corrupted_cache, patching_metric,
        sources, component, verbose, padding, max_bytes,
    )  # fmt: skip
    return values.unflatten(0, (n_layers, n_heads))


@torch.no_grad()
def _direct_paths(
    model: TransformerBridge,
    corrupted_tokens: Tensor,
    clean_cache: Cache,
    corrupted_cache: Cache,
    metric: LogitsMetric,
    sources: Sequence[_Head],
    component: ForkInput,
    progress: bool,
    padding: float,
    max_bytes: int,
) -> Float[Tensor, "source n_layers n_heads"]:
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    _refuse(model, sources, component)
    tokens = corrupted_tokens.long().to(model.cfg.device)
    streams = _streams(model, tokens, component, range(min(sources)[0] + 1, n_layers))
    if streams is None:
        by_source = [
            upstream.get_act_patch_direct_path(
                model, tokens, clean_cache, corrupted_cache, metric, *source, component, progress
            )
            for source in sources
        ]
        return _padded(torch.stack(by_source), sources, padding)
    writes = {
        source: _write(model, clean_cache, corrupted_cache, source, tokens) for source in sources
    }

    @lru_cache(maxsize=1)  # the heads of a destination layer follow each other
    def projections(source: _Head, layer: int) -> Float[Tensor, "batch pos head d_head"]:
        return _project(model, layer, component, streams[layer] + writes[source][0])

    rows = []
    for number, source in enumerate(sources):
        differs = writes[source][1]
        where = {k: row.nonzero()[:, 0] for k, row in enumerate(differs) if bool(row.any())}
        if not where:
            continue
        start = min(int(positions[0]) for positions in where.values())
        n_bytes = 4 * int(differs.sum()) * int(model.cfg.d_head)
        for layer in range(source[0] + 1, n_layers):
            for head in range(n_heads):
                build = partial(_cells, projections, source, (layer, head), component, where)
                place = (number * n_layers + layer) * n_heads + head
                rows.append(PatchedRow(place, start, n_bytes, build))
    request = Request.of(metric, "scalar", baseline=False)
    n_rows = len(sources) * n_layers * n_heads
    logits = model(tokens).float()
    sweep = MetricSweep(model, tokens, request, n_rows, rows, logits, max_bytes)
    values = sweep.run(progress=progress)[0].view(len(sources), n_layers, n_heads)
    return _padded(values, sources, padding)


def _padded(values: Tensor, sources: Sequence[_Head], padding: float) -> Tensor:
    """The layers that no path from a source leads to, filled."""
    for number, (layer, _) in enumerate(sources):
        values[number, : layer + 1] = padding
    return values


def _cells(
    projections: Callable[[_Head, int], Tensor],
    source: _Head,
    destination: _Head,
    component: ForkInput,
    where: Mapping[int, Tensor],
) -> list[Cell]:
    """One edge: the destination's projections of what it reads, one cell per example."""
    layer, head = destination
    values = projections(source, layer)[:, :, [head]]
    return [
        Cell(
            example, (Patch(layer, component, at, values[example, at.to(values.device)], (head,)),)
        )
        for example, at in where.items()
    ]


def _refuse(model: TransformerBridge, sources: Sequence[_Head], component: str) -> None:
    """What TransformerLens refuses, in its words, and heads that the model does not have."""
    if component not in get_args(ForkInput):
        raise InterpError(f"component is {component!r}: choose {', '.join(get_args(ForkInput))}")
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    for layer, head in sources:
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise InterpError(
                f"no head {head} at layer {layer}: layers are 0..{n_layers - 1}, heads 0..{n_heads - 1}"
            )
    require_evaluation_mode(model)
    try:
        upstream._check_direct_path_support(model, [layer for layer, _ in sources], component)
    except ValueError as error:
        raise InterpError(first_line(error)) from error
    require_site(model, "z")
    require_site(model, component)


def _write(
    model: TransformerBridge,
    clean_cache: Cache,
    corrupted_cache: Cache,
    source: _Head,
    tokens: Tensor,
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """What the source writes in the clean run minus in the corrupted one, and where that is not 0."""
    layer, head = source
    name = hook_of("z", layer)
    weights: Any = model.blocks[layer].attn
    write = []
    for cache in (clean_cache, corrupted_cache):
        try:
            z = cache[name]
        except KeyError as error:
            raise InterpError(f"a cache has no {name}: cache it in both runs") from error
        if z.shape[1] != tokens.shape[1] or z.shape[0] not in (1, len(tokens)):
            raise InterpError(
                f"{name} is {list(z.shape)} in a cache and the corrupted tokens are "
                f"{list(tokens.shape)}: give both runs the same shape"
            )
        write.append(z[:, :, head].to(weights.W_O) @ weights.W_O[head])
    clean, own = write
    step = (clean - own).expand(len(tokens), -1, -1)
    return step, (step.norm(dim=-1) > SAME * own.norm(dim=-1)).cpu()


def _streams(
    model: TransformerBridge, tokens: Tensor, component: ForkInput, layers: range
) -> dict[int, Float[Tensor, "batch pos d_model"]] | None:
    """What the corrupted batch's blocks read, by layer; None where projections are made of more."""
    found: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any, name: str) -> None:  # hook.name can be another alias
        found[name] = activation.clone()

    names = [hook_of(site, layer) for layer in layers for site in ("resid_pre", component)]
    with model.hooks(fwd_hooks=[(name, partial(keep, name=name)) for name in names]):
        model(tokens)
    for layer in layers:
        own = found[hook_of(component, layer)]
        made = _project(model, layer, component, found[hook_of("resid_pre", layer)])
        if not float((made - own).norm()) <= TOLERANCE.get(own.dtype, 1e-2) * float(own.norm()):
            return None
    return {layer: found[hook_of("resid_pre", layer)] for layer in layers}


def _project(
    model: TransformerBridge,
    layer: int,
    component: ForkInput,
    stream: Float[Tensor, "batch pos d_model"],
) -> Float[Tensor, "batch pos head d_head"]:
    """Queries, keys or values of every head from what a block reads, before rotation and head norm."""
    block: Any = model.blocks[layer]
    rows = project_heads(block.attn, component, block.ln1(stream).flatten(0, 1)[None])
    return rows.unflatten(0, stream.shape[:2])
