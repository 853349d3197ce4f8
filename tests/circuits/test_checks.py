from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from interp.circuits import CheckedCircuits, CircuitNode, check_circuit, circuit_nodes
from interp.errors import InterpError
from tests.circuits.by_hand import pairs_of
from tests.known.interchange import answers_differ, known, pair_of, random_pairs


def test_the_circuits_that_tests_need() -> None:
    own = np.array([True, False, True, False, False])
    checked = CheckedCircuits.of(own, n_random=2, seed=0)
    assert checked.without.tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert (checked.inflated.sum(1) == 3).all()
    assert len(checked.inflated) == 2
    assert len(np.unique(checked.inflated, axis=0)) == 2
    assert (checked.random.sum(1) == 2).all()
    assert len(CheckedCircuits.of(own, n_random=50).inflated) == 3  # every node outside, once
    assert np.array_equal(checked.masks, CheckedCircuits.of(own, n_random=2, seed=0).masks)
    assert np.array_equal(checked.masks[1], ~own)
    for wrong in (np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(InterpError, match="cannot be tested"):
            CheckedCircuits.of(wrong)
    with pytest.raises(InterpError, match="n_random is 0"):
        CheckedCircuits.of(own, n_random=0)


@pytest.mark.parametrize(
    ("name", "variant"), [("detect_abc", "rotated"), ("either_route", "compiled")]
)
def test_the_true_circuit_of_a_known_model_passes_and_a_padded_one_is_not_minimal(
    name: str, variant: str
) -> None:
    model, truth = known(name, variant)
    drawn = random_pairs(truth, 12, answers_differ(truth))
    pairs = [pair_of(model, truth, source, to) for source, to in drawn]
    nodes = circuit_nodes(model)
    true = [CircuitNode(node.layer, node.head) for node in truth.used_nodes]
    found = check_circuit(model, pairs, true, n_random=60, progress=False)
    table = found.to_dataframe().set_index("test")
    assert table.loc["equivalence", "passed"]
    assert table.loc["independence", "passed"]
    assert table["n"].loc["sufficiency"] == 60
    assert found["sufficiency"].passed == table.loc["sufficiency", "passed"]
    padded = [*true, next(node for node in nodes if node not in true)]
    rows = check_circuit(model, pairs, padded, n_random=60, progress=False).minimality
    last = rows[~rows["node"].isin([node.label for node in true])].iloc[0]
    assert last["effect"] < 1e-5
    assert last["beyond"] < 1
    if name == "detect_abc":  # without back-up every true node matters
        true_effects = found.minimality["effect"]
        assert (true_effects > 0.1).all()
        assert (found.minimality["beyond"] == 1).all()
        assert table.loc["sufficiency", "passed"]
        wrong = check_circuit(model, pairs, true[:2], n_random=60, progress=False)
        assert not wrong["sufficiency"].passed


def test_a_circuit_of_a_real_architecture_is_tested_end_to_end(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    circuit = circuit_nodes(model)[:5]
    first, again = (
        check_circuit(model, pairs_of(model), circuit, n_random=5, progress=False) for _ in "ab"
    )
    assert first.to_dataframe().equals(again.to_dataframe())
    assert first.minimality["node"].tolist() == [node.label for node in circuit]
    assert first["minimality"].p == first.minimality["p_holm"].min()
