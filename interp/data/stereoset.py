"""Read StereoSet's development set (arXiv:2004.09456): one context, three continuations.

The stereotype becomes a text with label 0, the anti-stereotype one with label 1; the unrelated
continuation is left out. In the part "intrasentence" a text is the filled sentence, in
"intersentence" the context and the sentence that follows it.

The group is the target term with its bias type ("race/..."), not the item: each of the 79 terms
occurs in some 27 items of either part, and a probe that saw a term in training must not be scored
on it. A group therefore holds about 53 texts of one part, half of each label.

The published file gives 4,212 intrasentence texts (2,106 items) and 4,246 intersentence texts
(2,123 items) in the same 79 groups: 36 race, 30 profession, 10 gender, 3 religion.

Example::

    texts = read_stereoset(fetch_dataset("stereoset"), category="gender")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from interp.data.fields import check_category, file_in, one_of, text_of
from interp.data.items import LabelledText
from interp.errors import InterpError
from interp.parsing import parse_json, read_text

StereoSetPart = Literal["intrasentence", "intersentence", "all"]
"""Which items of StereoSet: a gap inside one sentence, a second sentence, or both in this order."""

_SOURCE = "stereoset"
_FILE = "dev.json"
_LABELS = {"stereotype": 0, "anti-stereotype": 1}
_GOLD = (*_LABELS, "unrelated")
_PARTS: Mapping[StereoSetPart, tuple[str, ...]] = {
    "intrasentence": ("intrasentence",),
    "intersentence": ("intersentence",),
    "all": ("intrasentence", "intersentence"),
}


def read_stereoset(
    path: str | Path, *, part: StereoSetPart = "intrasentence", category: str | None = None
) -> tuple[LabelledText, ...]:
    """Two texts per item, the stereotype (label 0) then the anti-stereotype (label 1).

    ``path``: the JSON file or a folder that holds `dev.json`. ``category`` keeps one ``bias_type``.
    ``group`` is "bias_type/target". Raises `InterpError` naming file, item (counted from 1) and
    field, or the category that no item has.
    """
    file = file_in(path, [_FILE])
    data = _data(file)
    texts = [text for name in _PARTS[part] for text in _texts_of(data, name, file)]
    check_category(category, {text.category for text in texts}, file)
    return tuple(text for text in texts if category in (None, text.category))


def _data(file: Path) -> Mapping[str, Any]:
    content = parse_json(read_text(file), str(file))
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise InterpError(f"{file}, field 'data': expected an object with the parts of StereoSet")
    return data


def _texts_of(data: Mapping[str, Any], part: str, file: Path) -> Iterator[LabelledText]:
    items = data.get(part)
    if not isinstance(items, list):
        raise InterpError(f"{file}, field {part!r}: expected a list of items")
    for number, item in enumerate(items, start=1):
        where = f"{file}, {part} item {number}"
        if not isinstance(item, dict):
            raise InterpError(f"{where}: expected an object, got {item!r}")
        bias = text_of(item, "bias_type", where)
        group = f"{bias}/{text_of(item, 'target', where)}"
        opening = f"{text_of(item, 'context', where)} " if part == "intersentence" else ""
        sentences = _sentences(item, where)
        for gold, label in _LABELS.items():
            yield LabelledText(opening + sentences[gold], label, group, _SOURCE, bias)


def _sentences(item: Mapping[str, Any], where: str) -> dict[str, str]:
    """The item's sentences by their gold label; each of the three comes once."""
    rows = item.get("sentences")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InterpError(f"{where}, field 'sentences': expected a list of objects")
    found = {
        one_of(row, "gold_label", _GOLD, where): text_of(row, "sentence", where) for row in rows
    }
    if len(rows) != len(_GOLD) or len(found) != len(_GOLD):
        raise InterpError(
            f"{where}, field 'sentences': expected one each of {', '.join(_GOLD)}, "
            f"got {', '.join(row['gold_label'] for row in rows) or 'none'}"
        )
    return found
