"""Attention of many patched runs at once.

A patched run attends to its own rows and, before them, to the keys and values of the unpatched
prompt, which a patch cannot change. Covered are softmax attention with rotary positions (whole or
partial), positions in the embedding, grouped queries, head norms, soft caps and any mask that does
not add a bias. Whether that is what a model does is measured before it is relied on
(:class:`interp.patching.patched.PatchedRuns`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge.sources.native.model import NativeAttention, NativeRotary

from interp.patching.cells import as_index
from interp.patching.rows import Group, RowWrite

_Qkv: TypeAlias = tuple[Tensor, Tensor, Tensor]


def project_heads(attn: Any, name: str, x: Float[Tensor, "1 row d_model"]) -> Tensor:
    """``q``, ``k`` or ``v`` of every row, ``[row, head, d_head]``."""
    out = getattr(attn, name)(x)[0]
    return out.view(len(out), -1, attn.config.d_head)


def apply_head_norm(attn: Any, name: str, x: Float[Tensor, "row head d_head"]) -> Tensor:
    """The queries or keys after the model's norm over a head (or over all), if it has one."""
    if name not in attn.submodules:
        return x
    norm = getattr(attn, name)
    if attn._qk_norm_phase == "pre_reshape":
        return norm(x.flatten(1)[None])[0].view_as(x)
    return norm(x[None])[0]


def rotate(attn: Any, x: Float[Tensor, "row head d_head"], kwargs: Mapping[str, Any]) -> Tensor:
    """Queries or keys at the positions that the block's arguments name; as they are without rotary."""
    native = getattr(attn.original_component, "rotary", None)
    if isinstance(native, NativeRotary):  # rotates neighbouring dimensions, by tables of its own
        heads = x.transpose(0, 1)[None]
        turned, _ = native.apply_rope(heads, heads, position_ids=kwargs["position_ids"])
        return turned[0].transpose(0, 1)
    return apply_rotary(x, kwargs.get("position_embeddings"))


def apply_rotary(x: Float[Tensor, "row head d_head"], embeddings: Any) -> Tensor:
    """Rotary positions on the first dimensions that the embeddings cover."""
    if embeddings is None:
        return x
    cos, sin = (e[0][:, None] for e in embeddings)
    width = cos.shape[-1]
    turned, kept = x[..., :width], x[..., width:]
    a, b = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-b, a], dim=-1) * sin
    return torch.cat([turned, kept], dim=-1) if kept.shape[-1] else turned


def attend(
    attn: Any,
    layer: int,
    qkv: _Qkv,
    groups: Sequence[Group],
    writes: Sequence[RowWrite],
    read: Sequence[Tensor] | None = None,
) -> Float[Tensor, "row head d_head"]:
    """``z`` of every row, or of the rows of each cell that ``read[g]`` names for group ``g``."""
    q, k, v = qkv
    scale, cap = _scale_and_cap(attn, q.shape[-1])
    edits: list[list[RowWrite]] = [[] for _ in groups]
    for write in writes:
        if write.patch.site in ("pattern", "edges"):
            edits[write.group].append(write)
    z = torch.empty_like(q)
    row = key = 0
    for g, group in enumerate(groups):
        asked = None if read is None else read[g]
        n_rows = group.rows if asked is None else len(asked) * len(group.cells)
        z[row : row + n_rows] = _attend_group(
            (q[row : row + n_rows], k[key : key + group.rows], v[key : key + group.rows]),
            group,
            layer,
            scale,
            cap,
            edits[g],
            asked,
        )
        row, key = row + n_rows, key + group.rows
    return z


def _scale_and_cap(attn: Any, d_head: int) -> tuple[float, float | None]:
    """What the scores are multiplied by, and their soft cap."""
    inner = attn.original_component
    if isinstance(inner, NativeAttention):  # it divides
        cap = inner.attn_scores_soft_cap
        return 1 / inner.scale, cap if cap > 0 else None
    scale = float(getattr(inner, "scaling", None) or d_head**-0.5)
    return scale, getattr(inner, "attn_logit_softcapping", None)


def _attend_group(
    qkv: _Qkv,
    group: Group,
    layer: int,
    scale: float,
    cap: float | None,
    edits: Sequence[RowWrite],
    read: Tensor | None,
) -> Float[Tensor, "row head d_head"]:
    """Attention of cells that share start and run: to the run's keys, then to their own."""
    q, k, v = qkv
    cells, n, before = len(group.cells), group.n, group.start
    heads, d_head = q.shape[1:]
    kv_heads = k.shape[1]
    repeat = heads // kv_heads
    asked = n if read is None else len(read)
    keys, values = group.run.keys[layer], group.run.values[layer]
    mask = group.run.masks[layer][group.start : group.stop, : group.stop]
    mask = mask if read is None else mask[as_index(read.tolist(), mask.device)]
    # [kv_head, cell * query * repeat, d_head]: one product over all rows for the shared keys
    q = q.view(cells, asked, kv_heads, repeat, d_head).permute(2, 0, 1, 3, 4)
    q = (q * scale).reshape(kv_heads, -1, d_head)
    k = k.view(cells, n, kv_heads, d_head).permute(2, 0, 3, 1)
    v = v.view(cells, n, kv_heads, d_head).permute(2, 0, 1, 3)
    scores = q.new_empty(kv_heads, cells, asked * repeat, before + n)
    flat = scores.view(kv_heads, cells * asked * repeat, before + n)
    flat[..., :before] = q @ keys[:, :before].transpose(1, 2)
    scores[..., before:] = q.view(kv_heads, cells, asked * repeat, d_head) @ k
    if cap is not None:
        scores.div_(cap).tanh_().mul_(cap)
    by_query = scores.view(kv_heads, cells, asked, repeat, before + n)
    by_query += mask[:, None]
    for write in edits:
        _edit(by_query, write, group, "edges", torch.finfo(q.dtype).min)
    pattern = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    for write in edits:
        _edit(pattern.view_as(by_query), write, group, "pattern", None)
    flat = pattern.view_as(flat)
    z = (pattern[..., before:] @ v).view(kv_heads, -1, d_head)
    z = torch.baddbmm(z, flat[..., :before], values[:, :before])
    z = z.view(kv_heads, cells, asked, repeat, d_head).permute(1, 2, 0, 3, 4)
    return z.reshape(-1, heads, d_head)


def _edit(
    grid: Float[Tensor, "kv_head cell query repeat key"],
    write: RowWrite,
    group: Group,
    site: str,
    lowest: float | None,
) -> None:
    """Set rows of the pattern, or remove edges from the scores, in place."""
    patch = write.patch
    if patch.site != site:
        return
    repeat = grid.shape[3]
    rows = as_index((patch.positions - group.start).tolist(), grid.device)
    values = patch.values[..., : group.stop].to(grid.device)
    for k, head in enumerate(patch.heads):
        where = (head // repeat, write.cell, rows, head % repeat)
        if lowest is None:
            grid[where] = values[:, k].to(grid.dtype)
        else:
            grid[where] = grid[where].masked_fill(values[:, k], lowest)
