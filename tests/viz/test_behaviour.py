from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp import viz
from interp.errors import InterpError
from interp.viz import CONDITION_COLOURS

NAN = float("nan")


def number(estimate: float, half: float = 0.1, n: int = 12) -> dict[str, Any]:
    """The interval columns of a number; without an interval where it is NaN."""
    low, high = estimate - half, estimate + half
    reason = "a single cluster" if np.isnan(half) else "undefined" if np.isnan(estimate) else ""
    return {"estimate": estimate, "low": low, "high": high, "n": n, "n_clusters": 9} | {
        "reason": reason
    }


def effects() -> pd.DataFrame:
    rows = [
        ("ambiguous", "instructed", "placebo", 0.3),
        ("ambiguous", "instructed", "clean", 0.9),
        ("ambiguous", "negated", "placebo", NAN),
        ("disambiguated", "instructed", "placebo", -0.2),
        ("disambiguated", "negated", "placebo", 0.1),
    ]
    return pd.DataFrame(
        [
            {"items": s, "condition": c, "against": a, "metric": m} | number(e * share)
            for m, share in (("option_margin", 1.0), ("margin", 9.0))
            for s, c, a, e in rows
        ]
    )


def arms(frame: list[dict[str, Any]]) -> pd.DataFrame:
    """Every row for instructed, its placebo (half the number) and no instruction (0)."""
    records = []
    for row in frame:
        for condition, of, share in (
            ("instructed", "", 1.0),
            ("placebo", "instructed", 0.5),
            ("specificity_0", "", 0.0),
        ):
            interval = number(row["estimate"] * share)
            records.append({**row, "condition": condition, "control_of": of, **interval})
    return pd.DataFrame(records)


def over_rounds(**fixed: str) -> pd.DataFrame:
    return arms([{**fixed, "round": k, "estimate": 0.2 * k} for k in range(3)])


def flip_counts(items: str = "ambiguous", **fixed: Any) -> pd.DataFrame:
    counts = {"right_right": 4, "right_wrong": 1, "wrong_right": 2, "wrong_wrong": 3}
    net = {"net": 0.1, "net_low": -0.1, "net_high": 0.3, "net_reason": ""}
    return pd.DataFrame(
        [
            {"items": items, "condition": c, "control_of": of, **fixed, **counts, **net}
            for c, of in (("placebo", "instructed"), ("instructed", ""))
        ]
    )


def drawn(figure: go.Figure, name: str, axis: str = "x") -> Any:
    """The traces of a name in one panel."""
    return [t for t in figure.data if t.name == name and t.xaxis == axis]


def test_forest_plot_shows_effects_against_the_placebo_only():
    figure = viz.effects_by_condition(effects())
    (ambiguous,) = drawn(figure, "instructed")
    (disambiguated,) = drawn(figure, "instructed", "x2")
    assert list(ambiguous.x) == [0.3]
    assert list(disambiguated.x) == [-0.2]
    assert ambiguous.x[0] + ambiguous.error_x.array[0] == pytest.approx(0.4)
    assert ambiguous.x[0] - ambiguous.error_x.arrayminus[0] == pytest.approx(0.2)
    assert figure.layout.xaxis.zeroline


def test_forest_plot_says_why_an_effect_is_missing():
    texts = [t for trace in viz.effects_by_condition(effects()).data for t in trace.text or ()]
    assert texts == ["undefined"]


def test_a_number_without_an_interval_is_open_and_has_no_bar():
    frame = effects().assign(low=NAN, high=NAN)
    (trace,) = drawn(viz.effects_by_condition(frame), "instructed")
    assert trace.marker.color == ("#ffffff",)
    assert list(trace.error_x.array) == [0.0]


def test_forest_plot_without_a_placebo_is_refused():
    with pytest.raises(InterpError, match="no effect against the placebo"):
        viz.effects_by_condition(effects()[lambda f: f["against"] == "clean"])


def ranks() -> pd.DataFrame:
    key = {"items": "all", "condition": "instructed", "against": "placebo"}
    rows = [
        key | {"rank": r, "measure": m} | number(v, n=n)
        for m, values in (("gain", (0.4, 0.1)), ("correct", (0.9, 0.3)))
        for r, v, n in zip("12", values, (7, 5), strict=True)
    ]
    top = key | {"rank": "top - rest", "measure": "gain"} | number(0.3)
    return pd.DataFrame([*rows, top])


