"""SweepResult: shares, intervals, tests and tables, by hand on constructed values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from transformer_lens.patching import PatchingResult

from interp.data import load_items
from interp.errors import InterpError
from interp.patching import ALL, SweepResult, sweep
from interp.prompts import make_pair
from interp.stats import interval_column_names

N_PAIRS = 12
SHARES = torch.tensor([[0.0, 1.0], [0.25, 1.0], [-0.5, 1.0]])
"""What each cell [layer, span] restores of every pair's own total."""


def result_of(total: torch.Tensor, *, clusters: list[str] | None = None) -> SweepResult:
    destination = torch.linspace(-1, 1, len(total))
    labels = {"layer": ["0", "1", "2"], "span": ["instruction", ALL]}
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=destination + SHARES[..., None] * total,
        axis_names=["layer", "span"],
        index_df=index.to_frame(index=False),
        metric_names=["margin"],
        reduced=False,
        baseline=destination,
        source_baseline=destination + total,
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(len(total))],
        clusters=clusters or [f"c{k}" for k in range(len(total))],
        site="resid_pre",
        title="instructed -> placebo, resid_pre",
        notes=("a note",),
    )


@pytest.fixture
def result() -> SweepResult:
    return result_of(torch.linspace(0.5, 2.0, N_PAIRS))


def test_the_effect_is_patched_minus_destination(result: SweepResult) -> None:
    total = torch.linspace(0.5, 2.0, N_PAIRS)
    assert torch.allclose(result.effect(), SHARES[..., None] * total, atol=1e-6)
    assert result.total().estimate == pytest.approx(1.25)
    assert result.total().n_clusters == N_PAIRS


def test_the_share_is_one_where_everything_is_restored_and_zero_where_nothing_is(
    result: SweepResult,
) -> None:
    share = result.share()
    np.testing.assert_allclose(share.estimate, SHARES, atol=1e-6)
    np.testing.assert_allclose(share.low[:, 1], 1.0, atol=1e-6)
    np.testing.assert_allclose(share.high[:, 1], 1.0, atol=1e-6)
    assert not np.any(share.reason != "")


def test_the_share_is_a_ratio_of_means_and_not_a_mean_of_ratios() -> None:
    total = torch.tensor([1.0, 1.0, 1.0, 9.0] * 3)
    result = result_of(total)
    destination = result.baseline
    assert destination is not None
    restored = torch.tensor([1.0, 1.0, 1.0, 0.0] * 3)  # all of the small pairs, none of the large
    result.values[1, 0] = destination + restored
    assert result.share().at(1, 0).estimate == pytest.approx(3 / 12)


def test_the_share_is_nan_with_a_reason_where_there_is_no_effect_to_share() -> None:
    total = torch.tensor([1.0, -1.0] * 6)
    share = result_of(total).share()
    assert bool(np.isnan(share.estimate).all())
    assert share.at(0, 1).reason == "the denominator's interval contains 0"


def test_a_single_cluster_has_effects_but_no_share_and_no_interval() -> None:
    result = result_of(torch.linspace(0.5, 2.0, 4), clusters=["one"] * 4)
    assert np.isnan(result.share().at(0, 1).estimate)
    assert result.share().at(0, 1).reason == "a single cluster: no interval"
    effect = result.effect_interval().at(0, 1)
    assert effect.estimate == pytest.approx(1.25)
    assert np.isnan(effect.low)


def test_effect_intervals_count_clusters(result: SweepResult) -> None:
    interval = result.effect_interval()
    np.testing.assert_allclose(interval.estimate, SHARES * 1.25, atol=1e-6)
    assert (interval.at(0, 0).low, interval.at(0, 0).high) == (0.0, 0.0)
    assert interval.texts == (1, 1)
    cell = interval.at(1, 0)
    assert cell.low < 0.25 * 1.25 < cell.high
    paired = result_of(
        torch.linspace(0.5, 2.0, N_PAIRS), clusters=[f"c{k // 2}" for k in range(N_PAIRS)]
    )
    assert paired.effect_interval().at(1, 0).n_clusters == N_PAIRS // 2
    assert paired.effect_interval().at(1, 0).n == N_PAIRS


