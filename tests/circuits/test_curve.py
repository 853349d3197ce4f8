from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.circuits import (
    CircuitNode,
    FaithfulnessCurve,
    circuit_nodes,
    cmd,
    cpr,
    faithfulness_curve,
    random_circuits,
    run_circuits,
    top_units,
)
from interp.circuits.curve import default_sizes
from interp.circuits.units import mask_of, score_table
from interp.errors import InterpError
from interp.stats import share
from tests.circuits.by_hand import pairs_of

N = 20


def random_scores(model: Any, seed: int = 0) -> pd.DataFrame:
    nodes = circuit_nodes(model)
    return score_table(nodes, np.random.default_rng(seed).normal(size=len(nodes)))


def test_circuits_are_the_nodes_of_the_largest_score(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    scores, pairs = random_scores(model), pairs_of(model)
    curve = faithfulness_curve(model, pairs, scores, sizes=[12, 5, 5], progress=False)
    assert curve.sizes == (5, 12)
    by_size = scores.reindex(scores["score"].abs().sort_values(ascending=False).index)
    assert [node.label for node in curve.ranking] == by_size["node"].tolist()
    masks = [mask_of(curve.circuit(n), circuit_nodes(model)) for n in curve.sizes]
    runs = run_circuits(model, pairs, np.stack(masks), progress=False)
    np.testing.assert_allclose(curve.runs.values, runs.values, atol=1e-5)
    signed = faithfulness_curve(
        model,
        pairs,
        scores.sample(frac=1, random_state=0),
        sizes=[1],
        absolute=False,
        progress=False,
    )
    assert signed.circuit(1)[0].label == scores.loc[scores["score"].idxmax(), "node"]
    assert top_units(scores, 1, absolute=False) == signed.circuit(1)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_the_curve_runs_from_0_to_1_exactly(
    load_tiny: Callable[..., Any], architecture: str, ablation: Any
) -> None:
    model = load_tiny(architecture)
    curve = faithfulness_curve(
        model, pairs_of(model), random_scores(model), ablation=ablation, progress=False
    )
    table = curve.to_dataframe()
    assert table["size"].tolist() == [0, 1, 2, 4, 10, 20]
    assert (table["faithfulness"].iloc[0], table["faithfulness"].iloc[-1]) == (0.0, 1.0)
    assert table["share_kept"].tolist() == [n / 20 for n in curve.sizes]
    assert curve.cpr == cpr(curve.shares, curve.faithfulness)
    assert curve.cmd == cmd(curve.shares, curve.faithfulness)


def made_curve(values: Any, full: Any, empty: Any, clusters: Any) -> FaithfulnessCurve:
    from interp.circuits import CircuitRuns

    ranking = tuple(CircuitNode(k) for k in range(4))
    names = tuple(map(str, clusters))
    runs = CircuitRuns(
        np.array(values, float),
        np.array(full, float),
        np.array(empty, float),
        names,
        names,
        ("",) * 4,
    )
    return FaithfulnessCurve(ranking, (0, 2, 4), runs)


def test_intervals_of_the_areas_are_of_ratios_of_means() -> None:
    full, empty = np.array([3.0, 4.0, 5.0, 4.5]), np.array([0.0, 0.5, 0.2, 0.1])
    half = np.array([2.0, 3.5, 4.0, 3.0])
    curve = made_curve([empty, half, full], full, empty, range(4))
    f = (half - empty).mean() / (full - empty).mean()
    expected = 0.499 * (0.002 * f + f) / 2 + 0.5 * (f + 1) / 2
    found = curve.cpr_interval()
    assert found.estimate == pytest.approx(expected)
    assert found.estimate == pytest.approx(curve.cpr)
    assert found.low < found.estimate < found.high
    by_hand = share(
        0.499 * 1.002 / 2 * (half - empty) + 0.25 * (half - empty + full - empty),
        full - empty,
        range(4),
    )
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    # CMD's is the mirror image where the curve stays below 1
    mirrored = curve.cmd_interval()
    assert mirrored.estimate == pytest.approx(curve.cmd)
    assert mirrored.estimate == pytest.approx(0.999 - found.estimate)
    assert mirrored.low < mirrored.estimate < mirrored.high


def test_where_the_instruction_does_nothing_the_curve_has_no_interval() -> None:
    full, empty = np.array([1.0, -1.0, 2.0, -2.1]), np.zeros(4)
    curve = made_curve([empty, full / 2, full], full, empty, range(4))
    table = curve.to_dataframe()
    assert table["estimate"].isna().all()
    assert table["reason"].str.contains("denominator's interval contains 0").all()
    assert table["faithfulness"].notna().all()
    assert np.isnan(curve.cpr_interval().estimate)
    assert "contains 0" in curve.cmd_interval().reason
    assert not np.isnan([curve.cpr, curve.cmd]).any()
    runs = replace(curve.runs, full=empty, values=np.zeros((3, 4)))
    assert np.isnan(FaithfulnessCurve(curve.ranking, curve.sizes, runs).cmd_interval().estimate)


def test_random_circuits_are_seeded_nested_and_averaged_over_draws(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("gpt2")
    pairs = pairs_of(model, 2)
    first, again, other = (
        random_circuits(model, pairs, draws=3, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    assert np.array_equal(first.faithfulness, again.faithfulness)
    assert not np.array_equal(first.faithfulness, other.faithfulness)
    assert first.faithfulness.shape == (3, 6)
    assert (first.faithfulness[:, 0] == 0).all()
    assert (first.faithfulness[:, -1] == 1).all()
    table = first.to_dataframe()
    np.testing.assert_allclose(table["estimate"], first.faithfulness.mean(0))
    assert (table["lowest"] <= table["estimate"]).all()
    areas = [cpr(first.shares, f) for f in first.faithfulness]
    assert first.cpr().estimate == pytest.approx(np.mean(areas))
    assert first.cpr().n_clusters == 3
    assert first.cmd().estimate > 0
    with pytest.raises(InterpError, match="at least 2 random rankings"):
        random_circuits(model, pairs, draws=1, progress=False)


def test_default_sizes_are_mibs_shares() -> None:
    assert default_sizes(1000) == (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert default_sizes(2) == (0, 1, 2)


def test_scores_and_sizes_that_cannot_be_are_refused(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gpt2")
    pairs, scores = pairs_of(model, 1), random_scores(model)
    more = pd.concat([scores, scores.iloc[:1].assign(layer=7)])
    cases: list[tuple[pd.DataFrame, Any, str]] = [
        (scores.iloc[1:], None, "no number for L0H0, and lacks 1 of 20 nodes"),
        (pd.concat([scores, scores.iloc[:1]]), None, "has L0H0 twice"),
        (more, None, "has L7H0, which is no node here"),
        (scores.drop(columns="head"), None, "no column 'head'"),
        (scores, [3, 21], "sizes are"),
        (scores, [], "sizes are"),
    ]
    for table, sizes, message in cases:
        with pytest.raises(InterpError, match=message) as caught:
            faithfulness_curve(model, pairs, table, sizes=sizes, progress=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(InterpError, match="a circuit of 30 nodes"):
        top_units(scores, 30)
