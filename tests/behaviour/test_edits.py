import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.behaviour.edits import edit_shares, edits_over_rounds
from interp.errors import InterpError

IDS = st.lists(st.integers(0, 5), max_size=25)
SOME = st.lists(st.integers(0, 5), min_size=1, max_size=25)


def shares(before, after):
    edit = edit_shares(before, after)
    return edit.kept_prefix, edit.kept_tokens, edit.appended


@pytest.mark.parametrize(
    ("before", "after", "expected", "kind"),
    [
        ([1, 2, 3], [1, 2, 3], (1, 1, 0), "unchanged"),
        ([1, 2, 3], [1, 2, 3, 4], (1, 1, 1 / 4), "appended"),
        ([1, 2, 3], [4, 5], (0, 0, 0), "replaced"),
        ([1, 2, 3, 4], [1, 2], (1 / 2, 1 / 2, 0), "shortened"),
        ([1, 2, 3], [1, 9, 3], (1 / 3, 2 / 3, 0), "edited"),
        ([1, 2, 3], [1, 9, 3, 7, 8], (1 / 3, 2 / 3, 2 / 5), "edited"),  # changed, then more
        ([1, 2, 3], [9, 1, 2, 3, 7], (0, 1, 1 / 5), "edited"),  # kept whole behind something new
        ([1, 2, 3], [1, 9, 2, 3], (1 / 3, 1, 0), "edited"),  # only an insertion
        ([1, 2], [2, 1], (0, 1 / 2, 1 / 2), "edited"),  # order counts
        ([1, 2, 3], [1, 2, 7, 8], (2 / 3, 2 / 3, 1 / 2), "edited"),  # its end replaced, by more
        ([1, 1], [1], (1 / 2, 1 / 2, 0), "shortened"),  # a token is matched once
        ([1, 2], [], (0, 0, 0), "replaced"),
    ],
)
def test_shares_by_hand(before, after, expected, kind):
    assert shares(before, after) == pytest.approx(expected)
    edit = edit_shares(before, after)
    assert (edit.kind, edit.n_before, edit.n_after) == (kind, len(before), len(after))


def test_an_empty_completion_has_nothing_to_keep():
    for after, kind in (([], "unchanged"), ([1], "replaced")):
        edit = edit_shares([], after)
        assert all(math.isnan(x) for x in (edit.kept_prefix, edit.kept_tokens, edit.appended))
        assert edit.kind == kind


@given(SOME, IDS)
def test_shares_are_bounded_and_a_kept_prefix_is_kept(before, after):
    prefix, kept, appended = shares(before, after)
    assert 0 <= prefix <= kept <= 1
    assert 0 <= appended < 1
    assert kept * len(before) <= len(after)
    assert appended == 0 or kept > 0


@given(IDS, IDS)
def test_the_common_subsequence_is_the_longest_and_ends_as_early_as_it_can(before, after):
    def longest(a, b):  # the textbook recursion, over prefixes
        row = [0] * (len(b) + 1)
        for x in a:
            above = row[:]
            for j, y in enumerate(b, start=1):
                row[j] = above[j - 1] + 1 if x == y else max(above[j], row[j - 1])
        return row

    lengths = longest(before, after)
    _, kept, appended = shares(before, after)
    if before:
        assert kept == pytest.approx(lengths[-1] / len(before))
    if before and lengths[-1]:
        assert appended == pytest.approx((len(after) - lengths.index(lengths[-1])) / len(after))


@given(SOME)
def test_equal_completions_keep_everything(ids):
    assert shares(ids, ids) == (1, 1, 0)


@given(SOME, SOME)
def test_an_addition_is_appended_whole(before, more):
    expected = (1, 1, len(more) / (len(before) + len(more)))
    assert shares(before, before + more) == pytest.approx(expected)
    assert edit_shares(before, before + more).kind == "appended"


@given(SOME, IDS)
def test_completions_without_a_common_token_share_nothing(before, after):
    assert shares(before, [token + 10 for token in after]) == (0, 0, 0)


@given(SOME, SOME, SOME)
def test_a_common_beginning_is_counted_as_such(common, before, after):
    edit = edit_shares([*common, 90, *before], [*common, 91, *after])
    assert edit.kept_prefix == pytest.approx(len(common) / (len(common) + 1 + len(before)))


def test_frequent_tokens_are_no_junk():
    long = [7, 8] * 150
    assert shares(long, [*long, 9])[:2] == (1, 1)
    assert edit_shares([1, *long], long).kept_tokens == pytest.approx(300 / 301)


@given(IDS, IDS)
def test_tensors_and_lists_are_read_alike(before, after):
    from_tensors = edit_shares(torch.tensor(before).long(), torch.tensor(after).long())
    assert repr(from_tensors) == repr(edit_shares(before, after))


def test_every_round_is_compared_with_the_previous_and_the_first():
    table = edits_over_rounds({"a": [[1, 2], [1, 2, 3], [1, 2, 3]], "b": [[1], [4]]})
    assert list(table.columns) == [
        "item", "round", "against", "kept_prefix", "kept_tokens", "appended", "n_before",
        "n_after", "kind",
    ]  # fmt: skip
    of = table.set_index(["item", "round", "against"])
    assert len(of) == 2 * 2 + 2
    assert of.loc[("a", 2, "previous"), "kind"] == "unchanged"
    assert of.loc[("a", 2, "first"), "kind"] == "appended"
    assert of.loc[("a", 2, "first"), "appended"] == pytest.approx(1 / 3)
    assert of.loc[("b", 1, "first"), "kept_tokens"] == 0
    same = of.xs(1, level="round").drop(columns="kind")
    previous, first = (same.xs(name, level="against") for name in ("previous", "first"))
    assert previous.equals(first)


def test_one_round_cannot_be_compared():
    with pytest.raises(InterpError, match="item 'a' has 1 rounds: two are needed"):
        edits_over_rounds({"a": [[1, 2]]})
    with pytest.raises(InterpError, match="the mapping is empty"):
        edits_over_rounds({})
