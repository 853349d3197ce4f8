"""Read the commonsense part of ETHICS (arXiv:2008.02275): short first-person accounts, right or wrong.

The file's label is 1 for an act that is clearly WRONG; here 1 is the moral pole, so ``label`` is one
minus the file's. By default only the short rows are kept (a sentence or two); the long ones are
forum posts of several paragraphs.

Rows are edits of one another: mostly neighbours that differ in a few words and in their label, but
also the same scenario again far away in the file. The column ``edited`` does not mark them (it is
False throughout `cm_test.csv`). Texts of one scenario must not straddle a split, so two short texts
share a group when they share at least half of their words and follow one another, or at least two
thirds of their words anywhere in the file; and so on from text to text. The share is 2 |A and B| /
(|A| + |B|) over the sets of words, without case and punctuation.

On `cm_test.csv` (3,885 rows; 2,109 short, of them 1,126 with label 1 and 983 with label 0) this
gives 1,085 groups: 162 of one text, 880 of two, 43 of three to thirteen; 887 hold both labels. 957
pairs of neighbours share half of their words (918 have opposite labels) and 161 pairs further apart
share two thirds; of the pairs two rows apart, mostly unrelated, one in 2,107 shares half. Read by
eye, all 27 linked neighbours with a share below 0.6 are edits, and of the 23 neighbours from 0.4 to
0.5, which are not linked, about ten are: some 1 % of the scenarios are still cut in two. Far-apart
links join families of sentences with one opening more often than edits; that only makes groups
larger than need be.

Example::

    texts = read_ethics("cm_test.csv")
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from interp.data.fields import file_in, one_of, text_of
from interp.data.items import LabelledText
from interp.data.tables import read_csv

_SOURCE = "ethics"
_FILES = ("cm_test.csv", "commonsense/test.csv")
_CATEGORY = "commonsense"
_SHORT_LENGTH = 200
_NEIGHBOURS_SHARE = 1 / 2
_ANYWHERE_SHARE = 2 / 3
_WORD = re.compile(r"\w+(?:'\w+)*")


def read_ethics(path: str | Path, *, short_only: bool = True) -> tuple[LabelledText, ...]:
    """One text per row, in file order; label 1 = acceptable (the file's 0), 0 = wrong.

    ``path``: a CSV file such as `cm_test.csv`, or a folder that holds `cm_test.csv` or
    `commonsense/test.csv`. ``short_only`` keeps the rows with ``is_short``; in a file without that
    column, texts of at most 200 characters (on `cm_test.csv` this agrees with the column but for
    one row). ``group`` is "line N", N being the first line of the scenario; a long row is a group
    of its own. Raises `InterpError` naming file, line and field.
    """
    file = file_in(path, _FILES)
    rows: list[tuple[int, str, int]] = []
    short: list[int] = []
    for line, row in read_csv(file):
        where = f"{file}, line {line}"
        text = text_of(row, "input", where)
        label = 1 - int(one_of(row, "label", ("0", "1"), where))
        is_short = _is_short(row, text, where)
        if is_short:
            short.append(len(rows))
        if is_short or not short_only:
            rows.append((line, text, label))
    lines = [line for line, _, _ in rows]
    for i, first in zip(short, _scenarios([rows[i][1] for i in short]), strict=True):
        lines[i] = rows[short[first]][0]
    return tuple(
        LabelledText(text, label, f"line {first_line}", _SOURCE, _CATEGORY)
        for (_, text, label), first_line in zip(rows, lines, strict=True)
    )


def _is_short(row: Mapping[str, str], text: str, where: str) -> bool:
    if "is_short" not in row:
        return len(text) <= _SHORT_LENGTH
    return one_of(row, "is_short", ("True", "False"), where) == "True"


def _scenarios(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first text of its scenario."""
    words = [frozenset(_WORD.findall(text.lower())) for text in texts]
    frequency = Counter(word for own in words for word in own)
    first = list(range(len(texts)))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    posted: dict[str, list[int]] = defaultdict(list)
    for i, own in enumerate(words):
        # Two texts with a share of 2/3 have at least half of either's words in common, so they
        # meet in the rarer half of each and one more word: no other pairs need a look.
        rare = sorted(own, key=lambda word: (frequency[word], word))[: len(own) // 2 + 1]
        joined = {
            j for word in rare for j in posted[word] if _share(words[j], own) >= _ANYWHERE_SHARE
        }
        if i and _share(words[i - 1], own) >= _NEIGHBOURS_SHARE:
            joined.add(i - 1)
        roots = {root(j) for j in joined} | {i}
        for j in roots:
            first[j] = min(roots)
        for word in rare:
            posted[word].append(i)
    return [root(i) for i in range(len(texts))]


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / max(1, len(one) + len(other))