def test_wordings_are_random_where_pairs_have_several(result: SweepResult) -> None:
    shift = torch.tensor([3.0, -3.0, 1.0, -1.0] * 3)  # by wording
    pairs = replace(result, source_baseline=result.source_baseline + shift)
    several = replace(pairs, wordings=["a", "b", "c", "d"] * 3)
    assert several.n_wordings == 4
    assert several.total().texts == (4, 4)
    assert several.total().estimate == pytest.approx(pairs.total().estimate)
    assert several.total().se > pairs.total().se
    again = SweepResult.from_dataframe(several.to_dataframe(), axis_names=["layer", "span"])
    assert again.wordings == several.wordings
    np.testing.assert_array_equal(again.max_t().p_corrected, several.max_t().p_corrected)


def test_max_t_corrects_over_all_cells(result: SweepResult) -> None:
    test = result.max_t()
    assert test.statistic.shape == (3, 2)
    assert test.p_corrected[0, 0] == 1.0  # a cell that is 0 throughout
    assert test.p_corrected[1, 1] < 0.01
    assert test.statistic[2, 0] < 0 < test.statistic[1, 0]
    assert bool((test.p_corrected >= test.p_raw).all())


def test_one_seed_gives_one_interval(result: SweepResult) -> None:
    first, second = result.effect_interval(), result.effect_interval()
    assert np.array_equal(first.low, second.low)
    assert np.array_equal(first.high, second.high)


def test_what_patching_result_offers_works(result: SweepResult) -> None:
    assert isinstance(result, PatchingResult)
    normalized = result.normalized(result.source_baseline)
    assert torch.allclose(normalized, SHARES[..., None].expand_as(normalized), atol=1e-5)
    assert torch.allclose(result.mean(), result.values.mean(dim=-1))
    assert torch.allclose(result.stderr(), result.values.std(dim=-1) / N_PAIRS**0.5)
    low, high = result.bootstrap_ci(of_effect=True)
    assert bool((low <= result.effect().mean(-1) + 1e-6).all())
    assert bool((high >= result.effect().mean(-1) - 1e-6).all())
    assert result.permutation_pvalue().shape == (3, 2)
    assert result["margin"] is result
    with pytest.raises(KeyError, match="unknown metric"):
        result["loss"]


def test_the_table_has_one_row_per_cell_and_pair(result: SweepResult) -> None:
    frame = result.to_dataframe()
    assert frame.columns.tolist() == [
        "metric", "site", "layer", "span", "pair", "cluster", "wording", "value", "destination",
        "source", "effect",
    ]  # fmt: skip
    assert len(frame) == 3 * 2 * N_PAIRS
    assert not frame.duplicated(["layer", "span", "pair"]).any()
    destination = result.baseline
    assert destination is not None
    for row in frame.sample(20, random_state=0).itertuples():
        layer, pair = int(row.layer), int(row.pair.removeprefix("pair "))
        span = ["instruction", ALL].index(row.span)
        assert row.cluster == f"c{pair}"
        assert row.value == pytest.approx(float(result.values[layer, span, pair]))
        assert row.destination == pytest.approx(float(destination[pair]))
        assert row.source == pytest.approx(float(result.source_baseline[pair]))
        assert row.effect == pytest.approx(row.value - row.destination)
    assert set(frame["site"]) == {"resid_pre"}


def test_the_table_gives_the_result_again(result: SweepResult) -> None:
    again = SweepResult.from_dataframe(
        result.to_dataframe(), axis_names=["layer", "span"], title=result.title, notes=result.notes
    )
    assert torch.equal(again.values, result.values)
    assert torch.equal(again.source_baseline, result.source_baseline)
    assert again.baseline is not None
    assert result.baseline is not None
    assert torch.equal(again.baseline, result.baseline)
    for name in ("axis_labels", "axis_names", "pair_labels", "clusters", "site", "title", "notes"):
        assert getattr(again, name) == getattr(result, name)
    pd.testing.assert_frame_equal(again.index_df, result.index_df)
    np.testing.assert_array_equal(again.share().low, result.share().low)


