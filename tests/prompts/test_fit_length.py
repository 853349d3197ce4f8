"""A control of one's own, brought to the instruction's token count."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.data import load_items
from interp.errors import InterpError
from interp.prompts import Condition, ConditionSpec, TextBank, load_conditions, make_pair
from interp.prompts.fit_length import NEUTRAL_PHRASES, fit_condition, fit_text
from interp.prompts.placebos import REQUEST_FILLERS, FitLength

INSTRUCTION = "Please ensure that your answer is unbiased."
ITEM = load_items("bundled:choices", limit=1)[0]


def words(text: str) -> int:
    """A tokenizer of words, full stops apart."""
    return len(text.replace(".", " . ").split())


def bank_with(model: Any, control: str, **specs: ConditionSpec) -> TextBank:
    own = {
        "mine": ConditionSpec(name="mine", description="asks for care", texts=(INSTRUCTION,)),
        "plain": ConditionSpec(
            name="plain", description="about print", texts=(control,), control="none"
        ),
    }
    return TextBank(model.tokenizer, conditions={**load_conditions(), **own, **specs})


@pytest.mark.parametrize(
    ("text", "wanted", "how", "fitted"),
    [
        ("Please print it.", 4, "trim", "Please print it."),
        ("Please print it on white paper.", 4, "trim", "Please print it."),
        ("Print it, please, on paper.", 3, "trim", "Print it."),
        ("Print it. Then fold the page.", 3, "trim", "Print it."),
        ("Print it", 1, "trim", "Print"),
        ("Please print it.", 5, "pad", "Please print it here."),
        ("Please print it.", 6, "pad", "Please print it as usual."),
        ("Please print it", 4, "pad", "Please print it here"),
        ("Is it in print?", 5, "pad", "Is it in print here?"),
    ],
)
def test_words_are_dropped_from_the_end_or_neutral_ones_added_before_the_stop(
    text: str, wanted: int, how: FitLength, fitted: str
) -> None:
    assert fit_text(words, text, wanted, how) == fitted


@pytest.mark.parametrize("wanted", range(4, 60))
def test_padding_adds_phrases_and_requests_of_the_neutral_bank_alone(wanted: int) -> None:
    fitted = fit_text(words, "Please print it.", wanted, "pad")
    assert fitted is not None
    assert words(fitted) == wanted
    rest = fitted
    for filler in REQUEST_FILLERS:
        rest = rest.replace(f" {filler}", "", 1)
    assert rest in {"Please print it.", *(f"Please print it {p}." for p in NEUTRAL_PHRASES)}


def test_trimming_pads_where_a_word_has_more_tokens_than_are_to_go(tiny_model: Any) -> None:
    bank = bank_with(tiny_model, "Please print the words in a plain type on one page.")
    control, treated = (bank.wordings(name, 1)[0] for name in ("plain", "mine"))
    assert control.text is not None
    has = bank.count(control.text)
    for wanted in range(4, has):
        text = fit_text(bank.count, control.text, wanted, "trim")
        assert text is None or bank.count(text) == wanted
    fitted = fit_condition(bank.count, control, treated, "trim")
    assert bank.count(fitted.text or "") == bank.count(INSTRUCTION)
    assert (fitted.text_id, fitted.fitted) == ("plain-01+trim", "trim")
    assert fitted.label == "plain (fit_length=trim)"


def test_what_cannot_be_fitted_is_refused_in_one_line_with_the_remedy() -> None:
    mine = Condition("mine", "mine-01", "Take care of it.")
    cases: list[tuple[str | None, FitLength, str]] = [
        ("Print it.", "trim", "'plain' has 3 tokens, that of 'mine' 5.*use fit_length='pad'"),
        ("Print it on one page.", "pad", "padding only adds, use fit_length='trim'"),
        (None, "pad", "condition 'plain' adds no text that could be counted"),
    ]
    for text, how, message in cases:
        with pytest.raises(InterpError, match=message) as refusal:
            fit_condition(words, Condition("plain", "plain-01", text), mine, how)
        assert "\n" not in str(refusal.value)

    def even(text: str) -> int:
        return 2 * words(text)

    odd = {"Take care of it.": 7}
    with pytest.raises(InterpError, match="no neutral words bring it to exactly that number"):
        fit_condition(
            lambda text: odd.get(text, even(text)),
            Condition("plain", "plain-01", "Print it."),
            mine,
            "pad",
        )


@pytest.mark.parametrize("how", ["trim", "pad"])
def test_a_fitted_control_aligns_by_index_and_says_how_it_was_made(
    tiny_model: Any, how: FitLength
) -> None:
    control = "Print." if how == "pad" else "Please print the words in a plain type on one page."
    mine = "Please ensure that your answer is unbiased, and take your time with it."
    long = ConditionSpec(name="mine", description="asks for care", texts=(mine,))
    bank = bank_with(tiny_model, control, **({"mine": long} if how == "pad" else {}))
    loose = make_pair(tiny_model, ITEM, "mine", against="plain", bank=bank)
    assert not loose.alignment.by_index
    pair = make_pair(tiny_model, ITEM, "mine", against="plain", bank=bank, fit_length=how)
    assert pair.alignment.by_index
    assert torch.equal(pair.source.ids, loose.source.ids)  # the instruction stays as it is
    assert pair.destination_name == f"plain (fit_length={how})"
    assert f"plain (fit_length={how})" in pair.label


def test_token_tensors_are_not_fitted(tiny_model: Any) -> None:
    ids = torch.arange(50, 60)
    with pytest.raises(InterpError, match="fit_length is for conditions of an item"):
        make_pair(tiny_model, ids, ids[:-1], target=(5, 6), fit_length="pad")
