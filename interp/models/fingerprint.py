"""Which weights and tokenizer a model holds: exact fingerprints, and cheap states that tell when to
take them.

The fingerprint reaches every entry of every weight, so an edit of one neuron is another model. The
state is compared before results are labelled: torch counts the writes to a tensor, and a sample of
each weight finds most of what the counters miss (a write through ``weight.data``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

WeightsState: TypeAlias = tuple[tuple[tuple[object, ...], ...], bytes]
"""Per weight its place, version and type; and the bits of a sample of all of them."""

TokenizerState: TypeAlias = tuple[object, ...]
"""Sizes of the vocabulary, special tokens, and the steps before and after it."""

_WIDTH = 1024
_SAMPLE_PER_WEIGHT = 512


def weights_fingerprint(model: TransformerBridge) -> str:
    """SHA-256 over name, shape and checksums of every weight, rounded to bfloat16.

    Rounding makes the float32 and bfloat16 loads of one checkpoint agree (float16 rounds otherwise
    and is another model, unless the checkpoint is stored in 16 bits); the checksums are sums of
    integers, so that device and number of threads play no part. Buffers that a checkpoint stores
    count as weights. Takes about a fifth of a second for 10^8 parameters on one core.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(named_weights(model), key=lambda item: item[0]):
        digest.update(f"{name}:{tuple(weight.shape)};".encode())
        for sums in _checksums(weight.detach()):
            digest.update(sums.cpu().numpy().tobytes())
    return digest.hexdigest()


def weights_state(model: TransformerBridge) -> WeightsState:
    """Changes when a weight is written to, replaced, moved or converted; milliseconds.

    A write through ``weight.data`` escapes torch's version counters: it is found where it touches
    one of 512 evenly spaced entries of a weight.
    """
    weights = list(_weights(model))
    facts = tuple(
        (weight.data_ptr(), _version(weight), weight.dtype, weight.device, tuple(weight.shape))
        for weight in weights
    )
    return facts, _sample(weights)


_hashed: WeakKeyDictionary[Any, tuple[TokenizerState, str]] = WeakKeyDictionary()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of everything that turns text into ids: vocabulary, merges, normaliser, added tokens.

    With the special tokens and whether BOS and EOS are added; without padding and truncation, which
    callers set and no prompt has. Computed once per tokenizer (a tenth of a second for 250,000
    tokens) and again when :func:`tokenizer_state` changes.
    """
    state = tokenizer_state(tokenizer)
    known = _hashed.get(tokenizer)
    if known is None or known[0] != state:
        digest = hashlib.sha256(_serialised(tokenizer).encode("utf-8", "surrogatepass"))
        digest.update(repr(state).encode("utf-8", "surrogatepass"))
        known = _hashed[tokenizer] = (state, digest.hexdigest())
    return known[1]


def tokenizer_state(tokenizer: Any) -> TokenizerState:
    """Changes when a token is added or a step of the tokenizer replaced; well under a millisecond.

    A vocabulary replaced by another of the same size is not noticed.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    names = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    steps = [getattr(backend, name, None) for name in names]
    return (
        type(tokenizer).__name__,
        len(tokenizer),
        tuple(sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items())),
        *(getattr(tokenizer, f"add_{name}_token", None) for name in ("bos", "eos")),
        *(None if step is None else step.__getstate__() for step in steps),
    )


def _serialised(tokenizer: Any) -> str:
    """The tokenizer as its own library writes it; its vocabulary alone where it is no fast one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True)
    text = str(backend.to_str())
    return text[max(text.find('"added_tokens"'), 0) :]  # version, truncation, padding go before


def named_weights(model: TransformerBridge) -> Iterator[tuple[str, Tensor]]:
    """Parameters and stored buffers of the wrapped model, tied ones once."""
    seen: set[int] = set()
    for prefix, module in model.original_model.named_modules():
        stored = {**module._parameters, **module._buffers}
        for name, weight in stored.items():
            if weight is None or id(weight) in seen or name in module._non_persistent_buffers_set:
                continue
            seen.add(id(weight))
            yield f"{prefix}.{name}" if prefix else name, weight


def walk_modules(*roots: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Every module below some roots once, in no order that means anything.

    A plain walk: torch's own builds the name of every module on the way, at four times the cost.
    """
    seen: set[int] = set()
    waiting: list[torch.nn.Module | None] = [*roots]
    while waiting:
        module = waiting.pop()
        if module is not None and id(module) not in seen:
            seen.add(id(module))
            waiting.extend(module._modules.values())
            yield module


def _weights(model: TransformerBridge) -> Iterator[Tensor]:
    """Those of :func:`named_weights`, in the order of the walk."""
    seen: set[int] = set()
    for module in walk_modules(model.original_model):
        for name, weight in (*module._parameters.items(), *module._buffers.items()):
            if weight is None or id(weight) in seen or name in module._non_persistent_buffers_set:
                continue
            seen.add(id(weight))
            yield weight


def _checksums(weight: Tensor) -> Iterator[Int[Tensor, " _n"]]:
    """Sums over the rows and over the columns of the weight's bits, laid out 1,024 words a row.

    A row sum says which row changed, a column sum where in it: swapped rows, heads or neurons
    change the checksums as well as new numbers do.
    """
    bits = weight.to(torch.bfloat16).flatten().view(torch.int16)
    bits = torch.nn.functional.pad(bits, (0, -len(bits) % (4 * _WIDTH)))
    words = bits.view(torch.int64).view(-1, _WIDTH)  # sums wrap around, the same everywhere
    yield words.sum(0)
    yield words.sum(1)


def _sample(weights: list[Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for weight in weights:
        # an odd step visits every column of a matrix whose rows are a power of two long
        step = max(1, weight.numel() // _SAMPLE_PER_WEIGHT) | 1
        stored = weight.detach()
        if stored.ndim == 2 and not stored.is_contiguous():
            stored = stored.T  # as it lies in memory: flattening it otherwise would copy it
        sample = stored.flatten()[::step]
        by_kind.setdefault((weight.dtype, weight.device), []).append(sample)
    for samples in by_kind.values():  # one transfer from each device
        digest.update(torch.cat(samples).cpu().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _version(weight: Tensor) -> int:
    return -1 if weight.is_inference() else weight._version  # those are not counted
