"""Parting and settled layers: known answers on hand-made trajectories first."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.lens import (
    Arms,
    LensConditions,
    divergence_table,
    layer_effects,
    parting_layer,
    settled_layer,
    settled_layers,
)
from interp.stats import cluster_mean, effect, max_t_of_effects


def frame_of(curves: list[list[float]], clusters: list[str] | None = None) -> pd.DataFrame:
    """Rows of ``difference()``: one curve per pair."""
    names = clusters or [f"c{k}" for k in range(len(curves))]
    rows = [
        (k, f"i{k}", names[k], layer, value)
        for k, curve in enumerate(curves)
        for layer, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=["pair", "item", "cluster", "layer", "difference"])


@pytest.mark.parametrize(
    ("curve", "layer"),
    [
        ([0, 0, 0, 1, 1, 1], 3),
        ([0, 0, 0, 0.49, 0.5, 1], 4),
        ([0, 0, 0, 0.51, 0.49, 1], 5),
        ([0, 2, 0, 0, 0, 1], 5),  # it comes back
        ([0, 2, -3, 2, 4, 1], 3),  # more than the final size counts
        ([0, -1, -1, -1, -1, -1], 1),
        ([0, 1, 1, 1, -1, -1], 4),  # another sign is another effect
        ([1, 1, 1, 1, 1, 1], 0),
        ([0, 0, 0, 0, 0, 1], 5),
    ],
)
def test_runs_part_where_sign_and_half_the_size_stay(curve: list[float], layer: int) -> None:
    interval = parting_layer(frame_of([curve] * 8), seed=0)
    assert (interval.estimate, interval.low, interval.high) == (layer, layer, layer)
    assert (interval.n, interval.n_clusters, interval.reason) == (8, 8, "")


def test_the_interval_holds_the_layers_of_the_resamples() -> None:
    """Half the pairs part at 1 and half at 4: the mean reaches half its size anywhere between."""
    curves = [[0, 1, 1, 1, 1, 1.0]] * 6 + [[0, 0, 0, 0, 1, 1.0]] * 6
    interval = parting_layer(frame_of(curves), seed=0)
    assert interval.estimate == 1  # .5 of 1, exactly half
    assert (interval.low, interval.high) == (1, 4)


def test_clusters_are_resampled_whole() -> None:
    curves = [[0, 1, 1, 1.0]] * 2 + [[0, 0, 0, 1.0]] * 20
    apart = parting_layer(frame_of(curves), seed=0)
    whole = parting_layer(frame_of(curves, ["a"] * 2 + ["b"] * 20), seed=0)
    assert (apart.low, apart.high) == (3, 3)
    assert (whole.low, whole.high) == (1, 3)
    assert whole.n_clusters == 2


def test_runs_that_do_not_differ_at_the_output_do_not_part() -> None:
    curves = [[0, 1, 1.0], [0, 1, -1.0]] * 4
    interval = parting_layer(frame_of(curves), seed=0)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()
    assert interval.reason == "the difference at the output has an interval that contains 0"
    nothing = parting_layer(frame_of([[0.0, 0.0]] * 8), seed=0)
    assert np.isnan(nothing.estimate)
    assert nothing.reason == interval.reason


def test_one_cluster_cannot_be_judged() -> None:
    interval = parting_layer(frame_of([[0, 1.0]] * 3, ["a"] * 3), seed=0)
    assert np.isnan(interval.estimate)
    assert "single cluster" in interval.reason


def test_layers_keep_their_names_whatever_the_order_of_the_rows() -> None:
    frame = frame_of([[0, 0, 1, 1.0]] * 5).assign(layer=lambda f: 10 * f["layer"])
    shuffled = frame.sample(frac=1, random_state=0)
    assert parting_layer(shuffled, seed=0).estimate == 20


def test_same_seed_same_interval() -> None:
    curves = np.random.default_rng(0).normal(size=(9, 8)).cumsum(1) + np.arange(8)
    frame = frame_of(curves.tolist())
    assert parting_layer(frame, seed=3) == parting_layer(frame, seed=3)


def arms_of(treated: np.ndarray, control: np.ndarray, clusters: list[str]) -> Arms:
    items = [f"i{k}" for k in range(treated.shape[-1])]
    return Arms("instructed", list(range(len(treated))), treated, control, items, clusters)


@pytest.mark.parametrize("seed", range(12))
def test_arms_part_only_where_the_two_way_interval_of_the_output_excludes_0(seed: int) -> None:
    draw = np.random.default_rng(seed)
    treated = draw.normal(0.4, 1, size=(4, 3, 1)) + draw.normal(size=(4, 3, 10))
    control = draw.normal(0, 0.3, size=(4, 3, 1)) + draw.normal(size=(4, 3, 10))
    clusters = [f"c{k // 2}" for k in range(10)]
    output = effect(treated, control, clusters).at(3)
    interval = parting_layer(arms_of(treated, control, clusters), seed=seed)
    assert np.isnan(interval.estimate) == (not output.excludes(0))


def test_arms_with_one_text_and_no_control_are_the_difference_alone() -> None:
    curves = np.random.default_rng(1).normal(0.5, 0.5, size=(9, 6)).cumsum(1)
    arms = arms_of(curves.T[:, None], np.zeros((6, 1, 9)), [f"c{k}" for k in range(9)])
    frame = frame_of(curves.tolist())
    mine, alone = parting_layer(arms, seed=0), parting_layer(frame, seed=0)
    assert mine.estimate == alone.estimate
    assert mine.n_clusters == alone.n_clusters == 9


@pytest.mark.parametrize("column", ["layer", "cluster", "difference"])
def test_a_frame_of_something_else_is_refused(column: str) -> None:
    with pytest.raises(InterpError, match=f"no column '{column}'; it needs layer, cluster"):
        parting_layer(frame_of([[0.0, 1.0]]).drop(columns=column), seed=0)


def test_rows_that_are_not_one_per_unit_and_layer_are_refused() -> None:
    frame = frame_of([[0, 1.0]] * 3)
    with pytest.raises(InterpError, match="several rows per pair and layer"):
        parting_layer(pd.concat([frame, frame]), seed=0)
    with pytest.raises(InterpError, match="some pair has no difference"):
        parting_layer(frame.iloc[:-1], seed=0)


def margins(curves: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """A lens frame of (condition, item) -> margins."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "contrast": "" if condition == "clean" else "instructed",
                    "condition": condition,
                    "slot": 0,
                    "item": item,
                    "cluster": f"of {item}",
                    "layer": range(len(curve)),
                    "margin": curve,
                    "kl": np.nan,
                }
            )
            for (condition, item), curve in curves.items()
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize(
    ("curve", "settled"),
    [
        ([1, 1, 1, 1], 0),
        ([-1, 1, 1, 1], 1),
        ([-1, 1, -1, 1], 3),
        ([1, -2, -3, -1], 1),
        ([0, 0, 1, 1], 2),  # no answer is not the answer
        ([1, 1, 1, 0], np.nan),
    ],
)
def test_an_answer_is_settled_where_its_sign_stays(curve: list[float], settled: float) -> None:
    frame = settled_layers(margins({("instructed", "a"): [float(x) for x in curve]}))
    np.testing.assert_equal(frame["settled"].tolist(), [settled])
    assert frame[["condition", "item", "cluster"]].iloc[0].tolist() == ["instructed", "a", "of a"]


