"""The KV cache of the shared prefix, reused from one prompt to the next of a conversation.

A prompt that begins with the ids of an earlier one needs only its new tokens computed: the keys and
values of the longest common prefix are the same numbers (causality), see :mod:`interp.models.prefix`.

New tokens are never padded: sequences run together only when they are equally long and reuse
equally much (:func:`buckets`). The cache may be padded, in front and masked, so that rows of
different lengths go on together, one token each (:func:`supports_ragged`). A model whose attention
cannot continue from a KV cache (:func:`supports_cache_reuse`) runs every prompt whole; results are
the same, only slower. Both are measured for every state of the model, up to the lengths at hand;
under hooks that address positions or prompts of a batch, every prompt runs whole and alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.by_row import NOTE, OneByOneWarning, hooks_act_by_row
from interp.models.limits import require_finite
from interp.models.packed import (
    Error,
    PlainRuns,
    deviation,
    forward_packed,
    probe_ids,
    supports,
    supports_trees,
)
from interp.models.precision import widened_model, wider
from interp.models.prefix import CachedPrefix, build_cache, prefix_from_cache
from interp.models.rope import reset_rope
from interp.models.tree import pack
from interp.models.verdicts import LEAST, model_state
from interp.models.wrapped import wrapped_logits


class Rows:
    """Sequences that a model reads together, each from what has been read of it on.

    ``read`` are those tokens, ``prefixes`` hold their keys and values. ``feed`` runs more tokens,
    equally many of every row. With ``cached=False`` every call runs the rows whole, and they have
    to be equally long; so have they on a model that does not run ragged.
    """

    def __init__(
        self,
        model: TransformerBridge,
        read: Sequence[Int[Tensor, " _pos"]],
        prefixes: Sequence[CachedPrefix | None],
        *,
        cached: bool = True,
    ) -> None:
        self._model = model
        self._state = model_state(model) if cached else None
        self.ids = list(read)
        kept = [prefix for prefix in prefixes if prefix is not None]
        self._cache: Any = None
        if cached:
            self._cache = build_cache(kept, [len(ids) for ids in read] if kept else [])

    @torch.no_grad()
    def feed(
        self, ids: Int[Tensor, "row new"], labels: Sequence[str], *, keep: int = 1
    ) -> Float[Tensor, "row keep d_vocab"]:
        """Logits at the last ``keep`` positions after these tokens, float32 on the CPU.

        Raises:
            NotFiniteError: logits that are not finite; names the row by its label.
        """
        self.ids = [torch.cat(both) for both in zip(self.ids, ids, strict=True)]
        device = self._model.cfg.device
        reset_rope(self._model)
        if self._cache is None:
            logits = wrapped_logits(
                self._model, torch.stack(self.ids).to(device), logits_to_keep=keep
            )
        else:
            logits = wrapped_logits(
                self._model,
                ids.to(device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=keep,
                **{name: tensor.to(device) for name, tensor in self._places(ids.shape[1]).items()},
            )
        logits = logits[:, -keep:].float().cpu()
        for row, label in zip(logits, labels, strict=True):
            require_finite(row, "the logits", label)
        return logits

    def _places(self, n_new: int) -> dict[str, Tensor]:
        """The positions of the last tokens and what they may see; nothing to say of equal rows."""
        ends = torch.tensor([len(ids) for ids in self.ids])
        width = self._cache.get_seq_length() + n_new  # the longest row may have left since
        if int(ends.min()) == width:
            return {}
        return {
            "position_ids": ends[:, None] - n_new + torch.arange(n_new),
            "attention_mask": (torch.arange(width) >= width - ends[:, None]).long(),
        }

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.ids = [self.ids[row] for row in rows]
        if self._cache is not None:
            self._cache.batch_select_indices(
                torch.tensor(list(rows), device=self._cache.layers[0].keys.device)
            )

    def prefix(self, row: int) -> CachedPrefix | None:
        """The KV cache of a row so far; None without one."""
        if self._cache is None:
            return None
        return prefix_from_cache(self._cache, self.ids[row], row, self._state)


@dataclass(frozen=True, eq=False)
class SequenceOutput:
    """``logits``: at the last positions of a sequence; ``n_reused``: its tokens not computed."""

    logits: Float[Tensor, "keep d_vocab"]
    prefix: CachedPrefix | None
    n_reused: int


def forward_cached(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " _pos"]],
    prefixes: Sequence[CachedPrefix | None],
    labels: Sequence[str],
    *,
    keep: Sequence[int],
    batch_size: int,
    cached: bool = True,
    keep_prefixes: bool = True,
) -> list[SequenceOutput]:
    """Run every sequence from its cached prefix on, with logits at its last ``keep`` positions.

    ``labels`` name the sequences in errors. Without ``keep_prefixes`` the new keys and values are
    given up at once.

    A prefix that was made under other hooks or weights is not used, nor is any where this model
    cannot continue from one; sequences run one at a time where hooks tell them apart.
    """
    out: dict[int, SequenceOutput] = {}
    longest = max((len(ids) for ids in sequences), default=0)
    cached = cached and supports_cache_reuse(model, longest)
    if not cached:
        batch_size = separate_size(model, longest, batch_size)
    elif any(prefix is not None and prefix.state is not None for prefix in prefixes):
        state = model_state(model)
        prefixes = [p if p is None or p.state in (None, state) else None for p in prefixes]
    reused = [
        n_reusable(ids, prefix, n, cached=cached)
        for ids, prefix, n in zip(sequences, prefixes, keep, strict=True)
    ]
    keys = [(len(ids), r, n) for ids, r, n in zip(sequences, reused, keep, strict=True)]
    for group in buckets(keys, batch_size):
        _, start, n = keys[group[0]]
        seen = [sequences[k][:start] for k in group]
        rows = Rows(model, seen, [prefixes[k] for k in group if start], cached=cached)
        new = torch.stack([sequences[k][start:] for k in group])
        logits = rows.feed(new, [labels[k] for k in group], keep=n)
        for row, k in enumerate(group):
            prefix = rows.prefix(row) if keep_prefixes else None
            out[k] = SequenceOutput(logits[row], prefix, start)
    return [out[k] for k in range(len(sequences))]


@torch.no_grad()
def forward_branches(
    model: TransformerBridge,
    prefix: CachedPrefix,
    tails: Sequence[Int[Tensor, " _more"]],
    label: str,
) -> list[Float[Tensor, "_more d_vocab"]]:
    """Logits at every token of several continuations of one prefix, packed into one forward.

    Only where :func:`supports_branches` says so. ``label`` names the prefix in errors.
    """
    packed = pack(tails)
    if not len(packed.ids):
        return [torch.empty(0, model.cfg.d_vocab) for _ in tails]
    logits, _ = forward_packed(model, packed, torch.arange(len(packed.ids)), (), prefix)
    require_finite(logits, "the logits", label)
    return [logits[path] for path in packed.nodes]


def supports_branches(model: TransformerBridge, n_pos: int) -> bool:
    """Whether continuations that reach this length can be packed on a cached prefix."""
    return supports_cache_reuse(model, n_pos) and all(supports_trees(model, n_pos))


def separate_size(model: TransformerBridge, n_tokens: int, batch_size: int) -> int:
    """How many prompts may run in one batch: 1 under hooks that could tell them apart."""
    probe = probe_ids(model, min(max(n_tokens, 1), int(model.cfg.n_ctx)))
    if hooks_act_by_row(model, [probe]):
        return batch_size
    warnings.warn(NOTE, OneByOneWarning, stacklevel=3)
    return 1


def n_reusable(
    ids: Int[Tensor, " pos"], prefix: CachedPrefix | None, keep: int, *, cached: bool = True
) -> int:
    """Tokens of a sequence that need not be computed for logits at its last ``keep`` positions."""
    if prefix is None or not cached:
        return 0
    return max(0, min(prefix.shared_with(ids), len(ids) - keep))


def buckets(keys: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Indices of equal keys together, at most ``batch_size`` at a time, first come first."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def supports_cache_reuse(model: TransformerBridge, n_tokens: int = 1) -> bool:
    """Whether continuing from a KV cache equals running the whole prompt, up to this length."""
    return _supports(model, "KV cache", reuse_error, n_tokens)


def supports_ragged(model: TransformerBridge, n_tokens: int = 1) -> bool:
    """Whether rows of different lengths can go on together, up to this length."""
    return _supports(model, "ragged rows", ragged_error, n_tokens)


def _supports(
    model: TransformerBridge,
    way: str,
    error: Error,
    n_tokens: int,
) -> bool:
    limit = int(model.cfg.n_ctx)
    if n_tokens > limit or not hooks_act_by_row(model, [probe_ids(model, max(n_tokens, 1))]):
        return False
    return supports(model, way, error, n_tokens, limit)


@torch.no_grad()
def reuse_error(
    model: TransformerBridge, n_tokens: int = LEAST, plain: PlainRuns | None = None
) -> float:
    """Largest |continued - whole| logit of two prompts in a batch, relative to the logit range.

    Infinity when the model refuses the cache, NaN when a logit is not finite.
    """
    plain = PlainRuns(model) if plain is None else plain
    ids = probe_ids(model, n_tokens)
    rows_of = [ids, ids.flip(0)]
    cut = max(1, n_tokens // 2)

    def continued() -> Tensor:
        prefixes = [_read(model, row[: cut + 1]) for row in rows_of]  # one token more than is used
        rows = Rows(model, [row[:cut] for row in rows_of], prefixes)
        new = torch.stack([row[cut:] for row in rows_of])
        return rows.feed(new, ["a self-check"] * 2, keep=n_tokens - cut)

    with widened_model(model, wider(model.cfg.dtype)):
        whole = torch.stack([plain(row)[cut:] for row in rows_of])
        return deviation(continued, whole)


@torch.no_grad()
def ragged_error(
    model: TransformerBridge, n_tokens: int = LEAST, plain: PlainRuns | None = None
) -> float:
    """Largest |together - whole| logit of two rows of different lengths, relative to the range.

    Infinity when the model refuses the padded keys, NaN when a logit is not finite.
    """
    plain = PlainRuns(model) if plain is None else plain
    ids = probe_ids(model, n_tokens)
    half = max(1, (n_tokens - 2) // 2)
    begun, more = [ids[: n_tokens - 2], ids[half : 2 * half]], ids[:2].repeat(2, 1)

    def together() -> Tensor:
        rows = Rows(model, begun, [_read(model, before) for before in begun])
        rows.feed(more[:, :1], ["a self-check"] * 2)
        return rows.feed(more[:, 1:], ["a self-check"] * 2)[:, 0]

    with widened_model(model, wider(model.cfg.dtype)):
        alone = [plain(torch.cat([before, ids[:2]]))[-1] for before in begun]
        return deviation(together, torch.stack(alone))


def _read(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> CachedPrefix | None:
    rows = Rows(model, [ids[:0]], [])
    rows.feed(ids[None], ["a self-check"])
    return rows.prefix(0)
