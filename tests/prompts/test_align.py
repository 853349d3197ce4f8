from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.data.bundle import bundled_choices
from interp.prompts import (
    TextBank,
    TokenizedPrompt,
    align,
    build_conversation,
    first_difference,
    tokenize,
)


def prompt_of(*spans):
    """A prompt from (name, ids) pairs; an empty span has no entry, as in real prompts."""
    ids, slices = [], {}
    for name, values in spans:
        if values:
            slices[name] = slice(len(ids), len(ids) + len(values))
        ids += values
    tokens = tuple(f"t{i}" for i in ids)
    return TokenizedPrompt(torch.tensor(ids, dtype=torch.long), slices, tokens, "".join(tokens))


NAMES = ("header", "question", "separator", "instruction", "template")
SPAN = st.lists(st.integers(0, 3), max_size=6)


@st.composite
def prompts(draw, order=NAMES):
    prompt = prompt_of(*((name, draw(SPAN)) for name in order))
    return prompt if len(prompt) else prompt_of(("header", [0]))


def matches(alignment):
    return [tuple(pair) for pair in alignment.pairs().tolist()]


def test_spans_of_equal_length_align_by_index_whatever_their_tokens():
    source = prompt_of(("question", [1, 2]), ("instruction", [3, 4, 5]), ("template", [6]))
    destination = prompt_of(("question", [1, 2]), ("instruction", [7, 8, 9]), ("template", [6]))
    alignment = align(source, destination)
    assert alignment.to_destination.tolist() == [0, 1, 2, 3, 4, 5]
    assert alignment.first_difference == 2
    assert alignment.by_index


def test_spans_of_other_lengths_align_equal_tokens_in_order_inside_the_span():
    source = prompt_of(("question", [1, 2]), ("instruction", [3, 4, 9, 5]), ("template", [6, 7]))
    destination = prompt_of(("question", [1, 2]), ("instruction", [3, 5, 6]), ("template", [6, 7]))
    alignment = align(source, destination)
    assert alignment.to_destination.tolist() == [0, 1, 2, -1, -1, 3, 5, 6]
    assert not alignment.by_index


def test_a_span_the_other_prompt_lacks_is_left_unmatched_and_shifts_what_follows():
    source = prompt_of(("question", [1, 2]), ("instruction", [1, 2, 3]), ("template", [4]))
    destination = prompt_of(("question", [1, 2]), ("template", [4]))
    assert align(source, destination).to_destination.tolist() == [0, 1, -1, -1, -1, 2]
    assert align(destination, source).to_destination.tolist() == [0, 1, 5]


def test_a_common_beginning_is_aligned_even_where_a_longer_copy_stands_later():
    source = prompt_of(("instruction", [1, 2, 3, 4]))
    destination = prompt_of(("instruction", [1, 2, 9, 1, 2, 3, 4]))
    assert align(source, destination).to_destination.tolist() == [0, 1, 5, 6]


def test_spans_in_another_order_are_not_crossed():
    body = [("question", [1, 2, 3]), ("options", [4])]
    before = prompt_of(("instruction", [5, 6]), *body, ("template", [7]))
    after = prompt_of(*body, ("instruction", [5, 6]), ("template", [7]))
    assert align(before, after).to_destination.tolist() == [-1, -1, 0, 1, 2, 3, 6]


def test_prompts_without_a_common_span_align_as_one():
    source, destination = prompt_of(("a", [1, 2, 3])), prompt_of(("b", [1, 3]))
    assert align(source, destination).to_destination.tolist() == [0, -1, 1]


@given(prompts(), prompts())
def test_matches_ascend_in_both_stay_inside_their_span_and_are_equal_unless_by_index(a, b):
    alignment = align(a, b)
    pairs = matches(alignment)
    for (i, j), (k, m) in pairwise(pairs):
        assert i < k
        assert j < m
    share_a_name = set(a.spans) & set(b.spans)
    for i, j in pairs if share_a_name else []:
        name = a.span_of(i)
        assert b.span_of(j) == name
        one, other = a.spans[name], b.spans[name]
        if one.stop - one.start == other.stop - other.start:
            assert i - one.start == j - other.start
        else:
            assert a.ids[i] == b.ids[j]


