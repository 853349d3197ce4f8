from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from interp.errors import InterpError
from interp.superficiality.routes import (
    COLUMNS,
    content_shift,
    donated_shift,
    donors_of,
    high_half,
    measure_routes,
)
from interp.superficiality.rows import content_findings, onset_finding
from tests.superficiality.toy import CONTENT, item_pairs, margin_by_hooks, toy_pairs


def by_run(runs: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    own = runs[runs["layer"] < 0]
    own = own if metric is None else own[own["metric"] == metric]
    return own.pivot(index="item", columns="run", values="value")


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2", "gemma", "gemma2", "neox"])
def measured(load_tiny: Any, request: pytest.FixtureRequest) -> tuple[Any, pd.DataFrame]:
    """A tiny model and the runs of two items."""
    model = load_tiny(request.param)
    return model, measure_routes(model, item_pairs(model))


def test_all_states_of_the_corrected_run_give_the_corrected_run(measured: Any) -> None:
    """In both metrics, the options' own rows too: they read what is set at every layer."""
    _, runs = measured
    assert set(runs["metric"]) == {"option_margin", "margin"}
    assert tuple(runs.columns) == COLUMNS
    for metric in ("option_margin", "margin"):
        found = by_run(runs, metric)
        assert (found["everything"] - found["corrected"]).abs().max() < 1e-4
        assert (found["content"] - found["placebo"]).abs().max() > 1e-3
        assert (found["instruction"] - found["corrected"]).abs().max() > 1e-3


def test_both_routes_and_their_interaction_are_the_total_exactly(measured: Any) -> None:
    _, runs = measured
    for metric in ("option_margin", "margin"):
        table = content_findings(runs, metric=metric)[0].table.set_index("item")
        found = by_run(runs, metric).loc[table.index]
        parts = table["content"] + table["instruction"] + table["interaction"]
        assert (parts - (found["corrected"] - found["placebo"])).abs().max() < 1e-12
        assert (table["content"] - (found["content"] - found["placebo"])).abs().max() == 0
        assert (table["instruction"] - (found["instruction"] - found["placebo"])).abs().max() == 0
        assert table["interaction"].abs().max() > 1e-3  # nothing is linear here


def test_the_content_and_instruction_runs_are_those_of_plain_hooks(tiny_model: Any) -> None:
    pair = item_pairs(tiny_model, 1)[0]
    found = by_run(measure_routes(tiny_model, [pair]), "margin").iloc[0]
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(tiny_model.cfg.n_layers)]
    spans = [pair.destination.span(name) for name in ("context", "question")]
    rows = [p for span in spans for p in range(span.start, span.stop)]
    for run, source, into in (
        ("content", pair.source.ids, pair.destination.ids),
        ("instruction", pair.destination.ids, pair.source.ids),
    ):
        with torch.no_grad():
            _, cache = tiny_model.run_with_cache(source[None])
        states = {name: {p: cache[name][0, p] for p in rows} for name in names}
        assert margin_by_hooks(tiny_model, pair, into, states) == pytest.approx(
            found[run], abs=1e-4
        )


def test_the_slow_way_gives_the_same_numbers(tiny_model: Any) -> None:
    pairs = item_pairs(tiny_model, 1)
    shifts = [content_shift(tiny_model, pair) for pair in pairs]
    fast, slow = (
        measure_routes(tiny_model, pairs, shifts=shifts, method=method)
        for method in ("exact", "hooked")
    )
    assert (fast["value"] - slow["value"]).abs().max() < 1e-4
    assert fast.drop(columns="value").equals(slow.drop(columns="value"))


def test_a_shift_of_ones_own_single_positions_is_the_content_run() -> None:
    model, _, pairs, clusters = toy_pairs("mixture_50", n=4)
    shifts = [content_shift(model, pair, content=CONTENT) for pair in pairs]
    found = by_run(measure_routes(model, pairs, shifts=shifts, content=CONTENT, clusters=clusters))
    assert (found["shift"] - found["content"]).abs().max() < 1e-4


