"""Circuits of heads and MLPs, or of edges: how faithful they are, and which tests they pass."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.circuits.ablation import NodeOutputs, mean_outputs
    from interp.circuits.areas import MIB_SHARES, cmd, cpr
    from interp.circuits.auroc import edge_auroc, node_auroc
    from interp.circuits.checks import CheckedCircuits, CircuitTests, check_circuit
    from interp.circuits.curve import FaithfulnessCurve, faithfulness_curve
    from interp.circuits.edges import CircuitEdge, circuit_edges
    from interp.circuits.graphml import graphml_of, write_graphml
    from interp.circuits.hypotheses import (
        CircuitTest,
        circuit_equivalence,
        circuit_independence,
        circuit_minimality,
        circuit_sufficiency,
    )
    from interp.circuits.joint import JointAblation, faithfulness_by_ablation, joint_ablation
    from interp.circuits.names import Ablation, OverPairs, ScoreMethod, UnitKind
    from interp.circuits.nodes import CircuitNode, circuit_nodes
    from interp.circuits.random_draws import RandomCircuits, random_circuits
    from interp.circuits.runs import CircuitRuns, run_circuits
    from interp.circuits.scores import edge_scores, node_scores
    from interp.circuits.units import CircuitUnit, circuit_units, top_units

__all__ = [
    "MIB_SHARES",
    "Ablation",
    "CheckedCircuits",
    "CircuitEdge",
    "CircuitNode",
    "CircuitRuns",
    "CircuitTest",
    "CircuitTests",
    "CircuitUnit",
    "FaithfulnessCurve",
    "JointAblation",
    "NodeOutputs",
    "OverPairs",
    "RandomCircuits",
    "ScoreMethod",
    "UnitKind",
    "check_circuit",
    "circuit_edges",
    "circuit_equivalence",
    "circuit_independence",
    "circuit_minimality",
    "circuit_nodes",
    "circuit_sufficiency",
    "circuit_units",
    "cmd",
    "cpr",
    "edge_auroc",
    "edge_scores",
    "faithfulness_by_ablation",
    "faithfulness_curve",
    "graphml_of",
    "joint_ablation",
    "mean_outputs",
    "node_auroc",
    "node_scores",
    "random_circuits",
    "run_circuits",
    "top_units",
    "write_graphml",
]

attach(__name__)