def test_settled_layers_are_averaged_per_condition_over_clusters() -> None:
    curves = {
        ("instructed", "a"): [1, 1, 1.0], ("instructed", "b"): [-1, -1, 1.0],
        ("placebo", "a"): [-1, 1, 1.0], ("placebo", "b"): [1, 1, 0.0],
        ("clean", "a"): [1, 1, -1.0], ("clean", "b"): [1, 1, -1.0],
    }  # fmt: skip
    frame = settled_layer(margins(curves)).set_index("condition")
    assert frame["estimate"].to_dict() == {"instructed": 1.0, "placebo": 1.0, "clean": 2.0}
    assert frame["n"].to_dict() == {"instructed": 2, "placebo": 1, "clean": 2}
    expected = cluster_mean([0, 2], ["a", "b"])
    assert tuple(frame.loc["instructed", ["low", "high"]]) == (expected.low, expected.high)
    assert "single cluster" in frame.loc["placebo", "reason"]


def test_settled_layers_of_pairs_are_per_run() -> None:
    frame = pd.DataFrame(
        {
            "pair": 0, "item": "", "cluster": "0", "run": ["source"] * 3 + ["destination"] * 3,
            "condition": ["instructed"] * 3 + ["placebo"] * 3, "layer": [0, 1, 2] * 2,
            "margin": [-1.0, 1, 1, 1, 1, -1], "log_prob_a": 0.0, "log_prob_b": 0.0,
            "rank_a": 1, "rank_b": 1,
        }
    )  # fmt: skip
    assert settled_layers(frame).set_index("run")["settled"].to_dict() == {
        "source": 1, "destination": 2,
    }  # fmt: skip
    assert settled_layer(frame)["condition"].tolist() == ["instructed", "placebo"]


