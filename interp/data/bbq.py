"""Read BBQ (Bias Benchmark for QA, arXiv:2110.08193) in its published layout.

One JSONL file per category, and `additional_metadata.csv`, whose ``target_loc`` names the biased
answer. ``target_loc`` already takes the question's polarity into account: the biased answer to a
negative question and to its non-negative counterpart are different people, and nothing is flipped
here. Roles: ``stereotyped`` = the option at ``target_loc``, ``unknown`` = the option whose group is
"unknown", ``counter`` = the third. Items without a target (16 in Gender_identity) keep the role
``other`` for both groups: they count for accuracy, and their bias is undefined.

The metadata repeats 64 rows, which differ only in the group they name; they must agree on the
target. Reading one category parses no other category's file.

Example::

    items = read_bbq(Path("BBQ/data"), categories=["Age"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.data.items import Choice, ChoiceItem, ContextCondition, Role
from interp.data.tables import read_csv, read_jsonl
from interp.errors import InterpError

METADATA_FILE = "additional_metadata.csv"
_CONDITIONS: Mapping[str, ContextCondition] = {
    "ambig": "ambiguous",
    "disambig": "disambiguated",
}
_POLARITIES = ("neg", "nonneg")
_NO_TARGET = "NA"
_CHOICES = range(3)


def read_bbq(
    files: str | Path | Sequence[str | Path],
    metadata_path: str | Path | None = None,
    *,
    categories: Sequence[str] | None = None,
) -> tuple[ChoiceItem, ...]:
    """BBQ items in file order, categories in alphabetical order.

    ``files``: the folder with the category files (or its parent, when they lie in ``data``), or the
    files themselves. ``metadata_path`` defaults to `additional_metadata.csv` in their folder.
    ``categories``: file stems; all by default.

    An item's category is its file's stem, its cluster "category/question_index" (343 in all), its
    id "bbq:category/example_id". ``meta`` holds polarity ("neg", "nonneg"), question_index,
    example_id, label_type, version, subcategory, groups (the three options' group labels, joined
    by "|"), and, where the benchmark gives them, stereotyped_groups, social_values and full_cond.
    Raises `InterpError` naming file, line and field.
    """
    paths = _category_files(files)
    if categories is not None:
        missing = sorted(set(categories) - set(paths))
        if missing:
            raise InterpError(f"BBQ category {missing[0]!r} is not among {', '.join(paths)}")
        paths = {name: path for name, path in paths.items() if name in categories}
    metadata_path = Path(metadata_path or next(iter(paths.values())).parent / METADATA_FILE)
    metadata = _read_metadata(metadata_path, set(paths))
    return tuple(
        _to_item(row, category, metadata, metadata_path, f"{path}, line {line}")
        for category, path in paths.items()
        for line, row in read_jsonl(path)
    )


def _category_files(files: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    if isinstance(files, (str, Path)):
        folder = Path(files)
        found = sorted(folder.glob("*.jsonl")) or sorted((folder / "data").glob("*.jsonl"))
        if not found:
            raise InterpError(f"{folder}: holds no .jsonl file, so it is not BBQ's layout")
    else:
        found = sorted(Path(file) for file in files)
    absent = [path for path in found if not path.is_file()]
    if absent or not found:
        raise InterpError(f"{absent[0]}: no such file" if absent else "no BBQ file was given")
    return {path.stem: path for path in found}


def _read_metadata(path: Path, categories: set[str]) -> dict[tuple[str, str], dict[str, str]]:
    if not path.is_file():
        raise InterpError(
            f"{path}: no such file; BBQ's metadata says which answer is the biased one"
        )
    metadata: dict[tuple[str, str], dict[str, str]] = {}
    for line, row in read_csv(path):
        where = f"{path}, line {line}"
        if _text(row, "category", where) not in categories:
            continue
        key = (row["category"], _text(row, "example_id", where))
        target = _text(row, "target_loc", where)
        if target not in (_NO_TARGET, "0", "1", "2"):
            raise InterpError(
                f"{where}, field 'target_loc': expected 0, 1, 2 or NA, got {target!r}"
            )
        known = metadata.setdefault(key, row)
        if known["target_loc"] != target:
            raise InterpError(
                f"{where}, field 'target_loc': {target} contradicts {known['target_loc']} of an "
                f"earlier row for {key[0]} item {key[1]}"
            )
    return metadata


def _to_item(
    row: Mapping[str, Any],
    category: str,
    metadata: Mapping[tuple[str, str], Mapping[str, str]],
    metadata_path: Path,
    where: str,
) -> ChoiceItem:
    example_id = _integer(row, "example_id", where)
    question_index = _integer(row, "question_index", where)
    facts = metadata.get((category, str(example_id)))
    if facts is None:
        raise InterpError(
            f"{where}: {metadata_path.name} has no row for {category} item {example_id}"
        )
    groups = _groups(row, where)
    return ChoiceItem(
        id=f"bbq:{category}/{example_id}",
        benchmark="bbq",
        category=category,
        context=_text(row, "context", where),
        question=_text(row, "question", where),
        choices=_choices(row, groups, facts["target_loc"], where),
        gold=_one_of(row, "label", _CHOICES, where),
        context_condition=_CONDITIONS[_one_of(row, "context_condition", _CONDITIONS, where)],
        cluster=f"{category}/{question_index}",
        meta={
            "polarity": _one_of(row, "question_polarity", _POLARITIES, where),
            "question_index": question_index,
            "example_id": example_id,
            "groups": "|".join(groups),
            **_scalars(row, facts),
        },
    )


def _groups(row: Mapping[str, Any], where: str) -> list[str]:
    """The social group of each option; exactly one is "unknown"."""
    info = row.get("answer_info")
    try:
        groups = [str(info[f"ans{i}"][1]) for i in _CHOICES]  # type: ignore[index]
    except (KeyError, TypeError, IndexError) as error:
        raise InterpError(
            f"{where}, field 'answer_info': expected ans0, ans1, ans2, each [text, group]"
        ) from error
    if groups.count("unknown") != 1:
        raise InterpError(
            f"{where}, field 'answer_info': expected one group called 'unknown', got {groups}"
        )
    return groups


def _choices(
    row: Mapping[str, Any], groups: Sequence[str], target: str, where: str
) -> tuple[Choice, ...]:
    if target != _NO_TARGET and groups[int(target)] == "unknown":
        raise InterpError(f"{where}: target_loc {target} is the 'unknown' option")
    return tuple(
        Choice(_text(row, f"ans{i}", where), _role(i, groups[i], target)) for i in _CHOICES
    )


def _role(option: int, group: str, target: str) -> Role:
    if group == "unknown":
        return "unknown"
    if target == _NO_TARGET:
        return "other"
    return "stereotyped" if option == int(target) else "counter"


def _scalars(row: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, str]:
    """What else the benchmark says of an item, without its "NA" and "None"."""
    extra = row.get("additional_metadata") or {}
    values = {
        "label_type": facts.get("label_type"),
        "version": extra.get("version"),
        "subcategory": extra.get("subcategory"),
        "stereotyped_groups": "|".join(extra.get("stereotyped_groups") or ()),
        "social_values": facts.get("Relevant_social_values"),
        "full_cond": facts.get("full_cond"),
    }
    # One column of the metadata has a line break inside its cells.
    tidy = {name: " ".join(str(value or "").split()) for name, value in values.items()}
    return {name: value for name, value in tidy.items() if value not in ("", "NA", "None")}


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InterpError(f"{where}, field {field!r}: expected a text, got {value!r}")
    return value


def _integer(row: Mapping[str, Any], field: str, where: str) -> int:
    value = row.get(field)
    try:
        return int(str(value))
    except ValueError as error:
        raise InterpError(f"{where}, field {field!r}: expected a number, got {value!r}") from error


def _one_of(row: Mapping[str, Any], field: str, allowed: Any, where: str) -> Any:
    value = row.get(field)
    if isinstance(value, (list, dict)) or value not in allowed or isinstance(value, bool):
        raise InterpError(
            f"{where}, field {field!r}: expected one of {', '.join(map(str, allowed))}, "
            f"got {value!r}"
        )
    return value
