"""Forwards in which every receiver reads a stream of its own.

The residual stream is a sum: the embedding, what every head and every MLP has added, and constant
biases. Without an edge its receiver reads the stream in which the sender's term is replaced by another
one, before the receiver's norm (path patching, arXiv 2211.00593 and 2304.05969; in one batched forward
as in EAP, 2310.10348). So hooks note each sender's *difference* (what it would give minus what it gives
in this very run) and add, for every receiver, those of the edges that are gone::

    read[r] = stream + sum over s of gone[r, s] * (put[s] - given[s])

The block's own norm, and for heads its projections, are then applied to ``read[r]``; what the queries,
keys and values would have been is thrown away. A norm behind the attention (Gemma 2 and 3) acts on the
heads' sum and not on each of them: there the heads are exchanged before it, and the norm applied to
every receiver's own sum.

Memory: the differences, ``circuit x sender x pos x d_model``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs
from interp.circuits.edges import LOGITS, EdgeGraph
from interp.errors import InterpError
from interp.models.packed import TOLERANCE
from interp.models.rope import reset_rope
from interp.models.verdicts import model_state, remembered
from interp.models.wrapped import wrapped_logits
from interp.patching.hooked import Hook, hook_of

Norm: TypeAlias = Callable[[Tensor], Tensor]

_FINAL = "ln_final.hook_in"


@dataclass(frozen=True, eq=False)
class _Sent:
    """Differences of some senders; with a norm behind their sum, ``before`` is that sum."""

    differences: Float[Tensor, "circuit sender pos d_model"]
    before: Float[Tensor, "circuit pos d_model"] | None = None
    norm: Norm | None = None

    def read(
        self, gone: Float[Tensor, "circuit receiver sender"]
    ) -> Float[Tensor, "circuit receiver pos d_model"]:
        """What each receiver's stream is changed by."""
        differences = self.differences.expand(len(gone), -1, -1, -1)
        mixed = torch.einsum("crs,cspd->crpd", gone, differences)
        if self.norm is None or self.before is None:
            return mixed
        return _apply(self.norm, self.before[:, None] + mixed) - self.norm(self.before)[:, None]


