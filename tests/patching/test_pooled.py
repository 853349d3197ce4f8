"""Sweeps over pairs whose positions differ: names of places, what is common, means over spans."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import InterpError
from interp.patching import SweepResult
from interp.patching.pooled import name_places, place_name, pool_pairs, span_means
from interp.prompts import TokenizedPrompt

PLACES = ["instruction +0", "instruction +1", "template_1 +0", "template_1 +1", "template_1 last"]


@pytest.fixture
def prompt() -> TokenizedPrompt:
    spans = {"instruction": slice(0, 2), "template_1": slice(2, 5)}
    return TokenizedPrompt(torch.arange(5), spans, tuple("abcde"), "abcde")


def rows_of(axis: str, effects: dict[str, dict[tuple[str, str], float]]) -> pd.DataFrame:
    """``effects[pair][layer, place]``; every pair's whole effect is 2."""
    rows = [
        {
            "metric": "margin", "site": "resid_pre", "layer": layer, axis: place, "pair": pair,
            "cluster": f"cluster of {pair}", "value": 1 + effect, "destination": 1.0, "source": 3.0,
        }
        for pair, cells in effects.items() for (layer, place), effect in cells.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_place_names_count_within_the_span_and_the_last_position_is_last(
    prompt: TokenizedPrompt,
) -> None:
    assert [place_name(prompt, k) for k in range(5)] == PLACES


def test_rows_by_position_are_named_and_keep_their_tokens(prompt: TokenizedPrompt) -> None:
    tokens = [f"{token}_{k}" for k, token in enumerate("abcde")]
    frame = rows_of("pos", {"one": {("0", token): 0.5 for token in tokens}})
    result = SweepResult.from_dataframe(frame, axis_names=["layer", "pos"])
    named = name_places(result, prompt)
    assert named["pos"].tolist() == PLACES
    assert named["token"].tolist() == tokens
    spans = rows_of("span", {"one": {("0", "instruction"): 0.5}})
    unnamed = SweepResult.from_dataframe(spans, axis_names=["layer", "span"])
    pd.testing.assert_frame_equal(name_places(unnamed, prompt), unnamed.to_dataframe())


def test_pairs_meet_on_the_places_that_all_of_them_have() -> None:
    pairs = {
        "short": {("0", "instruction +0"): 0.1, ("0", "template last"): 0.2},
        "long": {
            ("0", "instruction +0"): 0.3,
            ("0", "instruction +1"): 9.0,
            ("0", "template last"): 0.4,
        },
    }
    frame = rows_of("pos", pairs)
    result = pool_pairs(frame, ["layer", "pos"], title="a -> b", seed=3, notes=["a note"])
    assert result.axis_labels["pos"] == ["instruction +0", "template last"]
    np.testing.assert_allclose(result.effect().numpy(), [[[0.1, 0.3], [0.2, 0.4]]], atol=1e-6)
    assert result.notes == ("a note", "1 of 3 positions are not in every pair: left out")
    assert (result.title, result.seed) == ("a -> b", 3)


def test_pairs_without_a_common_place_are_refused() -> None:
    frame = rows_of("pos", {"one": {("0", "instruction +0"): 0.1}, "two": {("0", "last"): 0.1}})
    with pytest.raises(InterpError, match="no pos is common to all pairs: use cells layer_span"):
        pool_pairs(frame, ["layer", "pos"])


def test_a_grid_without_places_is_pooled_as_it_is() -> None:
    frame = rows_of("head", {name: {("0", "0"): 0.1, ("0", "1"): 0.2} for name in ("one", "two")})
    result = pool_pairs(frame, ["layer", "head"])
    assert result.values.shape == (1, 2, 2)
    assert result.notes == ()
    assert span_means(result)["span"].tolist() == ["layer 0"]


def test_a_span_has_the_mean_over_its_cells_and_its_share_of_the_whole_effect() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=10)
    cells = {
        ("0", "instruction +0"): 0.2,
        ("0", "instruction +1"): 0.4,
        ("0", "template last"): 0.0,
        ("1", "instruction +0"): 0.0,
        ("1", "instruction +1"): 0.2,
        ("1", "template last"): 1.0,
    }
    pairs = {f"p{k}": {c: e + noise[k] for c, e in cells.items()} for k in range(10)}
    means = span_means(pool_pairs(rows_of("pos", pairs), ["layer", "pos"])).set_index("span")
    assert means.index.tolist() == ["instruction", "template"]
    np.testing.assert_allclose(means["estimate"], [0.2, 0.5], atol=0.01)
    np.testing.assert_allclose(means["share"], means["estimate"] / 2, atol=1e-6)
    assert means["cells"].tolist() == [4, 2]
    assert means["largest_cell"].tolist() == ["L0 instruction +1", "L1 template last"]
    np.testing.assert_allclose(means["largest_effect"], [0.4, 1.0], atol=0.01)
    assert ((means["low"] < means["estimate"]) & (means["estimate"] < means["high"])).all()
    assert (means["share_low"] < means["share"]).all()
    assert means["n_clusters"].eq(10).all()
