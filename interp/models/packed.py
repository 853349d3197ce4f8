"""The model run on a tree of prompts, and the checks that this equals running each prompt alone.

A mask lets every node see exactly its ancestors, position ids count depth in the tree. A tree may
continue the KV cache of a shared prefix (:class:`~interp.models.prefix.CachedPrefix`), which all its
nodes see.

That a model can be run so is measured up to the length of the prompts at hand
(:func:`interp.models.verdicts.holds`), in float32 also where the weights are of half precision. Part
of it is that later tokens do not change what is computed at earlier ones (:func:`length_error`): they
do where rotary frequencies (longrope, dynamic scaling), the attention's scale or an expert's capacity
depend on the length of the forward. Such prompts run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.native import is_native
from interp.models.precision import widened_model, wider
from interp.models.prefix import CachedPrefix, build_cache, prefix_from_cache
from interp.models.rope import reset_rope
from interp.models.tree import PackedPrompts, pack
from interp.models.verdicts import LEAST, State, holds, model_state
from interp.models.wrapped import text_config, wrapped_logits

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far rounding may carry two computations of the same number, relative to its scale."""

_REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)
"""What a model may answer to a mask, positions or a KV cache that it does not take."""

_Run: TypeAlias = Callable[[TransformerBridge, Tensor, Sequence[Tensor]], Tensor]


class PlainRuns:
    """Logits of whole prompts, as any forward computes them without a cache, each run once.

    What several measurements of one length are compared with; let go of with the last of them.
    """

    def __init__(self, model: TransformerBridge) -> None:
        self._model = model
        self._found: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, ids: Int[Tensor, " pos"]) -> Float[Tensor, "pos d_vocab"]:
        """Those of one prompt."""
        key = tuple(ids.tolist())
        if key not in self._found:
            self._found[key] = run_whole(self._model, ids)
        return self._found[key]


Error: TypeAlias = Callable[[TransformerBridge, int, PlainRuns], float]
"""How far a way of running prompts up to a length is off."""


def forward_alone(
    model: TransformerBridge, packed: PackedPrompts, rows: Tensor, hooks: Sequence[tuple[str, Any]]
) -> Float[Tensor, "row d_vocab"]:
    """Logits at some positions of one prompt, as any forward computes them; on the CPU, float32."""
    device = model.cfg.device
    reset_rope(model)
    with model.hooks(fwd_hooks=list(hooks)):
        logits = wrapped_logits(
            model,
            packed.ids[None].to(device),
            logits_to_keep=rows.to(device),
        )
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
    reset_rope(model)
    with model.hooks(fwd_hooks=list(hooks)):
        logits = wrapped_logits(
            model,
            packed.ids[None].to(device),
            attention_mask=mask.to(device),
            position_ids=(before + packed.depth)[None].to(device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=rows.to(device),
        )
    kept = None
    if keep:
        ids = packed.ids if prefix is None else torch.cat([prefix.ids, packed.ids])
        kept = prefix_from_cache(cache, ids)
    return logits[0].float().cpu(), kept


def supports_packing(model: TransformerBridge, n_tokens: int = 1) -> bool:
    """Whether the packed forward equals separate forwards for prompts up to this length."""
    return supports(model, "packed prompts", packing_error, n_tokens, attention_window(model))


def supports_trees(model: TransformerBridge, n_tokens: int) -> tuple[bool, bool]:
    """:func:`supports_packing`, and whether a packed forward on the KV cache of a prefix does so too."""
    limit, shared = attention_window(model), (model_state(model), PlainRuns(model))
    packed = supports(model, "packed prompts", packing_error, n_tokens, limit, *shared)
    return packed, packed and supports(
        model, "cached prefix", cached_prefix_error, n_tokens, limit, *shared
    )


def ignores_later_tokens(
    model: TransformerBridge,
    n_tokens: int = 1,
    state: State | None = None,
    plain: PlainRuns | None = None,
) -> bool:
    """Whether what is computed at a token is the same in forwards of any length up to this one."""
    limit = int(model.cfg.n_ctx)
    return _holds(model, "length of the forward", length_error, n_tokens, limit, state, plain)


def supports(
    model: TransformerBridge,
    way: str,
    error: Error,
    n_tokens: int,
    limit: int,
    state: State | None = None,
    plain: PlainRuns | None = None,
) -> bool:
    """Whether a way of running prompts up to this length is exact, and lengths do not matter."""
    if is_native(model):  # its forward takes no more tokens than the context: no tree of prompts
        return False
    state = model_state(model) if state is None else state
    plain = PlainRuns(model) if plain is None else plain
    return ignores_later_tokens(model, n_tokens, state, plain) and _holds(
        model, way, error, n_tokens, limit, state, plain
    )


def _holds(
    model: TransformerBridge,
    way: str,
    error: Error,
    n_tokens: int,
    limit: int,
    state: State | None,
    plain: PlainRuns | None,
) -> bool:
    runs = PlainRuns(model) if plain is None else plain
    return holds(
        model,
        way,
        lambda n: error(model, n, runs),
        n_tokens,
        limit=limit,
        tolerance=TOLERANCE[torch.float32],
        state=state,
    )


def packing_error(
    model: TransformerBridge, n_tokens: int = LEAST, plain: PlainRuns | None = None
) -> float:
    """Largest |packed - separate| logit over a small tree, relative to the logit range.

    Infinity when the model refuses the mask or the position ids, NaN when a logit is not finite.
    """
    return _error(model, n_tokens, _packed, plain)


def cached_prefix_error(
    model: TransformerBridge, n_tokens: int = LEAST, plain: PlainRuns | None = None
) -> float:
    """The same where the branches of that tree continue the KV cache of its stem."""
    return _error(model, n_tokens, _on_stem, plain)


@torch.no_grad()
def length_error(
    model: TransformerBridge, n_tokens: int = LEAST, plain: PlainRuns | None = None
) -> float:
    """Largest change of a logit by later tokens, relative to the logit range.

    Over a prompt and its first half, quarter and so on: causality says that there is none.
    """
    plain = PlainRuns(model) if plain is None else plain
    ids = probe_ids(model, n_tokens)
    n_tokens = len(ids)
    with widened_model(model, wider(model.cfg.dtype)):
        whole = plain(ids)
        worst, n = 0.0, n_tokens // 2
        while n >= 2:
            part = plain(ids[:n])
            error = float((whole[:n] - part).abs().max() / (part.max() - part.min()))
            worst = error if error != error else max(worst, error)
            n //= 2
    return worst


def attention_window(model: TransformerBridge) -> int:
    """Longest prompt on which every layer attends to all earlier positions."""
    config = text_config(model)
    names = ["window_size", "attention_chunk_size"]
    if getattr(config, "use_sliding_window", True):
        names.append("sliding_window")
    windows = [getattr(config, name, None) for name in names]
    return min([model.cfg.n_ctx, *(int(w) for w in windows if w)])


def deviation(run: Callable[[], Tensor], expected: Tensor) -> float:
    """Largest difference of what ``run`` gives, relative to the range; infinity when refused."""
    try:
        logits = run()
    except _REFUSALS:
        return float("inf")
    return float((logits - expected).abs().max() / (expected.max() - expected.min()))


def probe_ids(model: TransformerBridge, n_tokens: int) -> Int[Tensor, " pos"]:
    """Tokens of a measurement, the same at every call; no more than the context holds."""
    n_tokens = min(n_tokens, int(model.cfg.n_ctx))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.cfg.d_vocab, (n_tokens,), generator=generator)


