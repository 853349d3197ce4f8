"""Circuits of heads and MLPs: how faithful they are to the model, and which tests they pass."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.circuits.ablation import NodeOutputs, mean_outputs
    from interp.circuits.areas import MIB_SHARES, cmd, cpr
    from interp.circuits.auroc import edge_auroc, node_auroc
    from interp.circuits.checks import CheckedCircuits, CircuitTests, check_circuit
    from interp.circuits.curve import FaithfulnessCurve, faithfulness_curve
    from interp.circuits.graphml import graphml_of, write_graphml
    from interp.circuits.hypotheses import (
        CircuitTest,
        circuit_equivalence,
        circuit_independence,
        circuit_minimality,
        circuit_sufficiency,
    )
    from interp.circuits.joint import JointAblation, faithfulness_by_ablation, joint_ablation
    from interp.circuits.names import Ablation, OverPairs, ScoreMethod
    from interp.circuits.nodes import CircuitNode, circuit_nodes, top_nodes
    from interp.circuits.random_draws import RandomCircuits, random_circuits
    from interp.circuits.runs import CircuitRuns, run_circuits
    from interp.circuits.scores import node_scores

__all__ = [
    "MIB_SHARES",
    "Ablation",
    "CheckedCircuits",
    "CircuitNode",
    "CircuitRuns",
    "CircuitTest",
    "CircuitTests",
    "FaithfulnessCurve",
    "JointAblation",
    "NodeOutputs",
    "OverPairs",
    "RandomCircuits",
    "ScoreMethod",
    "check_circuit",
    "circuit_equivalence",
    "circuit_independence",
    "circuit_minimality",
    "circuit_nodes",
    "circuit_sufficiency",
    "cmd",
    "cpr",
    "edge_auroc",
    "faithfulness_by_ablation",
    "faithfulness_curve",
    "graphml_of",
    "joint_ablation",
    "mean_outputs",
    "node_auroc",
    "node_scores",
    "random_circuits",
    "run_circuits",
    "top_nodes",
    "write_graphml",
]

attach(__name__)
