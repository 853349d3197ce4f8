"""The unpatched run of a prompt with its branches, put together from the model's own full forwards.

Nothing about positions, windows, sinks or rotary frequencies is assumed: every branch's rows, masks
and arguments are those that the model itself gave it behind the prompt. What is shared, the prompt's
rows, must then be the same in every forward; where they are not (frequencies that depend on the
length, say), the exact engine does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.packed import TOLERANCE
from interp.patching.blocks import NotFastError, record
from interp.patching.branches import Reading
from interp.patching.rows import Calls, RecordedForward, UnpatchedRun


def record_reading(model: TransformerBridge, reading: Reading) -> UnpatchedRun:
    """Run a prompt with its branches as it is and keep what its patched copies reuse.

    Raises:
        NotFastError: what :func:`interp.patching.blocks.record` refuses, or a prompt whose states
            depend on the branch behind it.
    """
    forwards = reading.forwards
    runs = [
        record(model, forward.ids, wanted)
        for forward, wanted in zip(forwards, reading.reads(), strict=True)
    ]
    if len(runs) == 1:  # one branch continues the prompt: there is nothing to share
        return runs[0]
    n = len(reading.prompt)
    for other in runs[1:]:
        _require_same_prompt(runs[0], other, n)
    return _merged(runs, reading)


def _require_same_prompt(first: UnpatchedRun, other: UnpatchedRun, n: int) -> None:
    said = "the prompt's states depend on what follows it"
    for a, b in zip(_by_position(first.calls), _by_position(other.calls), strict=True):
        if not torch.equal(a[:, :n], b[:, :n]):
            raise NotFastError(said)
    if not all(
        torch.equal(a[:n, :n], b[:n, :n]) for a, b in zip(first.masks, other.masks, strict=True)
    ):
        raise NotFastError(said)
    a, b = first.resid[:, :n].float(), other.resid[:, :n].float()
    apart = (a - b).norm(dim=-1) / a.norm(dim=-1).clamp_min(1e-30)
    if not float(apart.max()) <= TOLERANCE.get(first.resid.dtype, 1e-2):
        raise NotFastError(said)


def _by_position(calls: Calls) -> list[Tensor]:
    """The arguments of all blocks that go by position, ``[1, pos, ...]``."""
    found = []
    for _, kwargs in calls:
        if kwargs.get("position_ids") is not None:
            found.append(kwargs["position_ids"])
        found += list(kwargs.get("position_embeddings") or ())
    return found


def _merged(runs: Sequence[UnpatchedRun], reading: Reading) -> UnpatchedRun:
    n = len(reading.prompt)

    def merge(tensors: Sequence[Tensor], axis: int) -> Tensor:
        """The prompt's part of the first and every branch's own."""
        return torch.cat([tensors[0], *(t.narrow(axis, n, t.shape[axis] - n) for t in tensors[1:])],
                         dim=axis)  # fmt: skip

    masks: dict[tuple[int, ...], Tensor] = {}  # layers share theirs

    def merged_mask(layer: int) -> Tensor:
        own = [run.masks[layer] for run in runs]
        key = tuple(id(mask) for mask in own)
        if key not in masks:
            masks[key] = _mask(own, n)
        return masks[key]

    layers = range(len(runs[0].keys))
    return replace(
        runs[0],
        ids=torch.cat([reading.prompt, *reading.branches]),
        resid=merge([run.resid for run in runs], 1),
        keys=tuple(merge([run.keys[layer] for run in runs], 1) for layer in layers),
        values=tuple(merge([run.values[layer] for run in runs], 1) for layer in layers),
        masks=tuple(merged_mask(layer) for layer in layers),
        calls=_calls([run.calls for run in runs], merge),
        read=reading.read,
        logits=torch.cat([run.logits for run in runs]),
        forwards=tuple(
            RecordedForward(forward.rows, run.calls)
            for forward, run in zip(reading.forwards, runs, strict=True)
        ),
    )


def _mask(masks: Sequence[Tensor], n: int) -> Tensor:
    """One mask over all rows: a branch sees what it saw of the prompt and of itself."""
    lengths = [len(mask) - n for mask in masks]
    total = n + sum(lengths)
    lowest = torch.finfo(masks[0].dtype).min
    merged = torch.full((total, total), lowest, dtype=masks[0].dtype, device=masks[0].device)
    merged[:n, :n] = masks[0][:n, :n]
    start = n
    for mask, length in zip(masks, lengths, strict=True):
        rows = slice(start, start + length)
        merged[rows, :n], merged[rows, rows] = mask[n:, :n], mask[n:, n:]
        start += length
    return merged


def _calls(calls: Sequence[Calls], merge: Callable[[Sequence[Tensor], int], Tensor]) -> Calls:
    """The first forward's arguments, those by position over all rows."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for by_forward in zip(*calls, strict=True):
        args, kwargs = by_forward[0][0], dict(by_forward[0][1])
        everyone = [own for _, own in by_forward]
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = merge([own["position_ids"] for own in everyone], 1)
        if kwargs.get("position_embeddings") is not None:
            kwargs["position_embeddings"] = tuple(
                merge([own["position_embeddings"][k] for own in everyone], 1) for k in range(2)
            )
        found.append((args, kwargs))
    return tuple(found)
