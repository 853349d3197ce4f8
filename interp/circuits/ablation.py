"""What takes the place of a node that is not in the circuit.

``resample``: the node's output in the placebo's run, position by position, so that the two prompts have
to be aligned by index. ``mean``: its mean over the placebo prompts of all pairs and over positions; the
first position has a mean of its own, because its states are those of an attention sink and far from all
others. ``zero``: nothing. A head's output is ``hook_z`` (a mean or zero there leaves the bias of the
output projection in place), an MLP's ``hook_mlp_out``. The embedding's, which only edges replace, is the
residual stream before the first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.names import Ablation
from interp.display import short_repr
from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading
from interp.patching.hooked import hook_of
from interp.patching.plan import require_site
from interp.prompts import PromptPair
from interp.prompts.align import EQUAL_LENGTHS


@dataclass(frozen=True, eq=False)
class NodeOutputs:
    """What every node writes at some positions; the first axis is the layer.

    ``z`` of the heads before the output projection, ``mlp_out`` of the MLPs, and ``embed`` of the
    embedding, token and position together.
    """

    z: Float[Tensor, "layer pos head d_head"]
    mlp_out: Float[Tensor, "layer pos d_model"]
    embed: Float[Tensor, "1 pos d_model"]

    __repr__ = short_repr

    def at(self, rows: Int[Tensor, " pos"]) -> NodeOutputs:
        """The outputs at some positions."""
        return NodeOutputs(self.z[:, rows], self.mlp_out[:, rows], self.embed[:, rows])

    def minus(self, other: NodeOutputs) -> NodeOutputs:
        """The difference to other outputs at the same positions."""
        return NodeOutputs(self.z - other.z, self.mlp_out - other.mlp_out, self.embed - other.embed)


@torch.no_grad()
def record_outputs(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> NodeOutputs:
    """The outputs of all nodes in the run of one prompt."""
    found: dict[str, list[Tensor]] = {"z": [], "mlp_out": [], "resid_pre": []}

    def reader(site: str) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any) -> None:
            found[site].append(activation[0].detach())

        return read

    layers = range(int(model.cfg.n_layers))
    hooks = [(hook_of(site, layer), reader(site)) for layer in layers for site in ("z", "mlp_out")]
    hooks.append((hook_of("resid_pre", 0), reader("resid_pre")))
    reset_rope(model)
    with model.hooks(fwd_hooks=hooks):
        wrapped_logits(model, ids[None].to(model.cfg.device), logits_to_keep=1)
    for site, outputs in found.items():
        for layer, values in enumerate(outputs):
            require_finite(values, hook_of(site, layer), "the run of a placebo")
    return NodeOutputs(*(torch.stack(found[site]) for site in ("z", "mlp_out", "resid_pre")))


def mean_outputs(model: TransformerBridge, pairs: Sequence[PromptPair]) -> NodeOutputs:
    """Mean outputs over the pairs' destination prompts: row 0 of the first position, row 1 of the rest.

    Every pair counts alike at the first position, every token alike at the others.

    Raises:
        InterpError: no pairs.
    """
    if not pairs:
        raise InterpError("no pairs to take a mean of: the list is empty")
    totals: list[Tensor] = []
    for pair in pairs:
        outputs = record_outputs(model, pair.destination.ids)
        own = [_sums(values) for values in (outputs.z, outputs.mlp_out, outputs.embed)]
        totals = [a + b for a, b in zip(totals, own, strict=True)] if totals else own
    n = torch.tensor([len(pairs), max(sum(len(pair.destination) - 1 for pair in pairs), 1)])
    means = [(total.transpose(1, -1) / n).transpose(1, -1).float().cpu() for total in totals]
    return NodeOutputs(*means)


def _sums(values: Tensor) -> Tensor:
    """``[layer, 2, ...]``: the first position, and the sum of all others, in float64."""
    values = values.cpu().double()
    return torch.stack([values[:, 0], values[:, 1:].sum(1)], dim=1)


def ablated_outputs(
    model: TransformerBridge,
    ablation: Ablation,
    source: Reading,
    destination: Reading,
    means: NodeOutputs | None,
) -> list[NodeOutputs]:
    """What replaces the nodes' outputs in each forward of the source's reading, at all positions."""
    if ablation == "resample":
        return [record_outputs(model, forward.ids) for forward in destination.forwards]
    found = []
    for forward in source.forwards:
        if ablation == "mean":
            assert means is not None  # made by the caller
            found.append(means.at((torch.arange(len(forward.ids)) > 0).long()))
            continue
        cfg, n = model.cfg, len(forward.ids)
        heads = torch.zeros(int(cfg.n_layers), n, int(cfg.n_heads), 1)
        mlps, embed = (torch.zeros(k, n, 1) for k in (int(cfg.n_layers), 1))
        found.append(NodeOutputs(heads, mlps, embed))
    return found


def require_ablation(
    model: TransformerBridge, pairs: Sequence[PromptPair], ablation: Ablation
) -> None:
    """Refuse what cannot be ablated so.

    Raises:
        InterpError: no pairs, an unknown ablation, prompts that are not aligned by index where the
            placebo's outputs are put in, or a model without hooks at the heads' or MLPs' outputs.
    """
    if not pairs:
        raise InterpError("no pairs to run circuits on: the list is empty")
    if ablation not in get_args(Ablation):
        raise InterpError(f"no ablation {ablation!r}; known: {', '.join(get_args(Ablation))}")
    unequal = [pair for pair in pairs if not pair.alignment.by_index]
    if unequal and ablation == "resample":
        raise InterpError(
            f"{len(unequal)} of {len(pairs)} pairs are not aligned by index (first: "
            f"{unequal[0].label}), so that a node's output has no counterpart at every position: "
            f"{EQUAL_LENGTHS}, or ablation='mean' or 'zero'"
        )
    for site in ("z", "mlp_out"):
        require_site(model, site)
