from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from interp.circuits import (
    CircuitNode,
    circuit_nodes,
    faithfulness_by_ablation,
    joint_ablation,
    run_circuits,
)
from interp.circuits.units import mask_of
from interp.errors import InterpError
from tests.circuits.by_hand import margin_of, pairs_of
from tests.known.interchange import answers_differ, known, pair_of, random_pairs

TWO = [CircuitNode(0, 1), CircuitNode(1)]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_losses_are_those_of_hooks_on_the_nodes(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    pairs, every = pairs_of(model), set(circuit_nodes(model))
    found = joint_ablation(model, pairs, TWO, progress=False)

    def without(*nodes: CircuitNode) -> list[float]:
        return [margin_of(model, pair, every - set(nodes), "resample") for pair in pairs]

    full = np.array(without())
    for k, node in enumerate(found.units):
        np.testing.assert_allclose(found.single[k], full - without(node), atol=1e-4)
    np.testing.assert_allclose(found.joint, full - without(*TWO), atol=1e-4)
    table = found.to_dataframe().set_index("without")["estimate"]
    assert list(table.index) == [*map(str, found.units), "sum", "joint", "joint - sum"]
    assert table["joint - sum"] == pytest.approx(table["joint"] - table["sum"], abs=1e-6)


def test_routes_that_back_each_other_up_are_seen_together() -> None:
    model, truth = known("either_route", "rotated")
    hidden = [truth.node_of(name) for group in truth.program.backups for name in group]
    nodes = [CircuitNode(node.layer, node.head) for node in hidden]
    asked = [
        (truth.ids(["flip", c, o, "?"]), truth.ids(["plain", c, o, "?"]))
        for c in "ab"
        for o in ("a", "b")
    ]
    pairs = [pair_of(model, truth, *both) for both in asked]
    found = joint_ablation(model, pairs, nodes, progress=False)
    assert np.abs(found.single).max() < 1e-3
    assert found.joint == pytest.approx(2.0, abs=1e-3)
    assert found.backed_up
    # a pair of routes that add up is none
    model, truth = known("sum_of_routes", "rotated")
    pairs = [pair_of(model, truth, *both) for both in random_pairs(truth, 6, answers_differ(truth))]
    nodes = [
        CircuitNode(truth.node_of(v).layer, truth.node_of(v).head) for v in truth.program.shares
    ]
    found = joint_ablation(model, pairs, nodes, progress=False)
    assert found.joint == pytest.approx(found.single.sum(0), abs=1e-3)
    assert not found.backed_up


def test_one_node_is_nothing_to_compare(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gpt2")
    with pytest.raises(InterpError, match="at least two nodes"):
        joint_ablation(model, pairs_of(model), TWO[:1], progress=False)


def test_faithfulness_is_told_for_every_ablation_value(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    pairs, nodes = pairs_of(model), circuit_nodes(model)
    table = faithfulness_by_ablation(model, pairs, nodes[:9], progress=False)
    assert table["ablation"].tolist() == ["resample", "mean", "zero"]
    for row in table.to_dict("records"):
        runs = run_circuits(
            model, pairs, mask_of(nodes[:9], nodes)[None], ablation=row["ablation"], progress=False
        )
        assert np.isnan(row["estimate"]) or row["estimate"] == pytest.approx(
            float(runs.faithfulness()[0])
        )
