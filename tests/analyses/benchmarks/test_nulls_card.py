"""Nulls of the scorecard: what is planted is what is found, and nothing is what is found of nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from analyses.benchmarks.nulls.card import KEPT, N_DRAWS, PARTS, SIZES, Bench, rejections
from analyses.benchmarks.nulls.card_rows import (
    mediation_rows,
    probes_of_others,
    read_shifts,
    replies,
    route_rows,
)
from analyses.benchmarks.nulls.card_sets import DataSet, Plant, Route
from analyses.benchmarks.nulls.sentences import ANSWERS, spans_of, states_of
from analyses.benchmarks.nulls.verdicts import COPY, PLACEBOS, cards, main
from analyses.benchmarks.nulls.verdicts import KEPT as VERDICTS
from analyses.tables.nulls import BLIND, SEES
from interp.superficiality import content_shift, measure_representation
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import (
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    OTHER_EDGES,
)
from interp.superficiality.sides import CONTENT_SPANS
from interp.superficiality.verdict import NO_EFFECT


def most(draws: int) -> int:
    """Rejections that a test of size 5 % exceeds in one of 200 tables at most; 19 of 200."""
    return int(binom.isf(0.005, draws, 0.05))


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench.make()


@pytest.fixture(scope="module")
def data(bench: Bench) -> DataSet:
    return DataSet.draw(bench.model, 0, 24)


def test_the_tiny_models_margins_vary_over_wordings_and_items(bench: Bench) -> None:
    assert set(bench.spread) == {"wordings", "items", "wording x item"}
    assert all(sd > 0.5 for sd in bench.spread.values())


def test_a_data_set_is_its_seeds_and_no_wording_is_on_two_sides(bench: Bench) -> None:
    one, same, other = (DataSet.draw(bench.model, seed, 24) for seed in (3, 3, 4))
    assert one.items == same.items != other.items
    every = torch.cat(list(one.sides.values()))
    assert len(set(map(tuple, every.tolist()))) == len(every) == 6 * len(one.sides)


def test_behaviour_is_the_pairs_own_margin(data: DataSet) -> None:
    with torch.no_grad():
        logits = data.model(torch.stack([pair.source.ids for pair in data.pairs]))[:, -1]
    before, after = data.margins(data.items)
    assert after == pytest.approx((logits[:, ANSWERS[0]] - logits[:, ANSWERS[1]]).numpy(), abs=1e-5)
    runs = data.runs[data.runs["run"] == PLACEBO]
    assert runs["value"].to_numpy() == pytest.approx(before, abs=1e-5)


def test_states_of_all_pairs_at_once_are_those_that_the_card_reads(
    bench: Bench, data: DataSet
) -> None:
    few = data.pairs[:2]
    states = states_of(data.model, few)
    change = (states[:, 0] - states[:, 1])[..., :-1, :]
    for pair, own in zip(few, change, strict=True):
        shift = torch.stack([own[spans_of("before")[name]].mean(0) for name in CONTENT_SPANS])
        torch.testing.assert_close(shift, content_shift(data.model, pair))
    for placement in ("before", "after"):
        some = data.some_pairs(data.items[:2], [0, 1], placement=placement)
        ours = read_shifts(data.model, some, bench.direction, placement)
        site = (bench.direction.site,)
        theirs = measure_representation(data.model, some, bench.direction, components=site)
        both = ours.merge(theirs, on=list(ours.columns[:-1]))
        assert len(both) == len(ours) == len(theirs)
        np.testing.assert_allclose(both["value_x"], both["value_y"], atol=1e-5)


@pytest.mark.parametrize(
    ("route", "content", "other"), [("content", 1.0, 0.0), ("instruction", 0.0, 1.0)]
)
def test_a_large_planted_effect_is_found_on_its_route_alone(
    data: DataSet, route: Route, content: float, other: float
) -> None:
    found = {one.name: one.interval.estimate for one in route_rows(data, Plant(route, 1e4))}
    for name in (CONTENT_IN, CONTENT_OUT, CHANGED, CONTENT_EDGES):
        assert found[name] == pytest.approx(content, abs=0.01)
    assert found[OTHER_EDGES] == pytest.approx(other, abs=0.01)


def test_a_planted_effect_is_of_its_size_and_moves_p_alike(data: DataSet) -> None:
    own, planted = data.readings, Plant("content", 2.0).add(data.readings, "side")
    gain = planted["value"] - own["value"]
    is_p, corrected = own["metric"] == "p_gold", own["side"] == CORRECTED
    assert gain[~is_p & corrected].to_numpy() == pytest.approx(2.0)
    assert (gain[is_p & corrected] > 0).all()
    assert gain[~corrected].abs().max() < 1e-12


def test_replies_and_residue_are_made_of_what_they_say(data: DataSet) -> None:
    table = replies(data)
    assert len(table) == 2 * len(data.few)
    assert 0 < table["kept_tokens"].mean() < 1  # neither all alike nor nothing in common
    probes = probes_of_others(data)
    here = probes[probes["layer"] == 0].set_index("item")["after"]
    before, after = data.margins(data.items)
    assert here[data.items[6].id] == pytest.approx(after[0])
    assert before.std() > 0.1


def test_mediation_has_all_its_rows(bench: Bench, data: DataSet) -> None:
    small = DataSet.draw(bench.model, 1, 14)
    found = mediation_rows(small, bench.direction, bench.family)
    assert len(found) == 5


@pytest.mark.skipif(not KEPT.is_file(), reason="the rows are not committed")
def test_the_committed_rows_reject_true_nulls_rarely_and_see_what_is_planted() -> None:
    counts = rejections(pd.read_parquet(KEPT))
    null = counts[counts["size"] == 0]
    n = int(counts["draws"].max())
    assert most(200) == 19
    assert null["rejected"].le(most(n)).all()
    for name, route in BLIND.items():
        own = counts[(counts["row"] == name) & (counts["route"] == route) & (counts["size"] > 0)]
        assert own["rejected"].le(most(n)).all()
    largest = counts[counts["size"] == SIZES[-1]].set_index(["row", "route"])
    for name, route in SEES.items():
        own = largest.loc[(name, route)]
        assert own["rejected"] / own["draws"] >= 0.8


@pytest.mark.slow
@pytest.mark.skipif(not KEPT.is_file(), reason="the rows are not committed")
@pytest.mark.parametrize("number", range(0, N_DRAWS, 10))
def test_a_committed_data_set_is_measured_again(bench: Bench, number: int) -> None:
    kept = pd.read_parquet(KEPT)
    ours = PARTS["card"](bench, DataSet.draw(bench.model, number))
    theirs = kept[kept["draw"] == number].iloc[: len(ours)]
    assert ours["row"].tolist() == theirs["row"].tolist()
    np.testing.assert_allclose(ours["p"], theirs["p"], atol=1e-3)


@pytest.mark.slow
def test_verdicts_on_nothing_go_on_where_they_were(
    tiny_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = ["--model", tiny_folder("llama"), "--dataset", "bundled", "--items", 2]
    asked += ["--out", tmp_path / "parts", "--into", tmp_path / "rows.parquet"]
    main([*map(str, asked), "--limit-seconds", "0"])
    assert "2 items are missing" in capsys.readouterr().out
    main(list(map(str, asked)))
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert set(rows["of"]) == {PLACEBOS, COPY}
    assert rows.groupby("of")["item"].nunique().eq(2).all()
    assert "clusters of items" in cards(rows)[COPY].verdict.because


@pytest.mark.skipif(not VERDICTS.is_file(), reason="the rows are not committed")
def test_the_committed_verdicts_explain_nothing() -> None:
    found = {of: card.verdict.name for of, card in cards(pd.read_parquet(VERDICTS)).items()}
    assert found == {PLACEBOS: NO_EFFECT, COPY: NO_EFFECT}
