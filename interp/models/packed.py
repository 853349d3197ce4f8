"""The model run on a tree of prompts, and the checks that this equals running each prompt alone.

A mask lets every node see exactly its ancestors, position ids count depth in the tree. A tree may
continue the KV cache of a shared prefix (:class:`~interp.models.prefix.CachedPrefix`), which all its
nodes see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.prefix import CachedPrefix, build_cache, prefix_from_cache
from interp.models.tree import PackedPrompts, pack

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far rounding may carry two computations of the same number, relative to its scale."""

_REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)
"""What a model may answer to a mask, positions or a KV cache that it does not take."""
_packs: WeakKeyDictionary[TransformerBridge, bool] = WeakKeyDictionary()
_keeps: WeakKeyDictionary[TransformerBridge, bool] = WeakKeyDictionary()


def forward_alone(
    model: TransformerBridge, packed: PackedPrompts, rows: Tensor, hooks: Sequence[tuple[str, Any]]
) -> Float[Tensor, "row d_vocab"]:
    """Logits at some positions of one prompt, as any forward computes them; on the CPU, float32."""
    device = model.cfg.device
    with model.hooks(fwd_hooks=list(hooks)):
        logits = model.original_model(
            input_ids=packed.ids[None].to(device),
            use_cache=False,
            logits_to_keep=rows.to(device),
        ).logits
    return logits[0].float().cpu()


def forward_packed(
    model: TransformerBridge,
    packed: PackedPrompts,
    rows: Tensor,
    hooks: Sequence[tuple[str, Any]],
    prefix: CachedPrefix | None = None,
    *,
    keep: bool = False,
) -> tuple[Float[Tensor, "row d_vocab"], CachedPrefix | None]:
    """Logits at some nodes of a tree that continues a prefix; on the CPU, float32.

    With ``keep`` the tree must be a single path, and the prefix longer by it comes back.
    """
    device, dtype = model.cfg.device, model.cfg.dtype
    n, before = len(packed.ids), 0 if prefix is None else len(prefix.ids)
    mask = torch.zeros(1, 1, n, before + n, dtype=dtype)
    mask[..., before:].masked_fill_(~packed.mask(), torch.finfo(dtype).min)
    stem = [] if prefix is None else [prefix]
    cache = build_cache(stem, [before] * len(stem)) if stem or keep else None
    with model.hooks(fwd_hooks=list(hooks)):
        logits = model.original_model(
            input_ids=packed.ids[None].to(device),
            attention_mask=mask.to(device),
            position_ids=(before + packed.depth)[None].to(device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=rows.to(device),
        ).logits
    kept = None
    if keep:
        ids = packed.ids if prefix is None else torch.cat([prefix.ids, packed.ids])
        kept = prefix_from_cache(cache, ids)
    return logits[0].float().cpu(), kept


def supports_packing(model: TransformerBridge) -> bool:
    """Whether the packed forward equals separate forwards on this model (checked once)."""
    return is_exact(model, _packs, packing_error)


def supports_cached_prefix(model: TransformerBridge) -> bool:
    """Whether a packed forward on the KV cache of a prefix does so too (checked once)."""
    return is_exact(model, _keeps, cached_prefix_error)


def packing_error(model: TransformerBridge) -> float:
    """Largest |packed - separate| logit over a small tree, relative to the logit range.

    Infinity when the model refuses the mask or the position ids, NaN when a logit is not finite.
    """
    return _error(model, keep=False)


def cached_prefix_error(model: TransformerBridge) -> float:
    """The same where the branches of that tree continue the KV cache of its stem."""
    return _error(model, keep=True)


def attention_window(model: TransformerBridge) -> int:
    """Longest prompt on which every layer attends to all earlier positions."""
    config = model.original_model.config.get_text_config()
    names = ["window_size", "attention_chunk_size"]
    if getattr(config, "use_sliding_window", True):
        names.append("sliding_window")
    windows = [getattr(config, name, None) for name in names]
    return min([model.cfg.n_ctx, *(int(w) for w in windows if w)])


def is_exact(
    model: TransformerBridge,
    known: WeakKeyDictionary[TransformerBridge, bool],
    error: Callable[[TransformerBridge], float],
) -> bool:
    """Whether a way of running a model is exact on it: its ``error`` is measured once, ``known``."""
    if model not in known:
        known[model] = error(model) <= TOLERANCE.get(model.cfg.dtype, 1e-2)
    return known[model]


def deviation(run: Callable[[], Tensor], expected: Tensor) -> float:
    """Largest difference of what ``run`` gives, relative to the range; infinity when refused."""
    try:
        logits = run()
    except _REFUSALS:
        return float("inf")
    return float((logits - expected).abs().max() / (expected.max() - expected.min()))


@torch.no_grad()
def _error(model: TransformerBridge, *, keep: bool) -> float:
    generator = torch.Generator().manual_seed(0)
    stem = torch.randint(0, model.cfg.d_vocab, (6,), generator=generator)
    tails = [torch.randint(0, model.cfg.d_vocab, (n,), generator=generator) for n in (3, 5)]
    device = model.cfg.device
    alone = [
        model(torch.cat([stem, tail])[None].to(device))[0].float().cpu()[len(stem) :]
        for tail in tails
    ]
    run = _on_stem if keep else _packed
    return deviation(lambda: run(model, stem, tails), torch.cat(alone))


def _packed(model: TransformerBridge, stem: Tensor, tails: Sequence[Tensor]) -> Tensor:
    packed = pack([torch.cat([stem, tail]) for tail in tails])
    logits, _ = forward_packed(model, packed, torch.arange(len(packed.ids)), ())
    return torch.cat([logits[path[len(stem) :]] for path in packed.nodes])


def _on_stem(model: TransformerBridge, stem: Tensor, tails: Sequence[Tensor]) -> Tensor:
    first, second = pack([stem[:4]]), pack([stem[4:]])
    _, prefix = forward_packed(model, first, torch.tensor([0]), (), keep=True)
    _, prefix = forward_packed(model, second, torch.tensor([0]), (), prefix, keep=True)
    packed = pack(tails)
    logits, _ = forward_packed(model, packed, torch.arange(len(packed.ids)), (), prefix)
    return torch.cat([logits[path] for path in packed.nodes])
