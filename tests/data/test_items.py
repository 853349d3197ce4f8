import copy
import pickle
from dataclasses import replace

import pytest

from interp.data.items import Choice, ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError

ITEM = ChoiceItem(
    id="1",
    benchmark="b",
    category="c",
    context="",
    question="Who?",
    choices=(Choice("a", "stereotyped"), Choice("b", "counter"), Choice("c", "unknown")),
    gold=2,
    context_condition="ambiguous",
    cluster="1",
)


def test_the_ambiguous_contrast_is_the_abstention_against_the_stereotyped_option() -> None:
    assert ITEM.contrast() == (2, 0)


@pytest.mark.parametrize(("gold", "expected"), [(0, (0, 1)), (1, (1, 0))])
def test_the_disambiguated_contrast_is_gold_against_the_other_group(
    gold: int, expected: tuple[int, int]
) -> None:
    assert replace(ITEM, context_condition="disambiguated", gold=gold).contrast() == expected


def test_there_is_no_contrast_without_the_roles_it_needs() -> None:
    choices = (Choice("a"), Choice("b"), Choice("c"))
    assert replace(ITEM, choices=choices).contrast() is None
    assert replace(ITEM, choices=choices, context_condition="disambiguated").contrast() is None


@pytest.mark.parametrize("item", [ITEM, CompletionItem("1", "b", "p", {"n": 1})])
def test_items_can_be_hashed_copied_and_sent_to_another_process(item: object) -> None:
    assert {item} == {pickle.loads(pickle.dumps(item))} == {copy.deepcopy(item)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": (Choice("a"),)}, "needs at least two choices, has 1"),
        ({"gold": 3}, r"gold index 3 is outside 0\.\.2"),
        ({"choices": (Choice("a"), Choice(" "), Choice("c"))}, "choice 1 is empty"),
        ({"choices": (Choice("a"), Choice("a "), Choice("c"))}, "two choices have the same text"),
    ],
)
def test_an_impossible_item_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InterpError, match=f"item '1': {message}"):
        replace(ITEM, **changes)


def test_a_labelled_text_needs_words_and_a_binary_label() -> None:
    with pytest.raises(InterpError, match="label must be 0 or 1, is 2"):
        LabelledText("fine", 2, "g", "s")
    with pytest.raises(InterpError, match="is empty"):
        LabelledText(" ", 1, "g", "s")
