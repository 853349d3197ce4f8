"""One transformer block on the rows of many patched runs at once.

Rows of different runs stand in one flat list ``[row, d_model]``, so that every matrix product sees
all of them. The block's own modules do all of the work except attention itself, which is computed
by :mod:`interp.patching.attend`. While a block runs, the ``forward`` of its attention is replaced, and
then put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.native import is_native
from interp.models.rope import reset_rope
from interp.models.wrapped import text_config, wrapped_logits
from interp.patching.attend import apply_head_norm, attend, project_heads, rotate
from interp.patching.cells import as_index
from interp.patching.rows import Group, RecordedForward, RowWrite, UnpatchedRun, apply_writes


class NotFastError(Exception):
    """The model's attention is not of the kind computed here; the message says why."""


def run_block(
    model: TransformerBridge,
    layer: int,
    hidden: Float[Tensor, "row d_model"],
    groups: Sequence[Group],
    writes: Sequence[RowWrite] = (),
) -> Float[Tensor, "row d_model"]:
    """The residual stream after ``layer`` of every row, with the patches applied.

    All but those of ``resid_pre``: they are a matter of ``hidden`` (:func:`apply_writes`).
    """

    def attention(attn: Any, x: Tensor, kwargs: dict[str, Any]) -> Tensor:
        # A projection, like a norm or an MLP, looks at one row at a time: one product serves the
        # rows of all prompts. Attention alone mixes rows, so it alone needs to know the groups.
        q, k, v = (
            apply_writes(project_heads(attn, name, x), writes, groups, name)
            for name in ("q", "k", "v")
        )
        # Patches of q, k and v come before head norm and rotation, where TransformerLens has its
        # hooks. A key set after the rotation would carry the source's position.
        q = rotate(attn, apply_head_norm(attn, "q_norm", q), kwargs)
        k = rotate(attn, apply_head_norm(attn, "k_norm", k), kwargs)
        z = attend(attn, layer, (q, k, v), groups, writes)
        return apply_writes(z, writes, groups, "z")

    with _hooked(model.blocks[layer], _residual_hooks(hidden, writes, groups)):
        out = _call_block(model, layer, hidden, groups, attention)
    return apply_writes(out, writes, groups, "resid_post")


def run_last_block(
    model: TransformerBridge,
    layer: int,
    hidden: Float[Tensor, "row d_model"],
    groups: Sequence[Group],
    read: Sequence[Int[Tensor, " _read"]],
) -> Float[Tensor, "read_row d_model"]:
    """The same for the rows that are read: of the others only keys and values are computed.

    ``read[g]`` holds, for group ``g``, the rows wanted of each cell, counted from its start.
    """
    # After this layer no row attends to another. A row that is not read still gives the key and
    # value that the read rows attend to; its query, its attention and its MLP would go nowhere.
    block = model.blocks[layer]
    k, v = _keys_values(block, hidden, _call_arguments(layer, groups)[1])
    rows = _read_rows(groups, read).to(hidden.device)

    def attention(attn: Any, x: Tensor, kwargs: dict[str, Any]) -> Tensor:
        q = apply_head_norm(attn, "q_norm", project_heads(attn, "q", x))
        q = rotate(attn, q, kwargs)
        return attend(attn, layer, (q, k, v), groups, (), read)

    return _call_block(model, layer, hidden[rows], groups, attention, read)