def test_gain_by_rank_prints_n_at_every_point_and_the_chance_line():
    figure = viz.gain_by_rank(ranks(), chance=0.25)
    (gain,), (correct,) = drawn(figure, "instructed"), drawn(figure, "instructed", "x2")
    np.testing.assert_allclose(gain.y, [0.4, 0.1, 0.3])
    assert [text.strip() for text in gain.text] == ["n=7", "n=5", "n=12"]
    np.testing.assert_allclose(correct.y, [0.9, 0.3])
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "top − rest"]
    assert list(figure.layout.xaxis2.ticktext) == ["1", "2"]
    assert [s.y0 for s in figure.layout.shapes if s.y0 == s.y1] == [0.25]


def test_gain_by_rank_of_a_subset_that_is_not_there_is_refused():
    with pytest.raises(InterpError, match="no gain on ambiguous items"):
        viz.gain_by_rank(ranks(), items="ambiguous")


def test_flips_are_mirrored_shares_with_the_placebo_under_its_condition():
    figure = viz.flips(flip_counts())
    (to_incorrect,) = drawn(figure, "instructed, correct → incorrect")
    (to_correct,) = drawn(figure, "instructed, incorrect → correct")
    assert (list(to_incorrect.x), list(to_incorrect.text)) == ([-0.1], ["1"])
    assert (list(to_correct.x), list(to_correct.text)) == ([0.2], ["2"])
    assert list(figure.layout.yaxis.ticktext) == ["instructed", "placebo of instructed"]
    (placebo,) = drawn(figure, "placebo of instructed, incorrect → correct")
    assert placebo.y[0] < to_correct.y[0]
    assert placebo.marker.color.startswith("rgba(230,159,0")  # the placebo's orange
    (net,) = drawn(figure, "instructed")
    assert net.x[0] + net.error_x.array[0] == pytest.approx(0.3)


def test_round_flips_put_the_placebo_to_the_right_of_its_condition():
    figure = viz.round_flips(pd.concat([flip_counts(round=k) for k in (1, 2)]))
    (treated,) = drawn(figure, "instructed, incorrect → correct")
    (placebo,) = drawn(figure, "placebo of instructed, incorrect → correct")
    np.testing.assert_allclose(treated.x, [0.8, 1.8])
    np.testing.assert_allclose(placebo.x, [1.2, 2.2])
    np.testing.assert_allclose(treated.y, 0.2)


def test_categories_are_sorted_by_the_first_conditions_effect_after_all():
    rows = [
        {"benchmark": "bbq", "category": c, "items": s, "condition": "instructed"}
        | {"measure": m}
        | number(v)
        for c, v in (("all", 0.1), ("Age", -0.4), ("Race_x_SES", 0.5), ("Religion", 0.2))
        for s in ("all", "ambiguous", "disambiguated")
        for m in ("effect", "accuracy")
    ]
    figure = viz.categories(pd.DataFrame(rows))
    assert list(figure.layout.yaxis.ticktext) == ["all", "Race x SES", "Religion", "Age"]
    assert [a.text for a in figure.layout.annotations] == ["ambiguous", "disambiguated"]
    (trace,) = drawn(figure, "instructed", "x2")
    at = dict(zip(trace.y, trace.x, strict=True))
    assert [at[y] for y in (0, -1, -2, -3)] == [0.1, 0.5, 0.2, -0.4]


def letter_rows(share: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"condition": c, "letter": x, "share": share, "option_chosen": 0.5, "n": 6}
            for c in ("clean", "placebo")
            for x in "ab"
        ]
    )


def test_letters_have_the_line_of_no_preference():
    figure = viz.letters(letter_rows())
    assert {shape.y0 for shape in figure.layout.shapes} == {0.5}
    assert drawn(figure, "placebo")[0].marker.color == CONDITION_COLOURS["placebo"]
    assert len(figure.layout.annotations) == 2


def test_letters_without_a_letter_token_show_the_options_alone():
    figure = viz.letters(letter_rows(share=NAN))
    assert [a.text for a in figure.layout.annotations] == ["option chosen by its text"]