def test_effects_are_two_way_intervals_with_family_wise_p() -> None:
    draw = np.random.default_rng(0)
    values = {
        name: gain * np.array([0, 0, 1.0])[:, None, None] + 0.1 * draw.normal(size=(3, 2, 10))
        for name, gain in (("instructed", 2), ("placebo", 0))
    }
    rows = [
        ("instructed", name, slot, f"i{item}", f"c{item}", layer, table[layer, slot, item])
        for name, table in values.items()
        for layer in range(3)
        for slot in range(2)
        for item in range(10)
    ]
    columns = ["contrast", "condition", "slot", "item", "cluster", "layer", "margin"]
    lens = LensConditions(pd.DataFrame(rows, columns=columns))
    frame = layer_effects(lens, "instructed", seed=0)
    clusters, labels = [f"c{k}" for k in range(10)], ("lens", "instructed")
    interval = effect(*values.values(), clusters)
    np.testing.assert_array_equal(frame["estimate"], interval.estimate)
    np.testing.assert_array_equal(frame["low"], interval.low)
    np.testing.assert_array_equal(frame["p_raw"], interval.p)
    test = max_t_of_effects(*values.values(), clusters, seed=0, labels=labels)
    np.testing.assert_array_equal(frame["p_corrected"], test.p_corrected)
    assert frame["clear"].tolist() == [False, False, True]
    assert parting_layer(lens.arms("instructed"), seed=0).estimate == 2
    assert parting_layer(lens.difference("instructed"), seed=0).estimate == 2


def lens_of_divergences(n_texts: int) -> LensConditions:
    """Item k: the treated prompt lies .3 + .01 k from its placebo, two placebos .1; clean .5 of all."""
    rows = [
        {
            "contrast": "careful", "condition": condition, "slot": slot, "item": f"i{k}",
            "cluster": f"c{k}", "layer": layer, "kl": 0.0, "overlap": 0.6, "kl_clean": 0.0,
            "overlap_clean": 0.2, "js_clean": 0.5 * layer,
            "js": (0.3 + 0.01 * k if condition == "careful" else 0.1 if slot else np.nan)
            * (2 if layer == 1 else 1),
        }
        for k in range(8)
        for condition in ("careful", "placebo")
        for slot in range(n_texts)
        for layer in range(3)
    ]  # fmt: skip
    return LensConditions(pd.DataFrame(rows), ())


def test_divergences_at_the_output_stand_on_the_scale_of_two_placebos() -> None:
    table = divergence_table(lens_of_divergences(2))
    table = table.set_index(["condition", "against"])
    own = table.loc[("careful", "placebo")]
    assert own["js"] == pytest.approx(0.335)
    assert own["excess"] == pytest.approx(0.235)
    assert (own["peak_layer"], own["peak_js"]) == (1, pytest.approx(0.67))
    assert (own["overlap"], own["js_n"], own["js_n_clusters"]) == (pytest.approx(0.6), 8, 8)
    assert table.loc[("placebo", "another placebo"), "js"] == pytest.approx(0.1)
    clean = table.loc[("careful", "clean")]
    assert (clean["js"], clean["peak_layer"]) == (pytest.approx(1.0), 2)


def test_with_one_text_there_are_no_two_placebos_to_compare_with() -> None:
    table = divergence_table(lens_of_divergences(1))
    assert "another placebo" not in set(table["against"])
    assert table["excess"].isna().all()
