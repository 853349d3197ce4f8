"""Read a user's own tables: labelled texts (CSV, JSONL) and choice items (JSONL).

Every row is checked; the first bad one is an `InterpError` of one line that names file, line and
field. Files are UTF-8, with or without a byte order mark, with LF or CRLF; blank lines are skipped.

A row of choice items needs three fields; :data:`CHOICE_ROWS` lists the others::

    {"question": "Which animal can fly?", "choices": ["an owl", "a dog"], "answer": 0}
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.data.items import Choice, ChoiceItem, ContextCondition, LabelledText, Role
from interp.errors import InterpError, did_you_mean
from interp.parsing import parse_json, read_text

CHOICE_ROWS = """\
One JSON object a line:

{"question": "Which animal can fly?", "choices": ["an owl", "a dog"], "answer": 0}

Needed:
  question           the question
  choices            two options or more: texts, or {"text": ..., "role": ...} with a role of
                     "unknown" (the abstention), "stereotyped", "counter", "other"
  answer             the right option, counted from 0 ("gold" is another name of this field)
May be left out:
  context            what stands before the question
  id                 "file:line"
  cluster            items that share a template; each is its own otherwise
  category           the file's name
  benchmark          the file's name
  context_condition  "ambiguous" where the answer is the option with the role "unknown",
                     "disambiguated" where other options have roles, "plain" without any role
  meta               facts of your own: {"name": text or number}"""
"""The form of a file of choice items, for help and the command line."""


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
    values = {str(_cell(row, label, f"{path}, line {line}")) for line, row in rows}
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
                group=_name_cell(row, group, where) if grouped else f"line {line}",
                source=path.stem,
                category=_name_cell(row, "category", where) if row.get("category") else "",
            )
        )
    return tuple(texts)


def read_choice_items(path: str | Path) -> tuple[ChoiceItem, ...]:
    """Read choice items from a JSONL file; :data:`CHOICE_ROWS` says what a row holds.

    Unknown fields and repeated ids are errors.
    """
    path = _existing(path)
    items: list[ChoiceItem] = []
    lines: dict[str, int] = {}
    for line, raw in _jsonl_lines(path):
        row = _choice_row(_object(raw, path, line), f"{path}, line {line}")
        try:
            item = _ChoiceRow.model_validate(row).to_item(path.stem, line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            field = "answer" if field == "gold" and "answer" in _object(raw, path, line) else field
            named = f", field {field!r}" if field else ""
            raise InterpError(f"{path}, line {line}{named}: {first['msg']}") from error
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
        yield line, _object(raw, path, line)


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with the line number it starts on (from 1)."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        require_distinct(header, path)
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


def require_distinct(header: list[str], path: Path) -> None:
    """Refuse a header in which two columns have one name: the last would win silently.

    Raises:
        InterpError: names the file and the column.
    """
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        raise InterpError(f"{path}, line 1: two columns are called {repeated!r}; rename one")


_MISSING = ("nan", "null", "none", "na", "n/a", "<na>")
"""What tables write where a label is missing; as a label it would silently become class 0."""


class _ChoiceCell(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    role: Role = "other"


_OTHER_NAMES = {
    "options": "choices", "answers": "choices", "texts": "choices", "labels": "choices",
    "prompt": "question", "text": "question", "label": "answer", "correct": "answer",
    "target": "answer", "passage": "context", "group": "cluster", "condition": "context_condition",
}  # fmt: skip
"""What other data sets call these fields."""


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
        return ChoiceItem(
            id=item_id,
            benchmark=self.benchmark or stem,
            category=self.category or stem,
            context=self.context,
            question=self.question,
            choices=choices,
            gold=self.gold,
            context_condition=self.context_condition or _condition_of(choices, self.gold),
            cluster=self.cluster or item_id,
            meta=self.meta,
        )


def _condition_of(choices: Sequence[Choice], gold: int) -> ContextCondition:
    """The context condition that the options' roles speak of."""
    if gold < len(choices) and choices[gold].role == "unknown":
        return "ambiguous"
    return "disambiguated" if any(choice.role != "other" for choice in choices) else "plain"


def _choice_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row with ``answer`` as ``gold`` and plain texts as choices.

    Raises:
        InterpError: an unknown field, or one that is missing: names what it may be meant for.
    """
    fields = [*_ChoiceRow.model_fields, "answer"]
    unknown = next((name for name in row if name not in fields), None)
    if unknown is not None:
        meant = _OTHER_NAMES.get(unknown.lower())
        hint = f"did you mean {meant!r}?" if meant else did_you_mean(unknown, fields)
        raise InterpError(f"{where}, unknown field {unknown!r}: {hint} (interp data show jsonl)")
    if "answer" in row and "gold" in row:
        raise InterpError(f"{where}: 'answer' and 'gold' are one field: leave one of them out")
    row = {"gold" if name == "answer" else name: value for name, value in row.items()}
    for name in ("question", "choices", "gold"):
        if name not in row:
            name = "answer" if name == "gold" else name
            raise InterpError(
                f"{where}: the field {name!r} is missing; a row needs question, choices and answer "
                "(interp data show jsonl)"
            )
    if isinstance(row["choices"], list):
        row["choices"] = [{"text": c} if isinstance(c, str) else c for c in row["choices"]]
    if isinstance(row["gold"], str):
        raise InterpError(
            f"{where}, field 'answer': {row['gold'][:40]!r} is a text: give the right option's number, "
            "counted from 0"
        )
    return row


def _existing(path: str | Path) -> Path:
    path = Path(path)
    try:
        found = path.is_file()
    except OSError as error:  # a folder without permission
        raise InterpError(f"{path}: cannot be read ({error.strerror})") from error
    if not found:
        raise InterpError(f"{path}: no such file")
    return path


def _table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".csv":
        return read_csv(path)
    if path.suffix == ".jsonl":
        return read_jsonl(path)
    raise InterpError(f"{path}: labelled texts are read from a .csv or a .jsonl file")


def _jsonl_lines(path: Path) -> Iterator[tuple[int, str]]:
    # not splitlines(): texts may hold other line separators of Unicode
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield line, text.strip()


def _object(raw: str, path: Path, line: int) -> dict[str, Any]:
    row = parse_json(raw, f"{path}, line {line}")
    if not isinstance(row, dict):
        raise InterpError(f"{path}, line {line}: expected a JSON object, got {raw[:40]!r}")
    return row


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


def _name_cell(row: Mapping[str, Any], field: str, where: str) -> str:
    value = _cell(row, field, where)
    if not isinstance(value, str | int | float):
        raise InterpError(f"{where}, field {field!r}: expected a name, got {value!r}")
    return str(value)


def _binary(value: Any, positive: str | int | None, where: str) -> int:
    if isinstance(value, dict | list) or str(value).strip().lower() in _MISSING:
        raise InterpError(f"{where}: expected a label, got {value!r}: leave out rows without one")
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