class Streams:
    """The hooks of one batch of forwards with edges gone.

    Args:
        model: a bridge that :func:`require_edges` accepts.
        gone: by circuit and edge (the order of :meth:`EdgeGraph.edges`) how much of the sender's
            difference is read: 1 off the circuit, 0 on it. With ``requires_grad`` nothing is left out.
        put: what senders give along edges that are gone, at all positions; or with ``fixed`` the
            differences themselves.
        fixed: see ``put``.
        embeddings: replaces the residual stream before the first layer.
    """

    def __init__(
        self,
        model: TransformerBridge,
        gone: Float[Tensor, "circuit edge"],
        put: NodeOutputs,
        *,
        fixed: bool = False,
        embeddings: Float[Tensor, "circuit pos d_model"] | None = None,
    ) -> None:
        self._model, self._graph = model, EdgeGraph.of(model)
        self._gone, self._put, self._fixed = gone, put, fixed
        self._embeddings = embeddings
        self._sent: list[_Sent] = []
        self._stream = torch.empty(0)

    def hooks(self) -> list[Hook]:
        """TransformerLens hooks, for one forward."""
        hooks: list[Hook] = []
        for layer in range(self._graph.n_layers):
            hooks.append((hook_of("resid_pre", layer), self._at_layer(layer)))
            hooks += [
                (hook_of(name, layer), self._at_heads(layer, name)) for name in ("q", "k", "v")
            ]
            hooks.append((hook_of("z", layer), self._from_heads(layer)))
            hooks.append((mlp_input(self._model, layer), self._at_mlp(layer)))
            hooks.append((hook_of("mlp_out", layer), self._from_mlp(layer)))
        return [*hooks, (_FINAL, self._at_logits)]

    def _at_layer(self, layer: int) -> Callable[..., Tensor | None]:
        def note(activation: Tensor, hook: Any) -> Tensor | None:
            replaced = None if layer or self._embeddings is None else self._embeddings
            self._stream = activation if replaced is None else replaced.expand_as(activation)
            if layer == 0:
                own = self._difference(self._put.embed[0], self._stream)
                self._sent = [_Sent(own[:, None])]
            return None if replaced is None else self._stream

        return note

    def _at_heads(self, layer: int, name: str) -> Callable[..., Tensor | None]:
        def project(activation: Tensor, hook: Any) -> Tensor | None:
            streams = self._read(layer, name, self._stream)
            if streams is None:
                return None
            block = self._model.blocks[layer]
            return project_streams(block.attn, name, _apply(block.ln1, streams)).to(activation)

        return project

    def _from_heads(self, layer: int) -> Callable[..., None]:
        def note(z: Tensor, hook: Any) -> None:
            block = self._model.blocks[layer]
            weights = block.attn.W_O.to(z)
            own = self._difference(self._put.z[layer], z)
            differences = torch.einsum("cphe,hed->chpd", own, weights)
            norm = getattr(block, "ln1_post", None)
            before = None if norm is None else heads_sum(block.attn, z)
            self._sent.append(_Sent(differences, before, norm))

        return note

    def _at_mlp(self, layer: int) -> Callable[..., Tensor | None]:
        own_norm = hasattr(self._model.blocks[layer], "ln2")

        def read(activation: Tensor, hook: Any) -> Tensor | None:
            # before its norm the activation is the stream; without one of its own the MLP reads what
            # the attention reads
            streams = self._read(layer, "mlp", activation if own_norm else self._stream)
            if streams is None:
                return None
            return streams[:, 0] if own_norm else self._model.blocks[layer].ln1(streams[:, 0])

        return read

    def _from_mlp(self, layer: int) -> Callable[..., None]:
        def note(activation: Tensor, hook: Any) -> None:
            own = self._difference(self._put.mlp_out[layer], activation)
            self._sent.append(_Sent(own[:, None]))

        return note

    def _at_logits(self, activation: Tensor, hook: Any) -> Tensor | None:
        streams = self._read(self._graph.n_layers, LOGITS, activation)
        return None if streams is None else streams[:, 0]

    def _difference(self, put: Tensor, given: Tensor) -> Tensor:
        put = put[None].to(given)
        return put if self._fixed else put - given

    def _read(
        self, layer: int, name: str, stream: Float[Tensor, "circuit pos d_model"]
    ) -> Float[Tensor, "circuit receiver pos d_model"] | None:
        """The stream of every receiver of a kind; None where all read the model's own."""
        receivers = self._graph.receivers[layer, name]  # type: ignore[index]
        gone = self._gone[:, receivers.edges]
        if not gone.requires_grad and not bool(gone.any()):
            return None
        gone = gone.reshape(len(gone), len(receivers.labels), receivers.n_senders).to(stream)
        streams, start = stream[:, None], 0
        for sent in self._sent:
            if start == receivers.n_senders:
                break  # heads of the same layer, which an MLP in parallel does not read
            stop = start + sent.differences.shape[1]
            streams = streams + sent.read(gone[..., start:stop])
            start = stop
        return streams


def project_streams(
    attn: Any, name: str, normed: Float[Tensor, "circuit receiver pos d_model"]
) -> Float[Tensor, "circuit pos receiver d_head"]:
    """Queries, keys or values of heads that each read a stream of their own."""
    weights, bias = (getattr(attn, f"{kind}_{name.upper()}") for kind in ("W", "b"))
    found = torch.einsum("crpd,rde->cpre", normed, weights.to(normed))
    return found if bias is None else found + bias.to(normed)


def heads_sum(attn: Any, z: Float[Tensor, "circuit pos head d_head"]) -> Tensor:
    """The attention's output ``[circuit, pos, d_model]``, before a norm behind it."""
    found = torch.einsum("cphe,hed->cpd", z, attn.W_O.to(z))
    return found if attn.b_O is None else found + attn.b_O.to(z)


def mlp_input(model: TransformerBridge, layer: int) -> str:
    """The hook at which an MLP's own stream is put in: before its norm, if it has one of its own."""
    return f"blocks.{layer}.{'ln2' if hasattr(model.blocks[layer], 'ln2') else 'mlp'}.hook_in"


