"""The edges of a circuit: which node's output reaches which node's input.

An edge leads from a *sender* (the embedding, token and position together; a head; an MLP) to an input
that reads the residual stream behind it (a *receiver*): the queries, keys or values of a head, the input
of an MLP, or the logits. This is the graph of ACDC (arXiv 2304.14997), EAP (2310.10348) and MIB
(2504.13151). An edge is one for all positions.

With grouped queries the heads of a group share keys and values, so that an edge into these leads to the
group (``L3KV0``). Where attention and MLP stand in parallel, no edge leads from a layer's heads to its
MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias, get_args

from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.nodes import CircuitNode

EdgeInput: TypeAlias = Literal["q", "k", "v", "mlp", "logits"]
"""What an edge leads into."""

EMBEDDING: Final = "embed"
LOGITS: Final = "logits"


@dataclass(frozen=True)
class CircuitEdge:
    """A sender's label, a receiver's, and which of its inputs.

    ``source`` is ``embed`` or the label of a node, ``destination`` that of a node, of a group of key
    and value heads (``L3KV0``) or ``logits``; ``input`` is one of :data:`EdgeInput`.
    """

    source: str
    destination: str
    input: str

    @property
    def label(self) -> str:
        """``L0H1 -> L2H3 (q)``."""
        return f"{self.source} -> {self.destination} ({self.input})"

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class Receivers:
    """The inputs of one kind in a layer, which all read the first ``n_senders`` senders.

    Their edges are ``edges`` of the model's, by receiver and then by sender.
    """

    layer: int
    input: EdgeInput
    labels: tuple[str, ...]
    n_senders: int
    edges: slice


@dataclass(frozen=True)
class EdgeGraph:
    """All senders and receivers of a model, in the order in which it computes them."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool

    @classmethod
    def of(cls, model: TransformerBridge) -> EdgeGraph:
        """The graph of a model."""
        cfg = model.cfg
        n_heads = int(cfg.n_heads)
        grouped = getattr(cfg, "n_key_value_heads", None)
        parallel = bool(getattr(cfg, "parallel_attn_mlp", False))
        return cls(int(cfg.n_layers), n_heads, int(grouped or n_heads), parallel)

    @cached_property
    def senders(self) -> tuple[str, ...]:
        """The embedding, then by layer the heads before the MLP."""
        heads = [*range(self.n_heads), None]
        nodes = (CircuitNode(layer, head) for layer in range(self.n_layers) for head in heads)
        return (EMBEDDING, *(node.label for node in nodes))

    @cached_property
    def receivers(self) -> dict[tuple[int, EdgeInput], Receivers]:
        """By layer and input: ``q``, ``k``, ``v``, ``mlp`` of a layer; the logits behind the last."""
        found: dict[tuple[int, EdgeInput], Receivers] = {}
        start = 0
        places: list[tuple[int, EdgeInput]] = [
            (layer, name) for layer in range(self.n_layers) for name in get_args(EdgeInput)[:-1]
        ]
        for layer, name in [*places, (self.n_layers, LOGITS)]:
            labels = self._labels(layer, name)
            n_senders = 1 + layer * (self.n_heads + 1)
            if name == "mlp" and not self.parallel:
                n_senders += self.n_heads
            stop = start + len(labels) * n_senders
            found[layer, name] = Receivers(layer, name, labels, n_senders, slice(start, stop))
            start = stop
        return found

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return self.receivers[self.n_layers, LOGITS].edges.stop

    def edges(self) -> tuple[CircuitEdge, ...]:
        """All edges, receivers in the order of the forward."""
        return tuple(
            CircuitEdge(source, destination, receivers.input)
            for receivers in self.receivers.values()
            for destination in receivers.labels
            for source in self.senders[: receivers.n_senders]
        )

    def _labels(self, layer: int, name: EdgeInput) -> tuple[str, ...]:
        if name == LOGITS:
            return (LOGITS,)
        if name == "mlp":
            return (CircuitNode(layer).label,)
        if name != "q" and self.n_kv_heads != self.n_heads:
            return tuple(f"L{layer}KV{group}" for group in range(self.n_kv_heads))
        return tuple(CircuitNode(layer, head).label for head in range(self.n_heads))


def circuit_edges(model: TransformerBridge) -> tuple[CircuitEdge, ...]:
    """All edges of a model, receivers in the order of the forward: see :mod:`interp.circuits.edges`.

    About ``n_layers^2 n_heads (n_heads + 2 n_kv_heads) / 2`` of them: 83,000 in a model of 24 layers, 14
    heads and 2 key and value heads.
    """
    return EdgeGraph.of(model).edges()
