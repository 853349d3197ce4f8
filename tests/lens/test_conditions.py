"""Items under several conditions: the prompts are the pairs', the numbers those of one prompt alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.data import ChoiceItem, load_items
from interp.errors import InterpError
from interp.lens import (
    LensConditions,
    lens_conditions,
    lens_divergence,
    lens_prompt,
    lens_trajectory,
)
from interp.prompts import (
    ConditionSpec,
    TextBank,
    condition_prompt,
    load_conditions,
    make_pair,
)

ROUNDING: Any = {"rtol": 1e-4, "atol": 2e-6}
"""Prompts that run together and alone differ by so much in float32."""

READINGS = ["margin", "log_prob_a", "log_prob_b", "rank_a", "rank_b"]


@pytest.fixture(scope="module")
def items() -> list[ChoiceItem]:
    return list(load_items("bundled:choices", limit=3, seed=0))


@pytest.fixture(scope="module")
def lens(load_tiny: Any, items: list[ChoiceItem]) -> LensConditions:
    return lens_conditions(load_tiny("llama"), items, n_texts=2, progress=False)


def rows_of(lens: LensConditions, contrast: str, condition: str, slot: int, item: str) -> Any:
    frame = lens.frame
    return frame[
        (frame["contrast"] == contrast)
        & (frame["condition"] == condition)
        & (frame["slot"] == slot)
        & (frame["item"] == item)
    ]


def test_there_is_a_row_per_prompt_and_layer(lens: LensConditions, items: list[ChoiceItem]) -> None:
    sizes = lens.frame.groupby(["contrast", "condition", "slot"], sort=False).size()
    expected = [
        ("", "clean", 0), ("instructed", "instructed", 0), ("instructed", "placebo", 0),
        ("instructed", "instructed", 1), ("instructed", "placebo", 1),
        ("revealing", "placebo", 0), ("revealing", "revealing", 0),
    ]  # fmt: skip
    assert sorted(sizes.index) == sorted(expected)
    assert set(sizes) == {5 * len(items)}
    assert lens.left_out == ()
    assert lens.contrasts == ("instructed", "revealing")
    assert "lens margin, nats" in lens._repr_html_()


@pytest.mark.parametrize("condition", ["instructed", "revealing"])
def test_readings_and_divergences_are_those_of_the_pair(
    lens: LensConditions, items: list[ChoiceItem], load_tiny: Any, condition: str
) -> None:
    model = load_tiny("llama")
    for item in items:
        pair = make_pair(model, item, condition)
        alone = lens_trajectory(model, pair, progress=False).frame.groupby("run")
        apart = lens_divergence(model, pair, progress=False)
        treated = rows_of(lens, condition, condition, 0, item.id)
        placebo = rows_of(lens, condition, "placebo", 0, item.id)
        for mine, run in ((treated, "source"), (placebo, "destination")):
            expected = alone.get_group(run)[READINGS].to_numpy()
            np.testing.assert_allclose(mine[READINGS].to_numpy(), expected, **ROUNDING)
        names = ["kl", "js", "overlap"]
        np.testing.assert_allclose(treated[names].to_numpy(), apart[names].to_numpy(), **ROUNDING)
        assert set(treated["n_tokens"]) == {len(pair.source)}
        assert set(placebo["n_tokens"]) == {len(pair.destination)}
        assert placebo[names].isna().all(axis=None)


def test_placebos_are_compared_with_the_one_before_and_all_with_clean(
    lens: LensConditions, items: list[ChoiceItem], load_tiny: Any
) -> None:
    model, item = load_tiny("llama"), items[0]
    bank = TextBank(model.tokenizer)
    placebos = bank.placebos(bank.texts("instructed", item, 2))
    prompts = [condition_prompt(model, item, placebo) for placebo in placebos]
    pair = make_pair(model, item, "placebo", against="clean")
    same_end = len(prompts[0]) == len(pair.source)  # no shared tokens were added
    between = rows_of(lens, "instructed", "placebo", 1, item.id)
    assert between["js"].iloc[-1] > 0
    if same_end:
        expected = lens_divergence(model, make_pair(model, prompts[1].ids, prompts[0].ids))
        np.testing.assert_allclose(between["kl"], expected["kl"], **ROUNDING)
    far = lens_divergence(model, pair, progress=False)
    mine = rows_of(lens, "instructed", "placebo", 0, item.id)
    np.testing.assert_allclose(mine["js_clean"], far["js"], **ROUNDING)
    clean = rows_of(lens, "", "clean", 0, item.id)
    assert clean[["js", "js_clean"]].isna().all(axis=None)
    long = lens.divergences()
    kinds = long.groupby(["contrast", "condition", "against"]).size() / (5 * len(items))
    assert kinds.to_dict() == {
        ("instructed", "instructed", "clean"): 2, ("instructed", "instructed", "placebo"): 2,
        ("instructed", "placebo", "clean"): 2, ("instructed", "placebo", "another placebo"): 1,
        ("revealing", "revealing", "clean"): 1, ("revealing", "revealing", "placebo"): 1,
        ("revealing", "placebo", "clean"): 1,
    }  # fmt: skip


def test_difference_and_arms_are_condition_minus_placebo_of_the_slot(
    lens: LensConditions, items: list[ChoiceItem]
) -> None:
    arms = lens.arms("instructed")
    assert arms.treated.shape == arms.control.shape == (5, 2, 3)
    assert arms.items == [item.id for item in items]
    assert arms.clusters == [item.cluster for item in items]
    assert arms.contrast == "instructed"
    difference = lens.difference("instructed")
    for k, item in enumerate(items):
        treated, placebo = (
            [rows_of(lens, "instructed", name, slot, item.id)["margin"] for slot in (0, 1)]
            for name in ("instructed", "placebo")
        )
        np.testing.assert_array_equal(arms.treated[:, :, k].T, treated)
        np.testing.assert_array_equal(arms.control[:, :, k].T, placebo)
        mine = difference[difference["item"] == item.id]
        expected = np.mean(treated, axis=0) - np.mean(placebo, axis=0)
        np.testing.assert_allclose(mine["difference"], expected)
        assert set(mine["cluster"]) == {item.cluster}
        assert mine["layer"].tolist() == list(range(5))


def test_an_item_without_a_margin_is_left_out_and_counted(
    tiny_model: Any, items: list[ChoiceItem]
) -> None:
    choices = tuple(dataclasses.replace(choice, role="other") for choice in items[0].choices)
    odd = dataclasses.replace(items[0], id="odd", choices=choices, context_condition="ambiguous")
    names = ("instructed", "placebo")
    lens = lens_conditions(tiny_model, [odd, items[1]], conditions=names, progress=False)
    assert lens.left_out == ("odd",)
    assert set(lens.frame["item"]) == {items[1].id}
    assert set(lens.frame["condition"]) == set(names)
    with pytest.raises(InterpError, match="none of the 1 items has a margin"):
        lens_conditions(tiny_model, [odd], progress=False)


def test_what_cannot_be_read_is_refused_in_one_line(
    tiny_model: Any, items: list[ChoiceItem], lens: LensConditions
) -> None:
    with pytest.raises(InterpError, match="is given 2 times"):
        lens_conditions(tiny_model, [items[0], items[0]], progress=False)
    with pytest.raises(InterpError, match="texts 1 to 30, asked for 0"):
        lens_conditions(tiny_model, items, n_texts=0, progress=False)
    with pytest.raises(InterpError, match="no condition 'moral'"):
        lens_conditions(tiny_model, items, conditions=("moral",), progress=False)
    with pytest.raises(InterpError, match="'negated' was not read with its placebos"):
        lens.arms("negated")


def test_results_hold_numbers_per_layer_alone(lens: LensConditions, load_tiny: Any) -> None:
    d_vocab = load_tiny("llama").cfg.d_vocab
    assert vars(lens).keys() == {"frame", "left_out", "k", "metric"}
    assert lens.frame.shape == (7 * 3 * 5, 18)
    assert d_vocab not in lens.frame.shape
    assert all(pd.api.types.is_scalar(cell) for cell in lens.frame.iloc[0])


def test_conditions_of_ones_own_are_read_by_their_name(
    tiny_model: Any, items: list[ChoiceItem]
) -> None:
    mine = ConditionSpec(name="mine", description="x", texts=("Please take care.",))
    bank = TextBank(tiny_model.tokenizer, conditions={**load_conditions(), "mine": mine})
    lens = lens_conditions(
        tiny_model, items[:1], conditions=("mine", "placebo"), bank=bank, progress=False
    )
    assert lens.contrasts == ("mine",)
    pair = make_pair(tiny_model, items[0], "mine", bank=bank)
    alone = lens_prompt(tiny_model, pair.source, pair.target)
    read = rows_of(lens, "mine", "mine", 0, items[0].id)
    np.testing.assert_allclose(read["margin"], alone["margin"], **ROUNDING)


def test_order_and_placement_reach_the_prompt(tiny_model: Any, items: list[ChoiceItem]) -> None:
    options = {"order": 1, "placement": "before"}
    lens = lens_conditions(
        tiny_model, items[:1], conditions=("instructed", "placebo"), progress=False, **options
    )
    pair = make_pair(tiny_model, items[0], "instructed", **options)
    alone = lens_prompt(tiny_model, pair.source, pair.target)
    mine = rows_of(lens, "instructed", "instructed", 0, items[0].id)
    np.testing.assert_allclose(mine["margin"], alone["margin"], **ROUNDING)