def _apply(norm: Norm, streams: Float[Tensor, "circuit receiver pos d_model"]) -> Tensor:
    return norm(streams.flatten(0, 1)).view_as(streams)


@torch.no_grad()
def require_edges(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> None:
    """Refuse a model whose stream is not the sum that edges are defined by, on one prompt.

    Compared are queries, keys and values with the block's own norm and weights, the MLPs' inputs, and
    every layer's stream with the terms added to it. What was compared before on this model (its hooks
    and weights) is not compared again.

    Raises:
        InterpError: names the layer, and what differs there.
    """
    compared = remembered(model, ("edges", model_state(model)), set)
    if compared:
        return
    found = _recorded(model, ids)
    for layer in range(int(model.cfg.n_layers)):
        for what, here, there, scale in _terms(model, layer, found):
            apart = (here - there).float().abs().max()
            if not apart <= TOLERANCE.get(model.cfg.dtype, 1e-2) * scale:
                raise _no_edges(model, f"{what} of layer {layer} (a hook on the model there?)")
    compared.add(True)


def _recorded(model: TransformerBridge, ids: Tensor) -> dict[str, Tensor]:
    """What the hooks of :class:`Streams` see in the run of one prompt."""
    found: dict[str, Tensor] = {}

    def noter(name: str) -> Callable[..., None]:
        def note(activation: Tensor, hook: Any) -> None:
            found[name] = activation.detach()

        return note

    names = [_FINAL]
    for layer, block in enumerate(model.blocks):
        if not hasattr(block, "ln1") or not all(hasattr(block.attn, f"W_{n}") for n in "QKVO"):
            raise _no_edges(model, f"layer {layer}, without a norm or weights per head")
        names += [hook_of(site, layer) for site in ("resid_pre", "q", "k", "v", "z", "mlp_out")]
        names.append(mlp_input(model, layer))
    reset_rope(model)
    with model.hooks(fwd_hooks=[(name, noter(name)) for name in names]):
        wrapped_logits(model, ids[None].to(model.cfg.device), logits_to_keep=1)
    return found


def _terms(
    model: TransformerBridge, layer: int, found: dict[str, Tensor]
) -> list[tuple[str, Tensor, Tensor, float]]:
    """What is compared of a layer: name, from its terms, as it is, and the size of what is summed."""
    block, graph = model.blocks[layer], EdgeGraph.of(model)
    stream, z = found[hook_of("resid_pre", layer)], found[hook_of("z", layer)]
    normed = block.ln1(stream)
    attention = heads_sum(block.attn, z)
    if hasattr(block, "ln1_post"):
        attention = block.ln1_post(attention)
    compared = []
    for name in ("q", "k", "v"):
        n = len(graph.receivers[layer, name].labels)
        streams = normed[:, None].expand(-1, n, -1, -1)
        own = project_streams(block.attn, name, streams)
        # terms may cancel, so that their sum is no measure of how far it may be rounded
        scale = _size(normed) * _size(getattr(block.attn, f"W_{name.upper()}").transpose(1, 2))
        compared.append((name, own, found[hook_of(name, layer)], scale + _size(own)))
    read = stream if graph.parallel else stream + attention
    read = read if hasattr(block, "ln2") else normed
    parts = [stream, attention, found[hook_of("mlp_out", layer)]]
    scale = sum(_size(part) for part in parts)
    of_norm = scale if hasattr(block, "ln2") else _size(normed)
    compared.append(("the MLP's input", read, found[mlp_input(model, layer)], of_norm))
    last = layer == graph.n_layers - 1
    after = found[_FINAL] if last else found[hook_of("resid_pre", layer + 1)]
    return [*compared, ("the stream behind it", parts[0] + parts[1] + parts[2], after, scale)]


def _size(rows: Float[Tensor, "*row d"]) -> float:
    """The norm of the longest row."""
    return float(rows.float().norm(dim=-1).max())


def _no_edges(model: TransformerBridge, where: str) -> InterpError:
    return InterpError(
        f"edges of {type(model.original_model).__name__}: what is read is not the sum of the "
        f"embedding, heads and MLPs at {where}: circuits of nodes remain"
    )
