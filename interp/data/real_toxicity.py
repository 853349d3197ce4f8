"""Read sentence openings to be completed: RealToxicityPrompts (arXiv:2009.11462) and own files.

JSON lines, a row in one of three shapes:

- RealToxicityPrompts as published: ``prompt`` and ``continuation`` are objects with ``text`` and
  eight scores. Taken over: the prompt's text, both toxicities, and ``challenging``.
- ``rtp-993``: ``text`` with its scores on one level; ``text`` is the prompt.
- A user's own row: ``prompt`` is a text; ``id`` and ``meta`` (scalars) are optional.

The scores are those of Perspective at the time of publication, 0 to 1. They are readings of an
instrument, not ground truth; where the authors had none the field is null, and ``meta`` lacks it.
The text of the published continuation is not taken over: it is what some author wrote.

A prompt keeps its wording, inner line breaks included; only outer white space goes, so that a
continuation begins with a blank.

Example::

    items = read_completions(fetch_dataset("rtp-993"))
    items[0].meta["prompt_toxicity"]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.data.fields import file_in
from interp.data.items import CompletionItem, Meta
from interp.data.tables import read_jsonl
from interp.errors import InterpError

RTP = "real-toxicity-prompts"
"""Benchmark of the items that come with scores; own rows carry their file's stem instead."""

COMPLETION_FILES = ("prompts.jsonl", "test.jsonl")
_OWN_FIELDS = ("id", "prompt", "meta")


def read_completions(path: str | Path) -> tuple[CompletionItem, ...]:
    """Completion items in file order.

    ``path``: a JSONL file, or a folder that holds `prompts.jsonl` (as published) or `test.jsonl`
    (``rtp-993``). The id is "stem:line" unless an own row has one. ``meta`` of scored rows holds
    prompt_toxicity, continuation_toxicity and challenging, where the file has them.
    Raises `InterpError` naming file, line and field.
    """
    file = file_in(path, COMPLETION_FILES)
    items: list[CompletionItem] = []
    lines: dict[str, int] = {}
    for line, row in read_jsonl(file):
        item = _to_item(row, file.stem, line, f"{file}, line {line}")
        if lines.setdefault(item.id, line) != line:
            raise InterpError(
                f"{file}, line {line}, field 'id': {item.id!r} was used on line {lines[item.id]}"
            )
        items.append(item)
    return tuple(items)


def _to_item(row: Mapping[str, Any], stem: str, line: int, where: str) -> CompletionItem:
    name = f"{stem}:{line}"
    prompt = row.get("prompt")
    if isinstance(prompt, Mapping):
        return CompletionItem(
            name, RTP, _text(prompt, "text", where, "prompt."), _nested(row, where)
        )
    if "prompt" in row:
        return _own(row, name, stem, where)
    if "text" in row:
        scores = _toxicity(row, "prompt_toxicity", where, "")
        return CompletionItem(name, RTP, _text(row, "text", where), scores)
    raise InterpError(f"{where}: has neither a field 'prompt' nor a field 'text'")


def _nested(row: Mapping[str, Any], where: str) -> Meta:
    meta: dict[str, str | int | float | bool] = {}
    for part in ("prompt", "continuation"):
        scores = row.get(part, {})
        if not isinstance(scores, Mapping):
            raise InterpError(f"{where}, field {part!r}: expected an object, got {scores!r}")
        meta |= _toxicity(scores, f"{part}_toxicity", where, f"{part}.")
    if "challenging" in row:
        if not isinstance(row["challenging"], bool):
            raise InterpError(
                f"{where}, field 'challenging': expected true or false, got {row['challenging']!r}"
            )
        meta["challenging"] = row["challenging"]
    return meta


def _own(row: Mapping[str, Any], name: str, stem: str, where: str) -> CompletionItem:
    unknown = sorted(set(row) - set(_OWN_FIELDS))
    if unknown:
        raise InterpError(
            f"{where}, field {unknown[0]!r}: unknown; a row has {', '.join(_OWN_FIELDS)}"
        )
    meta = row.get("meta", {})
    if not isinstance(meta, dict) or not all(
        isinstance(value, (str, int, float, bool)) for value in meta.values()
    ):
        raise InterpError(f"{where}, field 'meta': expected an object of scalars, got {meta!r}")
    own_id = _text(row, "id", where) if "id" in row else name
    return CompletionItem(own_id, stem, _text(row, "prompt", where), meta)


def _toxicity(
    row: Mapping[str, Any], name: str, where: str, parent: str
) -> dict[str, str | int | float | bool]:
    """The field "toxicity" under its new name; nothing where it is absent or null."""
    value = row.get("toxicity")
    if value is None:
        return {}
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:
        raise InterpError(
            f"{where}, field '{parent}toxicity': expected a number in 0..1 or null, got {value!r}"
        )
    return {name: float(value)}


def _text(row: Mapping[str, Any], field: str, where: str, parent: str = "") -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InterpError(f"{where}, field '{parent}{field}': expected a text, got {value!r}")
    return value.strip()
