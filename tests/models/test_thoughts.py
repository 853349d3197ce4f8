from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.models.thoughts import (
    THOUGHT_TAGS,
    answer_after_thought,
    closing_of_thought,
    is_empty_thought,
    parts_outside_thought,
)


@pytest.mark.parametrize(("opens", "closes"), THOUGHT_TAGS)
def test_every_format_is_closed_dropped_and_read(opens: str, closes: str) -> None:
    assert closing_of_thought(f"<|assistant|>{opens}\n") == f"\n{closes}\n\n"
    assert closing_of_thought(f"<|assistant|>{opens}") == f"\n\n{closes}\n\n"
    assert closing_of_thought(f"<|assistant|>{opens}\n\n{closes}\n\n") == ""
    assert is_empty_thought(f"\n{opens}\n\n{closes}\n")
    assert not is_empty_thought(f"{opens} hm {closes}")
    said = f"{opens}\nThe driver? No.\n{closes}\n\nThe nurse"
    assert answer_after_thought(said) == "The nurse"
    (start, stop), *more = parts_outside_thought(said)[0]
    assert (said[start:stop], more) == ("The nurse", [])


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("The nurse", "The nurse"),
        ("  The nurse ", "  The nurse "),
        ("", ""),
        ("<think>\nhm", None),
        ("  <think>", None),
        ("hm\n</think>\n\n(b)", "(b)"),  # the prompt held the opening tag
        ("<think>a</think> b <think>c</think> d", "d"),
        ("<think>a</think> <think>b", None),
        ("The nurse. <think>or not", "The nurse. "),
        ("<think>a</think>", ""),
        ("Here are my reasoning steps: none", "Here are my reasoning steps: none"),
    ],
)
def test_the_answer_is_what_follows_the_thought(said: str, answer: str | None) -> None:
    assert answer_after_thought(said) == answer


def test_a_template_may_keep_what_is_before_a_thought_too() -> None:
    said = "It is <|channel>thought\nhm<channel|> the nurse"
    kept = ["".join(said[a:b] for a, b in parts) for parts in parts_outside_thought(said)]
    assert kept == ["the nurse", "the nurse", "It is  the nurse"]
    assert parts_outside_thought("no thought </thin") == []


_PIECES = st.sampled_from(
    ["<think>", "</think>", "a", " ", "\n", "The nurse", "[THINK]", "[/THINK]"]
)


@given(st.lists(_PIECES, max_size=9).map("".join))
def test_parts_lie_inside_the_text_and_hold_no_white_space_at_the_edges(said: str) -> None:
    for parts in parts_outside_thought(said):
        assert all(0 <= start < stop <= len(said) for start, stop in parts)
        kept = "".join(said[start:stop] for start, stop in parts)
        assert kept == kept.strip()
    answer = answer_after_thought(said)
    assert answer is None or ("<think>" not in answer and "</think>" not in answer)