def test_where_the_concept_is_rewritten_the_content_brings_the_whole_effect() -> None:
    model, _, pairs, clusters = toy_pairs("deep")
    found = by_run(measure_routes(model, pairs, content=CONTENT, clusters=clusters))
    asked = found[found["placebo"] < 0]
    assert (asked["content"] - asked["corrected"]).abs().max() < 0.5
    assert (asked["instruction"] - asked["placebo"]).abs().max() < 0.5


def test_where_the_answer_is_shifted_the_content_brings_nothing() -> None:
    model, _, pairs, clusters = toy_pairs("superficial")
    found = by_run(measure_routes(model, pairs, content=CONTENT, clusters=clusters))
    assert (found["content"] - found["placebo"]).abs().max() < 0.5
    total = (found["corrected"] - found["placebo"]).mean()
    kept = found["corrected_no_content_edges"] - found["placebo_no_content_edges"]
    gone = found["corrected_no_other_edges"] - found["placebo_no_other_edges"]
    assert kept.mean() == pytest.approx(total, rel=0.1)
    assert abs(gone.mean()) < 0.1 * total


def test_two_routes_that_back_each_other_up_each_bring_all() -> None:
    model, _, pairs, clusters = toy_pairs("self_repairing")
    found = by_run(measure_routes(model, pairs, content=CONTENT, clusters=clusters))
    asked = found[found["placebo"] < 0]
    for run in ("content", "instruction"):
        assert (asked[run] - asked["corrected"]).abs().max() < 0.5


def test_donors_are_of_other_clusters_and_of_the_other_half() -> None:
    shifts = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 3)
    clusters, high = ["a", "a", "b", "b", "c"], [False, True, False, True, True]
    assert donors_of(clusters, high) == [(3, 4), (2,), (1, 4), (0,), (0, 2)]
    found = donated_shift(shifts, clusters, high)
    assert found[:, 0, 0, 0].tolist() == [(3 + 4) / 2, 2, (1 + 4) / 2, 0, (0 + 2) / 2]
    with pytest.raises(InterpError, match="no donor"):
        donated_shift(shifts[:2], ["a", "a"], [False, True])
    with pytest.raises(InterpError, match="give one each per pair"):
        donated_shift(shifts, ["a"], [True])


def test_halves_are_by_level_and_alternate_where_there_is_none() -> None:
    assert high_half([3.0, -1.0, 2.0, -4.0]) == [True, False, True, False]
    assert high_half([1.0, 1.0, 1.0]) == [False, True, False]
    assert high_half([]) == []


def test_clusters_are_one_per_pair() -> None:
    model, _, pairs, _ = toy_pairs("deep", n=2)
    with pytest.raises(InterpError, match="1 clusters for 2 pairs"):
        measure_routes(model, pairs, content=CONTENT, clusters=["a"])


def test_the_ends_of_the_depth_curve_are_the_two_unpatched_runs(measured: Any) -> None:
    model, runs = measured
    for _, own in runs.groupby(["item", "metric"]):
        of = own.set_index(["run", "layer"])["value"]
        assert of["behind", 0] == pytest.approx(of["placebo", -1], abs=1e-5)
        last = of["behind", model.cfg.n_layers]
        assert last == pytest.approx(of["corrected", -1], abs=1e-5)
    assert runs["run"].eq("behind").sum() == 2 * 2 * (model.cfg.n_layers + 1)


def test_an_instruction_read_by_block_0_is_behind_it_from_there_on() -> None:
    model, _, pairs, clusters = toy_pairs("deep")
    runs = measure_routes(model, pairs, content=CONTENT, clusters=clusters)
    found = onset_finding(runs)
    assert found.is_read
    curve = found.table["share"].tolist()
    assert curve[0] == pytest.approx(0, abs=1e-6)
    assert curve[1] == pytest.approx(1, abs=0.1)
    assert curve[-1] == pytest.approx(1, abs=1e-6)
    assert found.interval.estimate == pytest.approx(0.5 / 3, abs=0.05)
