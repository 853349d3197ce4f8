"""The nodes of a circuit: every attention head and every MLP of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class CircuitNode:
    """An attention head, or with ``head=None`` the MLP of a layer."""

    layer: int
    head: int | None = None

    @property
    def label(self) -> str:
        """``L3H2`` or ``L3 MLP``."""
        return f"L{self.layer} MLP" if self.head is None else f"L{self.layer}H{self.head}"

    def __str__(self) -> str:
        return self.label


def circuit_nodes(model: TransformerBridge) -> tuple[CircuitNode, ...]:
    """All heads and MLPs of a model: by layer, the heads before the MLP."""
    heads = [*range(int(model.cfg.n_heads)), None]
    return tuple(CircuitNode(layer, h) for layer in range(int(model.cfg.n_layers)) for h in heads)


def node_of_row(row: Any) -> CircuitNode:
    """The node that a row (a mapping or a Series) names by ``layer`` and ``head``."""
    return CircuitNode(int(row["layer"]), None if pd.isna(row["head"]) else int(row["head"]))
