from __future__ import annotations

from math import comb

import numpy as np
import pytest

from interp.circuits import (
    CircuitNode,
    circuit_equivalence,
    circuit_independence,
    circuit_minimality,
    circuit_sufficiency,
)
from interp.errors import InterpError

FULL = np.array([1.0, 2.0, 3.0, 4.0])


def test_sufficiency_counts_the_random_circuits_that_are_farther() -> None:
    random = np.stack([FULL + 1] * 98 + [FULL + 0.05] * 2)
    found = circuit_sufficiency(FULL, FULL + 0.1, random)
    assert found.statistic == 0.98
    tail = sum(comb(100, k) * 0.9**k * 0.1 ** (100 - k) for k in range(98, 101))
    assert found.p == pytest.approx(tail)
    assert found.passed
    worse = circuit_sufficiency(FULL, FULL + 2, random)
    assert (worse.statistic, worse.p, worse.passed) == (0.0, 1.0, False)
    few = circuit_sufficiency(FULL, FULL, random[:28])
    assert few.p > 0.05  # even where every one is further away
    assert circuit_sufficiency(FULL, FULL, random[:29]).p < 0.05


def test_where_circuits_of_a_size_all_fail_alike_none_is_sufficient() -> None:
    """Equal distances come out apart by rounding, another way on every processor."""
    rounding = 1e-7 * np.random.default_rng(0).normal(size=(100, len(FULL)))
    found = circuit_sufficiency(FULL, FULL + 2, FULL + 2 + rounding)
    assert (found.statistic, found.passed) == (0.0, False)


def test_sufficiency_has_its_size_where_the_circuit_is_a_random_one() -> None:
    draw = np.random.default_rng(0)
    p = []
    for _ in range(400):
        values = FULL + draw.normal(size=(101, 1))
        p.append(circuit_sufficiency(FULL, values[0], values[1:]).p)
    # the circuit's own place is uniform, so that it lies beyond the .9 quantile in one draw of ten, and
    # far beyond, where the binomial rejects, in fewer
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_equivalence_is_the_two_sided_binomial_at_the_edge() -> None:
    full = np.arange(10.0)
    circuit = full + np.array([1] * 8 + [-1] * 2)
    found = circuit_equivalence(full, circuit, range(10))
    assert found.statistic == 0.8
    extreme = [k for k in range(11) if abs(k / 10 - 0.5) >= 0.3 - 1e-12]
    assert extreme == [0, 1, 2, 8, 9, 10]
    assert found.p == pytest.approx(sum(comb(10, k) * 0.6**k * 0.4 ** (10 - k) for k in extreme))
    assert found.passed
    assert not circuit_equivalence(full, full + 1, range(10)).passed


def test_equivalence_leaves_ties_out_and_counts_clusters() -> None:
    same = circuit_equivalence(FULL, FULL + 1e-7, range(4))
    assert (same.n, same.p, same.passed) == (0, 1.0, True)
    # the second item outweighs the first of its cluster
    found = circuit_equivalence(FULL, FULL + np.array([1, -3, 1, 1]), ["a", "a", "b", "c"])
    assert (found.n, found.statistic) == (3, pytest.approx(2 / 3))


def test_independence_sees_dependence_that_is_no_correlation() -> None:
    draw = np.random.default_rng(0)
    full = draw.normal(size=60)
    bent = circuit_independence(full, full**2 + 0.1 * draw.normal(size=60), range(60))
    assert bent.p < 0.01
    assert not bent.passed
    apart = circuit_independence(full, draw.normal(size=60), range(60))
    assert apart.p > 0.05
    assert apart.passed
    again = circuit_independence(full, full**2, range(60), seed=1, permutations=99)
    assert again.p == 0.01  # never 0


def test_independence_has_its_size() -> None:
    draw = np.random.default_rng(1)
    p = [
        circuit_independence(*draw.normal(size=(2, 20)), range(20), permutations=99, seed=k).p
        for k in range(200)
    ]
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1


def test_independence_of_a_constant_is_certain() -> None:
    found = circuit_independence(FULL, np.zeros(4), range(4))
    assert (found.p, found.passed) == (1.0, True)


def test_minimality_compares_every_node_with_random_additions() -> None:
    nodes = [CircuitNode(0, 0), CircuitNode(0), CircuitNode(1)]
    without = np.stack([FULL - 2, FULL + 0.0, FULL - 1])
    inflated = FULL + np.linspace(0.01, 0.5, 40)[:, None]
    table = circuit_minimality(FULL, without, inflated, nodes)
    assert table["node"].tolist() == ["L0H0", "L0 MLP", "L1 MLP"]
    assert table["effect"].tolist() == [4.0, 0.0, 1.0]
    assert table["beyond"].tolist() == [1.0, 0.0, 1.0]
    assert table["p"].tolist() == pytest.approx([1.0, 0.1**40, 1.0])
    assert (table["p_holm"] < 0.05).tolist() == [False, True, False]


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InterpError, match=r"full \[4\], circuit \[3\]"):
        circuit_sufficiency(FULL, FULL[:3], FULL[None])
    with pytest.raises(InterpError, match=r"random is \[4\]"):
        circuit_sufficiency(FULL, FULL, FULL)
    with pytest.raises(InterpError, match="quantile is 1"):
        circuit_sufficiency(FULL, FULL, FULL[None], quantile=1.0)
    with pytest.raises(InterpError, match="3 clusters for 4 pairs"):
        circuit_equivalence(FULL, FULL + 1, range(3))
    with pytest.raises(InterpError, match=r"epsilon is 0\.5"):
        circuit_equivalence(FULL, FULL, range(4), epsilon=0.5)
    with pytest.raises(InterpError, match="permutations is 0"):
        circuit_independence(FULL, FULL, range(4), permutations=0)
    with pytest.raises(InterpError, match="2 runs without one for 1 nodes or edges"):
        circuit_minimality(FULL, np.stack([FULL] * 2), FULL[None], [CircuitNode(0)])
