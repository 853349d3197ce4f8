"""Read CrowS-Pairs (arXiv:2010.00133): pairs of sentences, one more and one less stereotyping.

Both sentences of a row become texts of one group: label 0 for ``sent_more``, label 1 for
``sent_less``. Labels are not flipped by ``stereo_antistereo``, because ``sent_more`` is the more
stereotyping sentence in either case. That column says how the pair was written: in "stereo" rows
(1,290) ``sent_more`` states a stereotype of a disadvantaged group and ``sent_less`` says the same
of another group; in "antistereo" rows (218) ``sent_less`` contradicts a stereotype of a
disadvantaged group and ``sent_more`` says the same of another group.

Limits: in 86 % of the rows the more stereotyping sentence is also the one that names the
disadvantaged group, so a direction learnt here may follow the group's name. The published file has
1,508 rows, two of which are the same pair and share a group: 3,016 texts, half of each label, in
1,507 groups.

Example::

    texts = read_crows_pairs(fetch_dataset("crows-pairs"), category="age")
"""

from __future__ import annotations

from pathlib import Path

from interp.data.fields import check_category, file_in, text_of
from interp.data.items import LabelledText
from interp.data.tables import read_csv

_SOURCE = "crows-pairs"
_FILE = "crows_pairs_anonymized.csv"
_ID = ""  # the published file's first column has no name


def read_crows_pairs(path: str | Path, *, category: str | None = None) -> tuple[LabelledText, ...]:
    """Two texts per row, ``sent_more`` (label 0) then ``sent_less`` (label 1), in file order.

    ``path``: the CSV file or a folder that holds it. ``category`` keeps one ``bias_type``.
    ``group`` is the row's id, for a repeated pair that of its first row.
    Raises `InterpError` naming file, line and field, or the category that no row has.
    """
    file = file_in(path, [_FILE])
    groups: dict[tuple[str, str], str] = {}
    texts: list[LabelledText] = []
    for line, row in read_csv(file):
        where = f"{file}, line {line}"
        more, less = text_of(row, "sent_more", where), text_of(row, "sent_less", where)
        group = groups.setdefault((more, less), text_of(row, _ID, where))
        bias = text_of(row, "bias_type", where)
        texts.append(LabelledText(more, 0, group, _SOURCE, bias))
        texts.append(LabelledText(less, 1, group, _SOURCE, bias))
    check_category(category, {text.category for text in texts}, file)
    return tuple(text for text in texts if category in (None, text.category))
