"""Gradients of metrics at the activations of a run, one backward per metric.

The option margin is read in one forward per option (:mod:`interp.patching.branches`): the gradient at
an activation of the prompt, which is the same in both, is the sum of theirs.

With ``method="relp"`` the same backward gives the coefficients of relevance propagation
(:mod:`interp.patching.relevance`), which stand where the gradients stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading
from interp.patching.hooked import Hook, hook_of, require_one_prompt
from interp.patching.metrics import Metric, apply_metrics, reading_of
from interp.patching.relevance import relevance_rules, require_relevance
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair

Node: TypeAlias = tuple[str, int]
"""A site of a layer."""


@torch.no_grad()
def read_states(
    model: TransformerBridge,
    reading: Reading,
    nodes: Sequence[Node],
    rows: Int[Tensor, " row"],
) -> tuple[dict[Node, Tensor], Float[Tensor, "read d_vocab"]]:
    """Activations of every node at some positions of the prompt, and the logits that are read."""
    require_one_prompt(model, reading)
    states: dict[Node, Tensor] = {}
    logits: list[Tensor] = []
    for forward, read in zip(reading.forwards, reading.reads(), strict=True):
        # every forward has the prompt's states; the first one's serve
        hooks = [] if logits else _readers(nodes, rows, len(reading.prompt), states)
        with model.hooks(fwd_hooks=hooks):
            logits.append(logits_at(model, forward.ids, read))
    _require_finite(states, "activation")
    return states, torch.cat(logits)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """A run with its gradients, at the positions asked for: ``gradients[node] [metric, pos, ...]``."""

    states: dict[Node, Tensor]
    gradients: dict[Node, Tensor]
    logits: Float[Tensor, "read d_vocab"]


def differentiate(
    model: TransformerBridge,
    pair: PromptPair,
    nodes: Sequence[Node],
    rows: Int[Tensor, " row"],
    metrics: Mapping[str, Metric],
    embeddings: Float[Tensor, "1 pos d_model"] | None = None,
    method: AttributionMethod = "gradient",
) -> Derivatives:
    """Forwards and backwards of the destination, from given embeddings if there are any.

    The option margin has a forward for either option. A patch sets the prompt's activation in both,
    so its gradient is the sum of theirs.
    """
    reading = reading_of(pair.destination.ids, pair, metrics)
    require_one_prompt(model, reading)
    require_rules(model, method, reading.prompt)
    n = len(reading.prompt)
    start = hook_of("resid_pre", min((layer for _, layer in nodes), default=0))
    names = {node: _gradient_hook(*node) for node in nodes}
    states: dict[Node, Tensor] = {}
    kept: list[dict[str, Tensor]] = []

    def replace(activation: Tensor, hook: Any) -> Tensor:
        assert embeddings is not None  # the condition of this hook
        return torch.cat([embeddings, activation[:, n:]], dim=1)

    def keeper(name: str) -> Callable[..., Tensor]:
        def keep(activation: Tensor, hook: Any) -> Tensor:
            # A hook may be handed a reshaped copy; what it returns is on the way to the logits.
            # Nothing before the first layer wanted needs a gradient, so the graph starts there.
            fresh = activation.detach().requires_grad_() if name == start else activation.clone()
            kept[-1][name] = fresh
            return fresh

        return keep

    hooks: list[Hook] = [(hook_of("resid_pre", 0), replace)] if embeddings is not None else []
    hooks += _readers(nodes, rows, n, states)
    hooks += [(name, keeper(name)) for name in dict.fromkeys([start, *names.values()])]
    read_logits = []
    with torch.enable_grad():
        for forward, read in zip(reading.forwards, reading.reads(), strict=True):
            kept.append({})
            with model.hooks(fwd_hooks=hooks), rules_of(model, method):
                read_logits.append(logits_at(model, forward.ids, read))
        logits = torch.cat(read_logits)
        values = {m: v.sum() for m, v in apply_metrics(metrics, logits[None], pair).items()}
    gradients = _backward(values, kept)
    found = {}
    for node, name in names.items():
        by_metric = [
            sum(_rows(node[0], part, n)[rows.to(part.device)] for part in parts)
            for parts in gradients[name]
        ]
        found[node] = torch.stack([torch.as_tensor(total) for total in by_metric]).float()
    _require_finite(found, "gradient")
    return Derivatives(states, found, logits.detach())


def rules_of(model: TransformerBridge, method: AttributionMethod) -> AbstractContextManager[Any]:
    """What a forward runs under, for the backward of a method."""
    return relevance_rules(model) if method == "relp" else nullcontext()


def require_rules(
    model: TransformerBridge, method: AttributionMethod, ids: Int[Tensor, " pos"]
) -> None:
    """Refuse a model for which a method has no rules.

    Raises:
        InterpError: as :func:`interp.patching.relevance.require_relevance`.
    """
    if method == "relp":
        require_relevance(model, ids)


def require_gradient(name: str, value: Tensor) -> None:
    """Refuse a metric that no gradient reaches."""
    if not value.requires_grad:
        raise InterpError(
            f"metric {name} has no gradient: compute it from the logits with torch, without "
            "detach, argmax or item"
        )


def _backward(
    values: Mapping[str, Tensor], kept: Sequence[Mapping[str, Tensor]]
) -> dict[str, list[list[Tensor]]]:
    """By hook, for every metric its gradients at the activations kept of the forwards it reads.

    Raises:
        InterpError: a metric or an activation that no gradient reaches.
    """
    found: dict[str, list[list[Tensor]]] = {name: [] for name in kept[0]}
    activations = [(name, tensor) for forward in kept for name, tensor in forward.items()]
    left = len(values)
    for name, value in values.items():
        require_gradient(name, value)
        left -= 1
        gradients = torch.autograd.grad(
            value, [tensor for _, tensor in activations], retain_graph=left > 0, allow_unused=True
        )
        for hook in found:
            reached = [
                gradient
                for (at, _), gradient in zip(activations, gradients, strict=True)
                if at == hook and gradient is not None
            ]
            if not reached:
                raise InterpError(
                    f"metric {name} does not depend on {hook}: this model's hook there is not on "
                    "the way to the logits; leave the site out"
                )
            found[hook].append(reached)
    return found


def along_path(
    model: TransformerBridge,
    pair: PromptPair,
    nodes: Sequence[Node],
    rows: Int[Tensor, " row"],
    metrics: Mapping[str, Metric],
    steps: int,
) -> dict[Node, Tensor]:
    """Mean gradients at the midpoints of the line between both runs' embeddings."""
    first: Node = ("resid_pre", 0)
    everywhere = torch.arange(len(pair.destination))
    source, destination = (
        read_states(model, reading_of(prompt.ids, pair, {}), [first], everywhere)[0][first][None]
        for prompt in (pair.source, pair.destination)
    )
    total: dict[Node, Tensor] = {}
    for step in range(steps):
        embeddings = destination + (step + 0.5) / steps * (source - destination)
        run = differentiate(model, pair, nodes, rows, metrics, embeddings)
        for node, gradient in run.gradients.items():
            total[node] = total[node] + gradient if node in total else gradient
    return {node: gradient / steps for node, gradient in total.items()}


