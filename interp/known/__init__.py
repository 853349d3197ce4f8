"""Models whose truth is known: programs compiled into transformer weights, and what each computes."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.known.causal import Program
    from interp.known.load import load_known, names
    from interp.known.truth import Truth, TruthEdge, TruthNode, Variable

__all__ = [
    "Program",
    "Truth",
    "TruthEdge",
    "TruthNode",
    "Variable",
    "load_known",
    "names",
]

attach(__name__)
