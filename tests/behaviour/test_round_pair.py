"""Pairs of later rounds: the first is make_pair's, the others go on with what was said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.behaviour import condition_protocols, round_pair, run_rounds
from interp.data import Choice, ChoiceItem
from interp.errors import InterpError
from interp.patching import read_options, sweep
from interp.prompts import TextBank, make_pair

CHOICES = (
    Choice("Not known", "unknown"),
    Choice("The farmer", "stereotyped"),
    Choice("The teacher", "counter"),
)
ITEM = ChoiceItem("q", "own", "own", "They met.", "Who was late?", CHOICES, 0, "ambiguous", "c")


@pytest.mark.parametrize(("against", "slot", "order"), [("placebo", 1, 2), ("clean", 0, 0)])
def test_round_one_is_the_pair_of_single_prompts(
    tiny_model: Any, against: str, slot: int, order: int
) -> None:
    options = {"against": against, "slot": slot, "order": order}
    found = round_pair(tiny_model, ITEM, "instructed", number=1, **options)
    expected = make_pair(tiny_model, ITEM, "instructed", **options)
    assert torch.equal(found.source.ids, expected.source.ids)
    assert torch.equal(found.destination.ids, expected.destination.ids)
    # the answers are given as texts, so that their names keep the space before the word
    assert (found.target.a, found.target.b) == (expected.target.a, expected.target.b)
    assert found.target.a_text.strip() == expected.target.a_text
    assert found.label == expected.label


def test_a_later_round_is_what_the_conversation_read(tiny_model: Any) -> None:
    pair = round_pair(tiny_model, ITEM, "instructed", number=2)
    bank = TextBank(tiny_model.tokenizer)
    (protocol,) = condition_protocols(bank, "instructed", task="choice")
    (history,) = run_rounds(tiny_model, ITEM, protocol, 2, orders=[0])
    n = len(history.prompt(2))
    assert torch.equal(pair.source.ids[:n], history.prompt(2).ids)
    assert "reply_1" in pair.source.spans
    assert read_options(tiny_model, pair)["option"].tolist() == [c.text for c in CHOICES]
    result = sweep(tiny_model, pair, layers=[0], spans=["instruction"], progress=False)
    assert result.values.isfinite().all()


def test_refusals(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="from round 1 on"):
        round_pair(tiny_model, ITEM, "instructed", number=0)
    with pytest.raises(InterpError, match="counted from 0"):
        round_pair(tiny_model, ITEM, "instructed", number=1, slot=-1)
    with pytest.raises(InterpError, match="no condition 'nothing'"):
        round_pair(tiny_model, ITEM, "nothing", number=1)