@torch.no_grad()
def record(
    model: TransformerBridge, ids: Int[Tensor, " pos"], read: Int[Tensor, " read"]
) -> UnpatchedRun:
    """Run one prompt as it is and keep what its patched copies reuse.

    Raises:
        NotFastError: blocks or attention that :func:`run_block` does not know.
    """
    device = model.cfg.device
    inputs: list[Tensor] = []
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    masks: list[Any] = []
    final: list[Tensor] = []

    def before_block(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not args or not isinstance(args[0], Tensor):
            raise NotFastError("the blocks do not take the residual stream as their first argument")
        # inputs[l] is the stream before layer l. With the last block's output behind them there
        # are n_layers + 1: the output of layer l is resid[l + 1], never resid[l].
        inputs.append(args[0][0])
        calls.append((args[1:], kwargs))

    def before_attention(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        masks.append(kwargs.get("attention_mask"))

    def after_block(module: Any, args: tuple[Any, ...], out: Any) -> None:
        final[:] = [out[0][0] if isinstance(out, tuple) else out[0]]

    blocks = list(model.blocks)
    if not all(hasattr(block, "attn") and hasattr(block, "ln1") for block in blocks):
        raise NotFastError("a block without attention or without a norm before it")
    handles = [b.register_forward_pre_hook(before_block, with_kwargs=True) for b in blocks]
    handles += [
        b.attn.register_forward_pre_hook(before_attention, with_kwargs=True) for b in blocks
    ]
    handles.append(blocks[-1].register_forward_hook(after_block))
    reset_rope(model)
    try:
        logits = wrapped_logits(model, ids[None].to(device), logits_to_keep=read.to(device))[0]
    finally:
        for handle in handles:
            handle.remove()
    if not len(inputs) == len(masks) == len(blocks):
        raise NotFastError("a block or its attention runs more or less than once")
    # Keys and values are computed again from the stream: fused attention never shows them. They
    # are kept of all positions; a cell that starts at p uses those before p.
    keys, values = [], []
    for block, hidden, (_, kwargs) in zip(blocks, inputs, calls, strict=True):
        k, v = shared_keys_values(block, hidden, kwargs)
        keys.append(k)
        values.append(v)
    # layers share their masks; each is turned into numbers once
    additive = {id(mask): _additive(mask, len(ids), model) for mask in _distinct(masks)}
    return UnpatchedRun(
        ids=ids,
        resid=torch.stack([*inputs, *final]),
        keys=tuple(keys),
        values=tuple(values),
        masks=tuple(additive[id(mask)] for mask in masks),
        calls=tuple(calls),
        read=read,
        logits=logits.float(),
        forwards=(RecordedForward(torch.arange(len(ids)), tuple(calls)),),
    )


def shared_keys_values(
    block: Any, hidden: Float[Tensor, "pos d_model"], kwargs: dict[str, Any]
) -> tuple[Float[Tensor, "head pos d_head"], Float[Tensor, "head pos d_head"]]:
    """Keys (rotated) and values of a whole prompt, from the stream before a block."""
    k, v = _keys_values(block, hidden, kwargs)
    return k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()


def _keys_values(
    block: Any, hidden: Float[Tensor, "row d_model"], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Keys (rotated) and values of rows before a block, ``[row, head, d_head]``."""
    normed = block.ln1(hidden[None])
    k, v = (project_heads(block.attn, name, normed) for name in ("k", "v"))
    return rotate(block.attn, apply_head_norm(block.attn, "k_norm", k), kwargs), v


def _distinct(masks: Sequence[Any]) -> list[Any]:
    return list({id(mask): mask for mask in masks}.values())


def final_logits(
    model: TransformerBridge, hidden: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_vocab"]:
    """Logits of final residual rows, through the model's own norm, unembedding and soft cap."""
    logits = model.unembed(model.ln_final(hidden[None]))[0].float()
    name = "output_logits_soft_cap" if is_native(model) else "final_logit_softcapping"
    cap = getattr(text_config(model), name, None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits


def _additive(mask: Any, n: int, model: TransformerBridge) -> Float[Tensor, "pos key"]:
    """The block's own mask as 0 and the dtype's lowest number; causal where it has none."""
    # A model that passes no mask leaves causality to its fused kernel, which flat rows do not go
    # through. The lowest number and not -inf: a row of -inf only would be NaN after the softmax.
    device, dtype = model.cfg.device, model.cfg.dtype
    lowest = torch.finfo(dtype).min
    seen = torch.ones(n, n, dtype=torch.bool, device=device).tril()
    if isinstance(mask, Tensor) and mask.ndim == 4:
        given = mask[0, 0, -n:, :n]  # the key axis can be padded behind the prompt
        if given.dtype != torch.bool:
            if bool(((given != 0) & (given > lowest / 2)).any()):
                raise NotFastError("its attention mask adds a bias to the scores")
            given = given == 0
        seen &= given
    return torch.zeros(n, n, dtype=dtype, device=device).masked_fill_(~seen, lowest)


@contextmanager
def _replaced(attn: Any, forward: Callable[..., Any]) -> Iterator[None]:
    # past the bridge's own __setattr__, which looks at the wrapped module
    object.__setattr__(attn, "forward", forward)
    try:
        yield
    finally:
        object.__delattr__(attn, "forward")


def _call_block(
    model: TransformerBridge,
    layer: int,
    hidden: Tensor,
    groups: Sequence[Group],
    attention: Callable[[Any, Tensor, dict[str, Any]], Tensor],
    read: Sequence[Tensor] | None = None,
) -> Tensor:
    """The block's own forward on flat rows, with ``attention`` giving ``z [row, head, d_head]``."""
    attn = model.blocks[layer].attn

    def forward(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        x = attn.hook_in(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])
        z = attention(attn, x, kwargs)
        # the flat list passes as one prompt, [1, row, ...]: the rest of the block never looks along it
        return attn.hook_out(attn.o(z.flatten(1)[None])), None

    args, kwargs = _call_arguments(layer, groups, read)
    with _replaced(attn, forward):
        out = model.blocks[layer](hidden[None], *args, **kwargs)
    return (out[0] if isinstance(out, tuple) else out)[0]


def _call_arguments(
    layer: int, groups: Sequence[Group], read: Sequence[Tensor] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the block in the unpatched run, those by position taken row by row."""
    # Whatever is not by position (flags, no cache) is equal in all runs: the first run's serves.
    args, kwargs = groups[0].run.calls[layer]
    changed = dict(kwargs)
    # A row's place in the list is not its position in the prompt. Rotary scores depend on the
    # difference of two positions, so rows that were all off by one would still agree with each
    # other and only be wrong towards the shared keys before their start.
    if "position_ids" in kwargs and kwargs["position_ids"] is not None:
        changed["position_ids"] = _by_row(lambda kw: kw["position_ids"], layer, groups, read)
    if kwargs.get("position_embeddings") is not None:
        changed["position_embeddings"] = tuple(
            _by_row(_embedding(k), layer, groups, read) for k in range(2)
        )
    changed.pop("attention_mask", None)  # of one prompt's shape; attend() has it in the run
    return tuple(None if isinstance(a, Tensor) else a for a in args), changed


def _embedding(k: int) -> Callable[[dict[str, Any]], Tensor]:
    return lambda kwargs: kwargs["position_embeddings"][k]  # cos, sin


def _by_row(
    pick: Callable[[dict[str, Any]], Tensor],
    layer: int,
    groups: Sequence[Group],
    read: Sequence[Tensor] | None,
) -> Tensor:
    """An argument ``[1, pos, ...]`` of each group's run, at the position of every row."""
    parts = []
    for g, group in enumerate(groups):
        rows = pick(group.run.calls[layer][1])[0, group.start : group.stop]
        rows = rows if read is None else rows[as_index(read[g].tolist(), rows.device)]
        # cell after cell, each with its positions in order: repeat, not repeat_interleave
        parts.append(rows.repeat(len(group.cells), *[1] * (rows.ndim - 1)))
    return torch.cat(parts)[None]


def _read_rows(groups: Sequence[Group], read: Sequence[Tensor]) -> Tensor:
    parts, offset = [], 0
    for group, rows in zip(groups, read, strict=True):
        # counted from each cell's first row: a prompt's own index would fall into a later cell
        starts = offset + group.n * torch.arange(len(group.cells))
        parts.append((starts[:, None] + rows).flatten())
        offset += group.rows
    return torch.cat(parts)


@contextmanager
def _hooked(block: Any, hooks: Sequence[tuple[str, Callable[..., Tensor]]]) -> Iterator[None]:
    """Hooks on some of a block's points, by their names within it."""
    # model.hooks() looks through all points of the model for a name: as long as a small block takes
    added = []
    try:
        for name, hook in hooks:
            point = getattr(block, name)
            added.append((point, point.add_hook(hook)))
        yield
    finally:
        for point, handle in added:
            handle.hook.remove()
            point.fwd_hooks.remove(handle)


def _residual_hooks(
    hidden: Tensor, writes: Sequence[RowWrite], groups: Sequence[Group]
) -> list[tuple[str, Callable[..., Tensor]]]:
    """Hooks for the patches that lie between the block's modules."""
    sites = {write.patch.site for write in writes}

    def attn_out(activation: Tensor, hook: Any) -> Tensor:
        out = apply_writes(activation[0], writes, groups, "attn_out")
        if "resid_mid" in sites:
            # the sum is what the skip connection and the MLP both read
            out = apply_writes(hidden + out, writes, groups, "resid_mid") - hidden
        return out[None]

    def mlp_out(activation: Tensor, hook: Any) -> Tensor:
        rows = activation.reshape(-1, activation.shape[-1])
        return apply_writes(rows, writes, groups, "mlp_out").view_as(activation)

    hooks: list[tuple[str, Callable[..., Tensor]]] = []
    if sites & {"attn_out", "resid_mid"}:
        hooks.append(("hook_attn_out", attn_out))
    if "mlp_out" in sites:
        hooks.append(("hook_mlp_out", mlp_out))
    return hooks