@given(prompts(), prompts(order=(NAMES[0], NAMES[3], NAMES[2], NAMES[1], NAMES[4])))
def test_matches_ascend_also_when_the_spans_stand_in_another_order(a, b):
    pairs = matches(align(a, b))
    assert sorted(pairs) == pairs
    assert sorted(j for _, j in pairs) == [j for _, j in pairs]


@given(prompts(), prompts())
def test_every_position_of_an_equally_long_span_is_matched_and_both_ways_agree(a, b):
    there, back = align(a, b), align(b, a)
    for name in set(a.spans) & set(b.spans):
        one, other = a.spans[name], b.spans[name]
        if one.stop - one.start == other.stop - other.start:
            assert there.to_destination[one].tolist() == list(range(other.start, other.stop))
            assert back.to_destination[other].tolist() == list(range(one.start, one.stop))


@given(prompts())
def test_a_prompt_aligns_with_itself_at_every_position(prompt):
    alignment = align(prompt, prompt)
    assert alignment.by_index
    assert alignment.first_difference is None
    assert matches(alignment) == [(i, i) for i in range(len(prompt))]


@given(SPAN, SPAN)
def test_the_first_difference_is_the_first_differing_id_or_the_end_of_the_shorter(a, b):
    found = first_difference(*(torch.tensor(ids, dtype=torch.long) for ids in (a, b)))
    expected = next(
        (i for i in range(max(len(a), len(b))) if a[i : i + 1] != b[i : i + 1]),
        None,
    )
    assert found == expected


def test_the_first_difference_is_not_the_border_of_a_span():
    source = prompt_of(("question", [1]), ("instruction", [2, 3, 4]))
    destination = prompt_of(("question", [1]), ("instruction", [2, 3, 5]))
    assert align(source, destination).first_difference == 3


def test_the_table_lists_every_position_of_both_prompts_once():
    source = prompt_of(("question", [1]), ("instruction", [2, 3]))
    destination = prompt_of(("question", [1]), ("instruction", [3, 4, 5]))
    frame = align(source, destination).to_dataframe()
    assert frame["source_pos"].tolist() == [0, 1, 2, -1, -1]
    assert frame["destination_pos"].tolist() == [0, -1, 1, 2, 3]
    assert frame["source_token"].fillna("").tolist() == ["t1", "t2", "t3", "", ""]
    assert frame["span"].tolist() == ["question", *["instruction"] * 4]


def test_it_prints_as_one_line_and_shows_changed_tokens_only():
    source = prompt_of(("question", [1]), ("instruction", [2, 3]))
    destination = prompt_of(("question", [1]), ("instruction", [2, 4]))
    alignment = align(source, destination)
    assert str(alignment) == (
        "3 of 3 source tokens aligned with 3 destination tokens, first difference at 2"
    )
    shown = alignment._repr_html_()
    assert "t3" in shown
    assert "<td>t1</td>" not in shown


@pytest.mark.model
@pytest.mark.parametrize("placement", ["before", "after"])
def test_instructed_and_placebo_of_bundled_items_align_by_index_on_the_default_tokenizer(placement):
    from interp.models import load_tokenizer

    tokenizer = load_tokenizer()
    bank = TextBank(tokenizer)
    for item in bundled_choices()[::24]:
        treated = bank.texts("instructed", item, 6)
        for here, there in zip(treated, bank.placebos(treated), strict=True):
            one, other = (
                tokenize(tokenizer, build_conversation(item, c.text, placement=placement))
                for c in (here, there)
            )
            alignment = align(one, other)
            assert alignment.by_index
            assert one.spans == other.spans
            assert one.span_of(alignment.first_difference) == "instruction"