@pytest.mark.parametrize("spoil", [lambda f: f.iloc[1:], lambda f: pd.concat([f, f.iloc[:1]])])
def test_an_incomplete_or_repeated_table_is_refused(
    result: SweepResult, spoil: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    with pytest.raises(InterpError, match="rows do not fill 3 x 2 x 12 cells"):
        SweepResult.from_dataframe(spoil(result.to_dataframe()), axis_names=["layer", "span"])


def test_a_sweep_of_items_and_of_several_texts_comes_back_from_its_table(tiny_model: Any) -> None:
    items = load_items("bundled:choices", limit=2, seed=0)
    pairs = [
        make_pair(tiny_model, item, "instructed", slot=slot) for item in items for slot in (0, 1)
    ]
    result = sweep(tiny_model, pairs, layers=[0, 3], progress=False)
    frame = result.to_dataframe()
    assert len(frame) == result.values.numel()
    again = SweepResult.from_dataframe(frame, axis_names=["layer", "span"])
    assert torch.equal(again.values, result.values)
    assert again.clusters == [items[0].cluster] * 2 + [items[1].cluster] * 2
    everything = result.normalized(result.source_baseline)[:, -1]
    by_index = [k for k, pair in enumerate(pairs) if pair.alignment.by_index]
    assert by_index
    assert torch.allclose(everything[:, by_index], torch.ones(2, len(by_index)), atol=1e-3)


def test_the_notebook_view_shows_the_map_and_its_notes(result: SweepResult) -> None:
    html = result._repr_html_()
    assert "instructed -&gt; placebo" in html or "instructed -> placebo" in html
    assert "<p>a note</p>" in html
    assert html.count("<tr") == 1 + 3


def pair_result(model: Any, **options: Any) -> SweepResult:
    """A small sweep of two pairs of items."""
    items = load_items("bundled:choices", limit=2, seed=0)
    pairs = [make_pair(model, item, "instructed") for item in items]
    return sweep(model, pairs, layers=[0, 3], progress=False, **options)


@pytest.mark.parametrize("metric", ["margin", ["margin", "log_prob"]], ids=["one", "several"])
def test_a_saved_result_comes_back_whole(tiny_model: Any, tmp_path: Path, metric: Any) -> None:
    result = pair_result(tiny_model, metric=metric, seed=7)
    path = result.save(tmp_path / "result.safetensors")
    again = SweepResult.load(path)
    assert path == tmp_path / "result.safetensors"
    for name in ("values", "baseline", "source_baseline"):
        one, other = getattr(again, name), getattr(result, name)
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
        assert torch.equal(one.isnan(), other.isnan())
    for name in (
        "axis_names", "metric_names", "reduced", "has_metric_axis", "patch_type_names",
        "axis_labels", "pair_labels", "clusters", "site", "title", "seed", "notes",
    ):  # fmt: skip
        assert getattr(again, name) == getattr(result, name)
    pd.testing.assert_frame_equal(again.index_df, result.index_df)
    pd.testing.assert_frame_equal(again.to_dataframe(), result.to_dataframe())
    first, second = (tmp_path / "result.safetensors").read_bytes(), again.save(path).read_bytes()
    assert first == second


def test_a_saved_result_has_the_same_intervals_and_notes(
    result: SweepResult, tmp_path: Path
) -> None:
    again = SweepResult.load(result.save(tmp_path / "result.safetensors"))
    assert again.notes == ("a note",)
    np.testing.assert_array_equal(again.share().low, result.share().low)
    np.testing.assert_array_equal(again.max_t().p_corrected, result.max_t().p_corrected)


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "other", "folder"])
def test_a_file_that_holds_no_sweep_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "wrong.safetensors"
    if kind == "text":
        path.write_text("this is no tensor file")
    elif kind == "empty":
        path.touch()
    elif kind == "other":
        save_file({"values": torch.zeros(2)}, path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(InterpError, match=r"wrong\.safetensors: not a saved sweep") as caught:
        SweepResult.load(path)
    assert "\n" not in str(caught.value)


def test_the_top_cells_are_those_of_largest_mean_effect(result: SweepResult) -> None:
    top = result.top(3)
    assert top.columns.tolist() == [
        "layer",
        "span",
        "label",
        *interval_column_names(),
        "p_corrected",
    ]
    # shares of 1 in every layer of the ceiling, in the order of the map
    assert top["label"].tolist() == [f"L{layer} {ALL}" for layer in range(3)]
    assert top["estimate"].tolist() == pytest.approx([1.25] * 3)
    assert bool((top["low"] < 1.25).all())
    assert bool((top["high"] > 1.25).all())
    everything = result.top(100)
    assert everything["label"].tolist()[3:] == [
        "L2 instruction", "L1 instruction", "L0 instruction",
    ]  # fmt: skip
    # the largest in size, also where it is negative
    assert everything["estimate"].tolist()[3:] == pytest.approx([-0.625, 0.3125, 0.0])
    assert everything["p_corrected"].tolist()[0] < 0.01
    assert everything["p_corrected"].tolist()[-1] == 1.0
    assert len(result.top()) == 6


def test_cells_are_labelled_by_layer_head_and_place(tiny_model: Any) -> None:
    items = load_items("bundled:choices", limit=1, seed=0)
    pair = make_pair(tiny_model, items[0], "instructed")
    by_head = sweep(tiny_model, pair, site="z", layers=[1, 3], heads=[2, 0], progress=False)
    assert by_head.cell_labels() == ["L1H2", "L1H0", "L3H2", "L3H0"]
    last = len(pair.destination) - 1
    token = pair.destination.str_tokens[last]
    by_position = sweep(
        tiny_model, pair, cells="layer_pos", layers=[2], positions=[last], window=2, progress=False
    )
    assert by_position.cell_labels() == [f"L2-3 {token}_{last}".strip()]
    both = sweep(
        tiny_model, pair, site="v", cells="layer_head_pos", layers=[0], heads=[1],
        positions=[last], progress=False,
    )  # fmt: skip
    assert both.cell_labels() == [f"L0H1 {token}_{last}"]
    by_span = sweep(tiny_model, pair, spans=["instruction"], layers=[0], progress=False)
    assert by_span.cell_labels() == ["L0 instruction"]


def test_several_metrics_share_cells_and_are_chosen_by_name(tiny_model: Any) -> None:
    both = pair_result(tiny_model, metric=["margin", "log_prob"])
    assert both.metric_names == ["margin", "log_prob"]
    assert both.values.shape == (2, *(len(both.axis_labels[name]) for name in both.axis_names), 2)
    for name in both.metric_names:
        alone = pair_result(tiny_model, metric=name)
        chosen = both[name]
        assert isinstance(chosen, SweepResult)
        assert chosen.metric_names == alone.metric_names == [name]
        for values in ("values", "baseline", "source_baseline"):
            assert torch.equal(getattr(chosen, values), getattr(alone, values))
        for field in ("axis_labels", "pair_labels", "clusters", "site", "title", "seed", "notes"):
            assert getattr(chosen, field) == getattr(alone, field)
        np.testing.assert_array_equal(chosen.effect_interval().low, alone.effect_interval().low)
        assert chosen[name] is chosen
    with pytest.raises(KeyError, match="unknown metric 'loss'"):
        both["loss"]


def test_the_table_of_several_metrics_names_them_first(tiny_model: Any) -> None:
    both = pair_result(tiny_model, metric=["margin", "log_prob"])
    frame = both.to_dataframe()
    assert frame.columns.tolist()[:2] == ["metric", "site"]
    assert len(frame) == both.values.numel()
    for name in ("margin", "log_prob"):
        rows = frame[frame["metric"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, both[name].to_dataframe())
    assert not frame.duplicated(["metric", "layer", "span", "pair"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["share", "effect_interval", "max_t", "top", "total"],
)
def test_statistics_of_several_metrics_ask_for_one(tiny_model: Any, method: str) -> None:
    both = pair_result(tiny_model, metric=["margin", "log_prob"])
    with pytest.raises(InterpError, match=r"several metrics: choose one, result\['margin'\]"):
        getattr(both, method)()


def test_the_notebook_view_of_several_metrics_shows_each(tiny_model: Any) -> None:
    html = pair_result(tiny_model, metric=["margin", "log_prob"])._repr_html_()
    assert html.index("mean effect on the margin") < html.index("mean effect on the log_prob")


def test_the_table_of_another_metric_gives_its_name_again(tiny_model: Any) -> None:
    result = pair_result(tiny_model, metric="log_prob")
    again = SweepResult.from_dataframe(result.to_dataframe(), axis_names=["layer", "span"])
    assert again.metric_names == ["log_prob"]
