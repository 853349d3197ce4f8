"""Labelled texts in whole groups: two halves that share none, and a few of many.

Texts of one group (a pair, a quadruple) say nearly the same, so a group that stood on both sides of a
split would make a held-out score look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from interp.data.items import LabelledText
from interp.stats import rng


def split_groups(
    texts: Sequence[LabelledText], *, seed: int = 0
) -> tuple[tuple[LabelledText, ...], tuple[LabelledText, ...]]:
    """Two halves of whole groups, each category halved, drawn with the seed; in the texts' order.

    Of an odd number of groups the first half has one more.
    """
    generator = rng(seed, "steering split")
    first: set[str] = set()
    for category in dict.fromkeys(text.category for text in texts):
        names = list(dict.fromkeys(text.group for text in texts if text.category == category))
        first.update(names[k] for k in generator.permutation(len(names))[: -(-len(names) // 2)])
    return (
        tuple(text for text in texts if text.group in first),
        tuple(text for text in texts if text.group not in first),
    )


def sample_groups(
    texts: Sequence[LabelledText], n: int, *, seed: int = 0
) -> tuple[LabelledText, ...]:
    """The texts of ``n`` groups (or of all there are) drawn with the seed, in their order."""
    names = list(dict.fromkeys(text.group for text in texts))
    order = rng(seed, "steering sentences").permutation(len(names))
    chosen = {names[k] for k in order[:n]}
    return tuple(text for text in texts if text.group in chosen)