def test_rounds_draw_a_condition_with_its_placebo_dashed_and_no_instruction_beside_it():
    frame = over_rounds(items="ambiguous", measure="accuracy")
    figure = viz.rounds(frame, measure="accuracy", chance=0.25)
    lines = {t.name: t for t in figure.data if t.fill is None}
    assert list(lines) == ["specificity_0", "instructed", "placebo"]
    np.testing.assert_allclose(lines["instructed"].y, [0, 0.2, 0.4])
    assert lines["instructed"].line.dash == "solid"
    assert lines["placebo"].line.dash == "dash"
    assert lines["placebo"].line.color == CONDITION_COLOURS["placebo"]
    assert lines["specificity_0"].line.dash == "dot"
    assert [s.y0 for s in figure.layout.shapes] == [0.25]
    bands = [t.name for t in figure.data if t.fill]
    assert bands == ["instructed, 95 %", "placebo, 95 %"]


def test_rounds_leave_a_hole_in_the_band_where_there_is_no_interval():
    frame = over_rounds(items="all", measure="margin")
    frame.loc[frame["round"] == 1, ["low", "high"]] = NAN
    figure = viz.rounds(frame, measure="margin")
    assert [list(t.x) for t in figure.data if t.name == "instructed, 95 %"] == [[0, 0], [2, 2]]
    assert not figure.layout.shapes  # a margin has no chance level


def test_rounds_without_a_number_of_the_measure_are_refused():
    frame = over_rounds(items="all", measure="accuracy")
    with pytest.raises(InterpError, match="no p_unknown over rounds: leave the figure out"):
        viz.rounds(frame, measure="p_unknown")


def test_round_effects_fill_only_what_passes_the_test_over_the_rounds():
    key = {"items": "all", "condition": "instructed", "against": "placebo"}
    key |= {"measure": "option_margin"}
    clear, untested, null = number(0.5), number(0.5), number(0.05)
    rows = [
        key | {"round": k, "p_corrected": p} | interval
        for k, (interval, p) in enumerate([(clear, 0.01), (untested, 0.3), (null, 0.2)])
    ]
    second = [{**rows[0], "against": "specificity_0", **number(0.9)}]
    figure = viz.round_effects(pd.DataFrame(rows + second))
    (line,) = [t for t in figure.data if t.fill is None]
    blue = CONDITION_COLOURS["instructed"]
    assert list(line.marker.color) == [blue, "#ffffff", "#ffffff"]
    np.testing.assert_allclose(line.y, [0.5, 0.5, 0.05])


def test_toxicity_names_its_scorer_and_leaves_out_a_measure_without_numbers():
    frame = pd.concat(
        [
            over_rounds(measure="mean"),
            over_rounds(measure="expected_maximum").assign(estimate=NAN),
            over_rounds(measure="perplexity"),
        ]
    ).assign(scorer="offline")
    figure = viz.toxicity(frame)
    assert "scorer: offline" in figure.layout.title.subtitle.text
    titles = [figure.layout.yaxis.title.text, figure.layout.yaxis2.title.text]
    assert titles == ["mean toxicity", "perplexity"]
    assert "yaxis3" not in figure.layout


def test_edits_show_the_four_shares_and_no_other_measure():
    frame = pd.concat([over_rounds(measure=m) for m in ("kept_prefix", "rewritten", "kind_edited")])
    figure = viz.edits(frame)
    assert figure.layout.yaxis2.title.text == "rewritten"
    assert "yaxis3" not in figure.layout


@pytest.mark.parametrize(
    ("draw", "frame", "column"),
    [
        (viz.effects_by_condition, effects(), "against"),
        (viz.gain_by_rank, ranks(), "rank"),
        (viz.flips, flip_counts(), "wrong_right"),
        (viz.round_flips, flip_counts(round=1), "round"),
        (viz.letters, letter_rows(), "option_chosen"),
        (viz.rounds, over_rounds(items="all", measure="accuracy"), "control_of"),
        (viz.edits, over_rounds(measure="appended"), "low"),
    ],
)
def test_missing_columns_are_named(draw: Any, frame: pd.DataFrame, column: str):
    with pytest.raises(InterpError, match=f"no column '{column}'"):
        draw(frame.drop(columns=column))
