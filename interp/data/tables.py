"""Read a user's own tables: labelled texts (CSV, JSONL) and choice items (JSONL).

Every row is checked; the first bad one is an `InterpError` of one line that names file, line and
field. Files are UTF-8, with or without a byte order mark, with LF or CRLF; blank lines are skipped.

Example row of a choice-item file::

    {"id": "q1", "question": "Who was late?", "gold": 0,
     "choices": [{"text": "Not known", "role": "unknown"}, {"text": "Ann", "role": "stereotyped"},
                 {"text": "Bob", "role": "counter"}]}
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.data.items import Choice, ChoiceItem, ContextCondition, LabelledText, Role
from interp.errors import InterpError


def read_labelled_texts(
    path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    group: str = "group",
    positive: str | int | None = None,
) -> tuple[LabelledText, ...]:
    """Read labelled sentences from a ``.csv`` (with a header) or ``.jsonl`` file.

    ``text``, ``label`` and ``group`` name the columns. Labels are 0 and 1, or any two values of
    which ``positive`` says which one becomes 1. A file without the column "group" puts every row in
    a group of its own (rows that belong together may then be split apart); a group column under
    another name must exist. A column "category" is taken over. ``source`` is the file's stem.
    """
    path = _existing(path)
    rows = list(_table_rows(path))
    grouped = group != "group" or any(group in row for _, row in rows)
    values = {str(row.get(label)) for _, row in rows}
    if positive is not None and (len(values) > 2 or str(positive) not in values):
        raise InterpError(
            f"{path}: field {label!r} holds {_some(values)}; with positive={positive!r} it needs "
            "exactly that value and one other"
        )
    texts = []
    for line, row in rows:
        where = f"{path}, line {line}"
        raw_label = _cell(row, label, where)
        texts.append(
            LabelledText(
                text=_text_cell(row, text, where),
                label=_binary(raw_label, positive, f"{where}, field {label!r}"),
                group=str(_cell(row, group, where)) if grouped else f"line {line}",
                source=path.stem,
                category=str(row.get("category") or ""),
            )
        )
    return tuple(texts)


def read_choice_items(path: str | Path) -> tuple[ChoiceItem, ...]:
    """Read choice items from a JSONL file in the shape of `ChoiceItem`.

    Required: ``question``, ``choices`` (objects with ``text`` and, if known, ``role``), ``gold``
    (index into ``choices``). Left out, ``id`` is "stem:line", ``cluster`` is the id, ``category``
    and ``benchmark`` are the file's stem, ``context`` is empty, and ``context_condition`` is
    "ambiguous" when the gold choice has the role "unknown", else "disambiguated". Unknown fields
    and repeated ids are errors.
    """
    path = _existing(path)
    items: list[ChoiceItem] = []
    lines: dict[str, int] = {}
    for line, raw in _jsonl_lines(path):
        try:
            item = _ChoiceRow.model_validate_json(raw).to_item(path.stem, line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            named = f", field {field!r}" if field else ""
            reason = first["msg"].replace("at line 1 column", "at column")
            raise InterpError(f"{path}, line {line}{named}: {reason}") from error
        except InterpError as error:
            raise InterpError(f"{path}, line {line}: {error}") from error
        if item.id in lines:
            raise InterpError(
                f"{path}, line {line}, field 'id': {item.id!r} was used on line {lines[item.id]}"
            )
        lines[item.id] = line
        items.append(item)
    return tuple(items)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, each with its line number (from 1)."""
    for line, raw in _jsonl_lines(path):
        try:
            row = json.loads(raw)
        except json.JSONDecodeError as error:
            raise InterpError(f"{path}, line {line}: not valid JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise InterpError(f"{path}, line {line}: expected a JSON object, got {raw[:40]!r}")
        yield line, row


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with the line number it starts on (from 1)."""
    data = path.read_bytes()
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InterpError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, [])
        start = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise InterpError(
                    f"{path}, line {start}: {len(cells)} cells, the header has {len(header)}"
                )
            if cells:
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InterpError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


class _ChoiceCell(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    role: Role = "other"


class _ChoiceRow(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: str
    choices: Annotated[list[_ChoiceCell], Field(min_length=2)]
    gold: Annotated[int, Field(ge=0)]
    id: str | None = None
    benchmark: str | None = None
    category: str | None = None
    cluster: str | None = None
    context: str = ""
    context_condition: ContextCondition | None = None
    meta: dict[str, str | int | float | bool] = Field(default_factory=dict)

    def to_item(self, stem: str, line: int) -> ChoiceItem:
        item_id = self.id or f"{stem}:{line}"
        choices = tuple(Choice(choice.text, choice.role) for choice in self.choices)
        abstains = self.gold < len(choices) and choices[self.gold].role == "unknown"
        return ChoiceItem(
            id=item_id,
            benchmark=self.benchmark or stem,
            category=self.category or stem,
            context=self.context,
            question=self.question,
            choices=choices,
            gold=self.gold,
            context_condition=self.context_condition
            or ("ambiguous" if abstains else "disambiguated"),
            cluster=self.cluster or item_id,
            meta=self.meta,
        )


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InterpError(f"{path}: no such file")
    return path


def _table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".csv":
        return read_csv(path)
    if path.suffix == ".jsonl":
        return read_jsonl(path)
    raise InterpError(f"{path}: labelled texts are read from a .csv or a .jsonl file")


def _jsonl_lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise InterpError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from error
            if text:
                yield line, text


def _cell(row: Mapping[str, Any], field: str, where: str) -> Any:
    value = row.get(field)
    if value is None or value == "":
        raise InterpError(f"{where}: field {field!r} is missing or empty (fields: {_some(row)})")
    return value


def _text_cell(row: Mapping[str, Any], field: str, where: str) -> str:
    value = _cell(row, field, where)
    if not isinstance(value, str) or not value.strip():
        raise InterpError(f"{where}, field {field!r}: expected a text, got {value!r}")
    return value


def _binary(value: Any, positive: str | int | None, where: str) -> int:
    if positive is not None:
        return int(str(value) == str(positive))
    if str(value) not in ("0", "1"):
        raise InterpError(
            f"{where}: expected 0 or 1, got {value!r}; say which value is positive (positive=...)"
        )
    return int(value)


def _some(values: Any) -> str:
    listed = sorted(str(value) for value in values)
    return ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")
