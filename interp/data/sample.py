"""A seeded sample of items that statistics by cluster can use.

Items that share a template are not independent, so at most a few per cluster and context condition
are taken. The sample is spread over categories first and over the two context conditions inside a
category second, each as evenly as the items allow; both question polarities take part; items
without a `ChoiceItem.contrast` come last.

The sample depends on the set of items and the seed, not on the order of the items. A smaller limit
gives the first items of a larger one.

Example::

    sample = sample_items(read_bbq(folder), 40, seed=0)   # about 4 per category of BBQ
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from interp.data.items import ChoiceItem, ContextCondition
from interp.errors import InterpError

_T = TypeVar("_T")
_Stratum = tuple[str, ContextCondition]


def sample_items(
    items: Sequence[ChoiceItem], limit: int, *, seed: int, per_cluster: int = 2
) -> tuple[ChoiceItem, ...]:
    """At most ``limit`` items, at most ``per_cluster`` per (cluster, context condition).

    Where the cap leaves fewer than ``limit``, these fewer are returned: look at the length. Counts
    per category differ by at most 1 as long as no category runs out, and so do the counts per
    context condition inside a category.
    """
    if limit < 1 or per_cluster < 1:
        raise InterpError(
            f"limit and per_cluster must be at least 1, are {limit} and {per_cluster}"
        )
    generator = np.random.default_rng(seed)
    categories = _shuffled(sorted({item.category for item in items}), generator)
    queues = _queues(items, categories, generator, per_cluster)
    chosen: list[ChoiceItem] = []
    of_category: Counter[str] = Counter()
    of_stratum: Counter[_Stratum] = Counter()
    of_condition: Counter[ContextCondition] = Counter()
    while queues and len(chosen) < limit:
        left = {category for category, _ in queues}
        category = min((c for c in categories if c in left), key=lambda c: of_category[c])
        stratum = min(
            (s for s in sorted(queues) if s[0] == category),
            key=lambda s: (of_stratum[s], of_condition[s[1]]),
        )
        chosen.append(queues[stratum].pop(0))
        of_category[category] += 1
        of_stratum[stratum] += 1
        of_condition[stratum[1]] += 1
        if not queues[stratum]:
            del queues[stratum]
    return tuple(chosen)


def _queues(
    items: Sequence[ChoiceItem],
    categories: Sequence[str],
    generator: np.random.Generator,
    per_cluster: int,
) -> dict[_Stratum, list[ChoiceItem]]:
    """The items that may be taken, per category and condition, in the order they are taken."""
    clusters: dict[tuple[str, ContextCondition], list[ChoiceItem]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.id):
        clusters[item.cluster, item.context_condition].append(item)
    rounds: list[list[ChoiceItem]] = [[] for _ in range(per_cluster)]
    seen = _first_turns(categories)
    for key in _shuffled(sorted(clusters), generator):
        members = _shuffled(clusters[key], generator)
        stratum = (members[0].category, key[1])
        for turn, item in enumerate(_picks(members, per_cluster, first=seen[stratum])):
            rounds[turn].append(item)
        seen[stratum] += 1
    queues: dict[_Stratum, list[ChoiceItem]] = defaultdict(list)
    for item in sorted((i for r in rounds for i in r), key=lambda item: item.contrast() is None):
        queues[item.category, item.context_condition].append(item)
    return dict(queues)


def _first_turns(categories: Sequence[str]) -> Counter[_Stratum]:
    """Which polarity begins in each stratum, so that even a sample of four has one of each kind.

    The conditions take turns over the categories, so the polarities change every second category
    (0, 1, 1, 0, ...) and begin oppositely in the two conditions of a category.
    """
    turns: Counter[_Stratum] = Counter()
    for i, category in enumerate(categories):
        turns[category, "ambiguous"] = (i + 1) // 2
        turns[category, "disambiguated"] = (i + 1) // 2 + 1
    return turns


def _picks(members: list[ChoiceItem], count: int, *, first: int) -> list[ChoiceItem]:
    """``count`` of a cluster's items: those with a contrast first, the polarities in turn.

    ``first`` rotates the polarity that begins, so that single picks of many clusters vary too.
    """
    polarities = sorted({_polarity(item) for item in members})
    waiting = list(members)
    picks: list[ChoiceItem] = []
    while waiting and len(picks) < count:
        wanted = polarities[(first + len(picks)) % len(polarities)]
        best = min(waiting, key=lambda item: (item.contrast() is None, _polarity(item) != wanted))
        waiting.remove(best)
        picks.append(best)
    return picks


def _polarity(item: ChoiceItem) -> str:
    return str(item.meta.get("polarity", ""))


def _shuffled(values: list[_T], generator: np.random.Generator) -> list[_T]:
    return [values[i] for i in generator.permutation(len(values))]
