"""Prompts merged at their equal beginnings: a tree over token ids, laid out as one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.display import short_repr


@dataclass(frozen=True, eq=False)
class PackedPrompts:
    """Token sequences merged into a tree, laid out parents first.

    ``nodes[s][p]`` is the node that holds position ``p`` of sequence ``s``; ``depth`` is that
    node's position in each of its sequences.
    """

    ids: Int[Tensor, " node"]
    depth: Int[Tensor, " node"]
    nodes: tuple[Int[Tensor, " _pos"], ...]

    __repr__ = short_repr

    def mask(self) -> Bool[Tensor, "node node"]:
        """``mask[i, j]``: node i sees node j, that is, j is i or an ancestor of i."""
        n = len(self.ids)
        mask = torch.zeros(n, n, dtype=torch.bool)
        for path in self.nodes:
            causal = torch.ones(len(path), len(path), dtype=torch.bool).tril()
            mask[path[:, None], path[None, :]] |= causal
        return mask


def pack(
    sequences: Sequence[Int[Tensor, " _pos"]], *, share_until: int | None = None
) -> PackedPrompts:
    """Merge equal beginnings into one tree.

    Args:
        sequences: token ids, one tensor per prompt.
        share_until: nodes at this position and later are never shared, even when the ids are equal
            (for interventions that differ between copies of one prompt). None: share all.
    """
    ids: list[int] = []
    depth: list[int] = []
    children: dict[tuple[int, int], int] = {}
    nodes: list[Tensor] = []
    for sequence in sequences:
        path: list[int] = []
        parent = -1
        for position, token in enumerate(sequence.tolist()):
            shared = share_until is None or position < share_until
            node = children.get((parent, token)) if shared else None
            if node is None:
                node = len(ids)
                ids.append(token)
                depth.append(position)
                if shared:
                    children[(parent, token)] = node
            path.append(node)
            parent = node
        nodes.append(torch.tensor(path, dtype=torch.long))
    return PackedPrompts(
        ids=torch.tensor(ids, dtype=torch.long),
        depth=torch.tensor(depth, dtype=torch.long),
        nodes=tuple(nodes),
    )
