"""Models whose truth is known: programs compiled into transformer weights, and trained models."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.known.asked import asked_task
    from interp.known.asked_task import AskedTask
    from interp.known.asked_truth import AskedTruth, asked_truth
    from interp.known.causal import Program
    from interp.known.load import load_known, names
    from interp.known.task import ToyTask
    from interp.known.trained import load_trained, trained_names
    from interp.known.trained_truth import TrainedTruth, open_truth
    from interp.known.truth import Truth, TruthEdge, TruthNode, Variable

__all__ = [
    "AskedTask",
    "AskedTruth",
    "Program",
    "ToyTask",
    "TrainedTruth",
    "Truth",
    "TruthEdge",
    "TruthNode",
    "Variable",
    "asked_task",
    "asked_truth",
    "load_known",
    "load_trained",
    "names",
    "open_truth",
    "trained_names",
]

attach(__name__)
