from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.behaviour.scores import OptionScores
from interp.errors import InterpError
from interp.models import ModelCard
from interp.viz import CONDITION_COLOURS, effects, levels, position_bias

SHIFT = {"clean": 0.0, "instructed": 0.5, "placebo": 0.1, "negated": -0.4}


def make_scores(conditions: tuple[str, ...] = tuple(SHIFT), n_items: int = 8) -> OptionScores:
    """The margin is the item's number plus SHIFT, so every effect is known exactly."""
    rows: list[dict[str, Any]] = []
    treated = [c for c in conditions if c not in ("clean", "placebo")]
    for i in range(n_items):
        for subset in ("ambiguous", "disambiguated"):
            for condition in conditions:
                for control_of in treated if condition == "placebo" else [""]:
                    for order in range(3):
                        rows.append(_row(i, subset, condition, control_of, order))
    return OptionScores(pd.DataFrame(rows), make_card())


def make_card() -> ModelCard:
    """A card of nothing in particular: no figure looks at it."""
    by_type = {"str": "", "int": 0, "bool": False, "dict[str, str]": {}}
    facts = {f.name: by_type.get(str(f.type)) for f in dataclasses.fields(ModelCard)}
    return ModelCard(**{**facts, "mode": "raw", "checks": ()})


def _row(i: int, subset: str, condition: str, control_of: str, order: int) -> dict[str, Any]:
    p = np.array([0.5, 0.3, 0.2])
    return {
        "item": f"{subset}{i}",
        "cluster": f"c{i // 2}",
        "context_condition": subset,
        "condition": condition,
        "text_id": condition,
        "slot": 0,
        "control_of": control_of,
        "order": order,
        "mismatch": 0.0,
        "margin": 2 * i + SHIFT[condition],
        "option_margin": i + SHIFT[condition],
        "p_unknown": p[0],
        "p_gold": p[0],
        "p_stereotyped": p[1],
        "correct": subset == "ambiguous",
        "chosen_role": "unknown",
        "chosen_position": (-order) % 3,
        "gold_rank": 1,
        **{f"p_position_{k}": p[(k + order) % 3] for k in range(3)},
        **{f"letter_{letter}": share for letter, share in zip("abc", (0.1, 0.2, 0.7), strict=True)},
    }


def test_effects_shows_every_contrast_of_every_panel_at_its_estimate():
    scores = make_scores()
    drawn = {(t.name, t.xaxis): t.x[0] for t in effects(scores).data}
    for panel, axis in (("ambiguous", "x"), ("disambiguated", "x2")):
        expected = scores.effects().query("metric == 'option_margin'")
        for row in expected[expected["items"] == panel].to_dict("records"):
            assert drawn[row["contrast"], axis] == pytest.approx(row["estimate"])
    assert drawn["instructed - placebo", "x"] == pytest.approx(0.4)
    assert drawn["negated - placebo", "x2"] == pytest.approx(-0.5)


def test_effects_error_bars_end_at_the_interval():
    row = make_scores().effects().iloc[0]
    bar = effects(make_scores()).data[0].error_x
    assert row["estimate"] + bar.array[0] == pytest.approx(row["high"])
    assert row["estimate"] - bar.arrayminus[0] == pytest.approx(row["low"])


def test_effects_draws_the_second_reading_lighter_and_keeps_zero_in_view():
    figure = effects(make_scores())
    traces = {t.name: t for t in figure.data if t.xaxis == "x"}
    assert traces["instructed - placebo"].marker.color == CONDITION_COLOURS["instructed"]
    assert traces["instructed - clean"].marker.symbol.endswith("-open")
    assert traces["instructed - clean"].marker.color.startswith("rgba")
    assert figure.layout.xaxis.zeroline
    assert figure.layout.xaxis.rangemode == "tozero"


def test_effects_of_one_condition_alone_is_refused():
    with pytest.raises(InterpError, match="no contrast to draw"):
        effects(make_scores(("clean",)))


def test_levels_shows_each_condition_and_context_condition_apart():
    figure = levels(make_scores())
    named = {(t.name, t.xaxis): t for t in figure.data if t.x is not None and len(t.x) == 1}
    assert named["instructed, ambiguous", "x"].x[0] == 1.0
    assert named["instructed, disambiguated", "x"].x[0] == 0.0
    assert named["instructed, ambiguous", "x2"].x[0] == pytest.approx(0.5)
    assert named["placebo, ambiguous", "x"].marker.color == CONDITION_COLOURS["placebo"]
    heights = [t.y[0] for (_, axis), t in named.items() if axis == "x" and "items" not in t.name]
    assert len(heights) == len(set(heights)) == 8


def test_levels_draws_chance_at_one_over_the_number_of_options():
    chance = [t for t in levels(make_scores()).data if t.name == "chance"]
    assert [t.x[0] for t in chance] == [pytest.approx(1 / 3)] * 2


def test_position_bias_shows_scores_by_position_and_letters():
    figure = position_bias(make_scores())
    text = next(t for t in figure.data if t.name == "clean" and t.xaxis == "x")
    letter = next(t for t in figure.data if t.name == "clean" and t.xaxis == "x2")
    np.testing.assert_allclose(text.y, [1 / 3] * 3)
    np.testing.assert_allclose(letter.y, [0.1, 0.2, 0.7])
    assert list(figure.layout.xaxis.ticktext) == ["(a)", "(b)", "(c)"]
    assert [s.y0 for s in figure.layout.shapes] == [pytest.approx(1 / 3)] * 2
