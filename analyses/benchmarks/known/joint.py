"""What the nodes of several routes do alone and together: the sign of back-up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.known import Truth, TruthNode
from interp.patching import Cell, Patch, PatchedRuns
from interp.prompts import PromptPair


def joint_row(
    model: TransformerBridge, truth: Truth, pairs: Sequence[PromptPair]
) -> dict[str, float]:
    """Mean |effect| of the backed-up nodes taken out of the instructed run: each alone, and all.

    ``largest_single``: of one node; ``sum_of_singles``: of their effects; ``joint``: of all at once.
    Where another route suffices the first two are nothing, and the last is the whole effect.
    """
    names = [name for group in truth.program.backups for name in group]
    nodes = list({truth.node_of(name).label: truth.node_of(name) for name in names}.values())
    singles = [_effect(model, pairs, [node]) for node in nodes]
    return {
        "largest_single": max(float(one.abs().mean()) for one in singles),
        "sum_of_singles": float(torch.stack(singles).sum(0).abs().mean()),
        "joint": float(_effect(model, pairs, nodes).abs().mean()),
    }


def _effect(
    model: TransformerBridge, pairs: Sequence[PromptPair], nodes: Sequence[TruthNode]
) -> Float[Tensor, " pair"]:
    """Change of the source's margin where these nodes are the destination's at every position."""
    return torch.stack([_changed(model, pair.swap(), nodes) for pair in pairs])


def _changed(
    model: TransformerBridge, pair: PromptPair, nodes: Sequence[TruthNode]
) -> Float[Tensor, ""]:
    """Change of the destination's margin where these nodes are the source's at every position."""
    hooks = {node.hook for node in nodes}
    _, cache = model.run_with_cache(pair.source.ids[None], names_filter=lambda n: n in hooks)
    positions = torch.arange(len(pair.destination))
    patches = tuple(_patch(node, cache[node.hook][0], positions) for node in nodes)
    runs = PatchedRuns(model, [pair.destination.ids], [positions[-1:]])
    patched: list[Tensor] = []
    runs.run([Cell(0, patches)], lambda indices, logits: patched.append(logits[0, 0]))
    change = patched[0] - runs.logits[0][0]
    assert pair.target is not None
    return change[pair.target.a] - change[pair.target.b]


def _patch(node: TruthNode, values: Tensor, positions: Tensor) -> Patch:
    if node.head is None:
        return Patch(node.layer, "mlp_out", positions, values)
    return Patch(node.layer, "z", positions, values[:, [node.head]], heads=(node.head,))
