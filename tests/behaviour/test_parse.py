"""The parser of generated answers: what it reads, and what it says of answers it cannot read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.behaviour.parse import ParsedAnswer, parse_choice
from interp.errors import InterpError

OPTIONS = ["The teacher", "The farmer", "Can't be determined"]


@pytest.mark.parametrize(
    ("answer", "choice", "found"),
    [
        (" The farmer", 1, "text"),
        (" the FARMER.", 1, "text"),
        ("farmer, because of the weather that the teacher liked", 1, "text"),
        (" Can’t be  determined\nfrom the text", 2, "text"),
        ("(b)", 1, "letter"),
        ("b", 1, "letter"),
        ("B.", 1, "letter"),
        (" c) as nothing is said", 2, "letter"),
        ("(b) The farmer", 1, "both"),
        ('b: "The farmer"', 1, "both"),
        (" (b), since the teacher was away", 1, "letter"),
        ("I would say it was the farmer.", 1, "text"),
        ("My choice is (a)", 0, "letter"),
        ("It is (a), so the teacher", 0, "both"),
        ("The teacher. Not the farmer.", 0, "text"),
    ],
)
def test_an_answer_that_names_one_option_is_read(answer: str, choice: int, found: str) -> None:
    assert parse_choice(answer, OPTIONS) == ParsedAnswer(choice, found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<think>\nThe nurse? No, the", "the thought is unfinished"),
        ("<think>(a)</think> \n", "the answer is empty"),
        ("", "the answer is empty"),
        (" \n.", "the answer is empty"),
        ("Nobody knows", "names no option"),
        ("a teacherly person", "names no option"),
        ("A person from the village", "names no option"),
        ("Either the teacher or the farmer", "names several options"),
        ("The teacher and the farmer", "names several options"),
        ("The teacher, the farmer", "names several options"),
        ("(a) The farmer", "(a) and the text of (b) disagree"),
        ("(e)", "(e) is none of the 3 options"),
        ("It must be (d).", "(d) is none of the 3 options"),
        ("It is not the teacher", "names an option only to deny it"),
        ("Certainly it isn't (a)", "names an option only to deny it"),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(answer: str, reason: str) -> None:
    assert parse_choice(answer, OPTIONS) == ParsedAnswer(None, "nothing", reason)


def test_an_option_inside_a_longer_one_is_not_named() -> None:
    options = ["The farmer", "The farmer's son", "Not known"]
    assert parse_choice("It was the farmer's son", options).choice == 1
    assert parse_choice("The farmer's son", options).choice == 1
    assert parse_choice("not known", options).choice == 2


def test_pronouns_are_read_as_whole_words() -> None:
    assert parse_choice("they", ["he", "she", "they"]).choice == 2
    assert parse_choice("the word she fits", ["he", "she", "they"]).choice == 1


def test_numbers_of_options_without_letters_are_refused() -> None:
    with pytest.raises(InterpError, match="0 options: give 1 to 10"):
        parse_choice("a", [])


@given(st.text(max_size=40))
def test_any_text_gives_a_choice_or_a_reason(answer: str) -> None:
    parsed = parse_choice(answer, OPTIONS)
    assert (parsed.choice is None) == bool(parsed.reason) == (parsed.found == "nothing")


@given(st.sampled_from(range(3)), st.sampled_from(["{}", " {}.", '"{}"', "\n{}\n"]))
def test_an_options_own_text_is_always_that_option(option: int, frame: str) -> None:
    assert parse_choice(frame.format(OPTIONS[option]), OPTIONS).choice == option
