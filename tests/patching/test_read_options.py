"""All options of one run: equal to scoring without patches, and to the sweep's contrast with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch

from interp.behaviour import score_variants
from interp.data import Choice, ChoiceItem
from interp.errors import InterpError
from interp.patching import Grid, blocked_edges, cell_patches, knockout, read_options, sweep
from interp.prompts import TextBank, cyclic_orders, make_pair
from interp.prompts.pair import paired_conditions

CHOICES = (
    Choice("Not known", "unknown"),
    Choice("The farmer", "stereotyped"),
    Choice("The teacher", "counter"),
)
ITEM = ChoiceItem("q", "own", "own", "They met.", "Who was late?", CHOICES, 0, "ambiguous", "c")
SHARED = ChoiceItem(  # both options of the contrast begin with "The"
    "s", "own", "own", "They met.", "Who was late?",
    (
        Choice("The teacher", "counter"),
        Choice("The farmer", "stereotyped"),
        Choice("Not known", "unknown"),
    ),
    0, "disambiguated", "c",
)  # fmt: skip


def option_margin(frame: pd.DataFrame, item: ChoiceItem) -> float:
    a, b = item.contrast() or (0, 1)
    return float(frame["log_prob"][a] - frame["log_prob"][b])


@pytest.mark.parametrize("item", [ITEM, SHARED], ids=["apart", "shared tokens"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_unpatched_options_are_those_of_scoring(
    load_tiny: Callable[..., Any], architecture: str, item: ChoiceItem
) -> None:
    model, order = load_tiny(architecture), 1
    pair = make_pair(model, item, "instructed", order=order)
    assert pair.options is not None
    assert bool(pair.options.n_shared) == (item is SHARED)
    both = paired_conditions(TextBank(model.tokenizer), item, "instructed", against="placebo")
    listed = cyclic_orders(len(item.choices))[order]
    for run, condition in zip(("source", "destination"), both, strict=True):
        scored = score_variants(model, item, [condition], orders=[order]).iloc[0]
        found = read_options(model, pair, run=run)
        assert found["option"].tolist() == [choice.text for choice in item.choices]
        assert found["gold"].tolist() == [k == item.gold for k in range(3)]
        expected = {k: scored[f"p_position_{at}"] for at, k in enumerate(listed)}
        assert found["probability"].tolist() == pytest.approx(
            [expected[k] for k in range(3)], abs=1e-5
        )
        assert option_margin(found, item) == pytest.approx(scored["option_margin"], abs=1e-4)


@pytest.mark.parametrize("item", [ITEM, SHARED], ids=["apart", "shared tokens"])
@pytest.mark.parametrize("back", [1, 2, 5])
def test_patched_options_give_the_sweeps_option_margin(
    tiny_model: Any, item: ChoiceItem, back: int
) -> None:
    pair = make_pair(tiny_model, item, "instructed")
    at = len(pair.destination) - back
    grid = Grid(site="resid_pre", cells="layer_pos", layers=(1,), positions=(at,))
    result = sweep(tiny_model, pair, grid=grid, metric="option_margin", progress=False)
    patches = cell_patches(tiny_model, pair, grid=grid)
    found = read_options(tiny_model, pair, patches=patches)
    assert option_margin(found, item) == pytest.approx(float(result.values), abs=2e-4)
    assert float(found["probability"].sum()) == pytest.approx(1)
    plain = read_options(tiny_model, pair)
    other = next(k for k in range(3) if k not in (item.contrast() or ()))
    beyond = item is SHARED and back == 1  # the shared token is none of the third option's run
    same = found["log_prob"][other] == pytest.approx(plain["log_prob"][other], abs=1e-6)
    assert same == beyond


@pytest.mark.parametrize("architecture", ["llama", "opt"])  # opt: hooks cannot set edges
@pytest.mark.parametrize("item", [ITEM, SHARED], ids=["apart", "shared tokens"])
def test_options_without_the_instruction_give_the_knockouts_option_margin(
    load_tiny: Callable[..., Any], architecture: str, item: ChoiceItem
) -> None:
    model = load_tiny(architecture)
    pair = make_pair(model, item, "instructed")
    grid = Grid(cells="layer", layers=(0,), window=3)
    result = knockout(model, pair, grid=grid, metric="option_margin", progress=False)
    found = read_options(model, pair, patches=blocked_edges(model, pair, grid=grid))
    assert option_margin(found, item) == pytest.approx(float(result.values), abs=2e-4)


def test_two_prompts_of_ones_own_have_their_two_answers(tiny_model: Any) -> None:
    pair = make_pair(
        tiny_model, "The quick brown fox met", "The old brown fox met",
        answers=(" the teacher", " the farmer"),
    )  # fmt: skip
    found = read_options(tiny_model, pair)
    assert found["option"].tolist() == [" the teacher", " the farmer"]
    assert found["gold"].tolist() == [True, False]
    swept = sweep(
        tiny_model, pair, metric="option_margin", layers=[0], progress=False
    ).baseline  # the destination's own
    assert option_margin(found, ITEM) == pytest.approx(float(swept), abs=1e-4)
    ids = make_pair(tiny_model, torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7]), target=(3, 4))
    found = read_options(tiny_model, ids, run="source")
    logits = tiny_model(ids.source.ids[None])[0, -1, [3, 4]]
    assert found["probability"].tolist() == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)


def test_refusals(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    patches = blocked_edges(tiny_model, pair)
    with pytest.raises(InterpError, match="leave out run='source'"):
        read_options(tiny_model, pair, run="source", patches=patches)
    bare = make_pair(tiny_model, "one fox", "two fox", answers=())
    with pytest.raises(InterpError, match="no margin target"):
        read_options(tiny_model, bare)
