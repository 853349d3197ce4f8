"""Echoes of the request: the label, the given beginning, both, or something that only looks so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.behaviour.completions import strip_echo
from interp.data.items import CompletionItem

ITEM = CompletionItem("begun-1", "test", " The teacher and  the farmer ")


@pytest.mark.parametrize(
    ("completion", "left"),
    [
        ("went to the river.", "went to the river."),
        (" went to the river.\n", "went to the river."),
        ("Completion: went home.", "went home."),
        ("completion:went home.", "went home."),
        ("**Completion:** went home.", "went home."),
        ("Completion: Completion: went home.", "went home."),
        ("The teacher and the farmer went home.", "went home."),
        ("Completion: The teacher and the farmer went home.", "went home."),
        ("\nCompletion:\nThe teacher and\nthe farmer went home.", "went home."),
        ("the teacher and the farmer, both tired, went.", ", both tired, went."),
        ('Completion: "The teacher and the farmer went home."', "went home."),
        ("“The teacher and the farmer went home.” Well.", "went home.” Well."),
        # not all of the beginning, or inside a longer word, or not at the start
        ("The teacher and the pupil went home.", "The teacher and the pupil went home."),
        ("The teacher and the farmers went.", "The teacher and the farmers went."),
        ("So the teacher and the farmer went.", "So the teacher and the farmer went."),
        ("Completions: many", "Completions: many"),
        ('"Well," they said.', '"Well," they said.'),
        # nothing but the echo
        ("Completion:", ""),
        ("Completion: The teacher and the farmer", ""),
        ("", ""),
    ],
)
def test_the_echo_alone_is_removed(completion: str, left: str) -> None:
    assert strip_echo(completion, ITEM) == left


def test_a_beginning_that_ends_in_a_sign_is_found_before_a_word_too() -> None:
    item = CompletionItem("begun-2", "test", 'She said: "')
    assert strip_echo('She said: "Come in."', item) == 'Come in."'
    odd = CompletionItem("begun-3", "test", "What (if) a+b")
    assert strip_echo("What (if) a+b is 3?", odd) == "is 3?"


@given(st.text(), st.text())
def test_what_is_left_is_an_end_of_the_text_and_what_has_no_echo_stays(a: str, b: str) -> None:
    item = CompletionItem("any", "test", a)
    left = strip_echo(b, item)
    assert left in b
    assert strip_echo(f"zq {b}", replace_prompt(item)) == f"zq {b}".strip()


def replace_prompt(item: CompletionItem) -> CompletionItem:
    return CompletionItem(item.id, item.benchmark, f"x{item.prompt}")