def _readers(
    nodes: Sequence[Node], rows: Int[Tensor, " row"], n: int, states: dict[Node, Tensor]
) -> list[Hook]:
    """Hooks that note every node's activation at some positions of the ``n`` of a prompt."""

    def reader(node: Node) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any) -> None:
            states[node] = _rows(node[0], activation.detach(), n)[rows.to(activation.device)]

        return read

    return [(hook_of(*node), reader(node)) for node in nodes]


def _rows(site: str, activation: Tensor, n: int) -> Tensor:
    """An activation by position of the query, ``[pos, ...]``; of a pattern the prompt's keys."""
    # a prompt's position attends to nothing behind it, so the keys left out are zeros
    return activation[0].transpose(0, 1)[..., :n] if site == "pattern" else activation[0]


def _gradient_hook(site: str, layer: int) -> str:
    """Where a node's gradient is taken.

    ``hook_resid_mid`` sits on the MLP's input and misses the skip connection; the attention's
    output is added into the stream there, so that both have the same gradient.
    """
    return hook_of("attn_out" if site == "resid_mid" else site, layer)


def logits_at(
    model: TransformerBridge, ids: Int[Tensor, " pos"], read: Int[Tensor, " read"]
) -> Float[Tensor, "read d_vocab"]:
    """Logits of one forward at some positions, with a graph where gradients are on."""
    reset_rope(model)
    device = model.cfg.device
    # copies, because a tensor that was made under inference_mode can be in no graph
    ids, read = ids.clone()[None].to(device), read.clone().to(device)
    return wrapped_logits(model, ids, logits_to_keep=read)[0].float()


def _require_finite(values: Mapping[Node, Tensor], what: str) -> None:
    for (site, layer), value in values.items():
        require_finite(value, hook_of(site, layer), f"the {what}")