def run_whole(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> Float[Tensor, "pos d_vocab"]:
    """Logits of one prompt, as any forward computes them without a cache."""
    reset_rope(model)
    ids = ids[None].to(model.cfg.device)
    return wrapped_logits(model, ids)[0].float().cpu()


@torch.no_grad()
def _error(model: TransformerBridge, n_tokens: int, run: _Run, plain: PlainRuns | None) -> float:
    """Over a prompt of this length and another that leaves it half way."""
    plain = PlainRuns(model) if plain is None else plain
    ids = probe_ids(model, n_tokens)
    n_tokens = len(ids)
    if n_tokens < 4:
        return float("inf")
    stem, tail = ids[: n_tokens // 2], ids[n_tokens // 2 :]
    other = tail[: min(3, len(tail) - 1)].flip(0)
    if torch.equal(other[:1], tail[:1]):
        other = (other + 1) % int(model.cfg.d_vocab)
    tails = [tail, other]
    with widened_model(model, wider(model.cfg.dtype)):
        alone = [plain(torch.cat([stem, more]))[len(stem) :] for more in tails]
        return deviation(lambda: run(model, stem, tails), torch.cat(alone))


def _packed(model: TransformerBridge, stem: Tensor, tails: Sequence[Tensor]) -> Tensor:
    packed = pack([torch.cat([stem, tail]) for tail in tails])
    logits, _ = forward_packed(model, packed, torch.arange(len(packed.ids)), ())
    return torch.cat([logits[path[len(stem) :]] for path in packed.nodes])


def _on_stem(model: TransformerBridge, stem: Tensor, tails: Sequence[Tensor]) -> Tensor:
    cut = max(1, len(stem) // 2)
    first, second = pack([stem[:cut]]), pack([stem[cut:]])
    _, prefix = forward_packed(model, first, torch.tensor([0]), (), keep=True)
    _, prefix = forward_packed(model, second, torch.tensor([0]), (), prefix, keep=True)
    packed = pack(tails)
    logits, _ = forward_packed(model, packed, torch.arange(len(packed.ids)), (), prefix)
    return torch.cat([logits[path] for path in packed.nodes])
