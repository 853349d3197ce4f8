"""Halves and samples of labelled texts, in whole groups."""

from __future__ import annotations

from interp.data import load_texts, sample_groups, split_groups


def test_halves_share_no_group_and_hold_every_category() -> None:
    texts = load_texts("bundled:morality")
    fit, rest = split_groups(texts, seed=0)
    assert not {t.group for t in fit} & {t.group for t in rest}
    assert len(fit) == len(rest) == 280
    assert {t.category for t in fit} == {t.category for t in rest}
    assert split_groups(texts, seed=1)[0] != fit


def test_a_smaller_sample_of_groups_is_part_of_a_larger_one() -> None:
    texts = load_texts("bundled:morality")
    few, more = sample_groups(texts, 3, seed=0), sample_groups(texts, 5, seed=0)
    assert len({text.group for text in few}) == 3
    assert set(few) < set(more)
    assert list(more) == [text for text in texts if text in more]
    assert sample_groups(texts, 10**6) == tuple(texts)
