"""Every reader of a user's or a benchmark's file, given what no table should hold: one line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from interp.data import load_completions, load_items, load_texts
from interp.data.crows_pairs import read_crows_pairs
from interp.data.ethics import read_ethics
from interp.data.stereoset import read_stereoset
from interp.directions import load_direction
from interp.errors import InterpError
from interp.prompts import load_conditions, read_feedback
from interp.runs.manifest import read_manifest

STRANGE: Mapping[str, tuple[str, str]] = {
    "half a surrogate pair": ('"It is \\ud83d so."', "half a surrogate pair"),
    "number of 5,000 digits": ("1" * 5000, "digits"),
    "deep nesting": ("[" * 99_999 + "]" * 99_999, "nested too deeply"),
    "NaN": ("NaN", "nan|NaN"),
    "number beyond float": ("1e999", "inf"),
}
JSON_READERS: Mapping[str, tuple[str, str, Callable[[Path], Any]]] = {
    "texts": ("t.jsonl", '{"label": 1, "text": %s}', load_texts),
    "labels": ("t.jsonl", '{"text": "a b", "label": %s}', load_texts),
    "positive": (
        "t.jsonl",
        '{"text": "a b", "label": "fair"}\n{"text": "c d", "label": %s}',
        lambda path: load_texts(path, positive="fair"),
    ),
    "items": (
        "i.jsonl",
        '{"question": "Who?", "gold": 0, "choices": [{"text": "a"}, {"text": "b"}], "context": %s}',
        load_items,
    ),
    "item meta": (
        "i.jsonl",
        '{"question": "Who?", "gold": 0, "choices": [{"text": "a"}, {"text": "b"}], '
        '"meta": {"x": %s}}',
        load_items,
    ),
    "completions": ("c.jsonl", '{"prompt": %s}', load_completions),
    "feedback": ("f.jsonl", '{"id": "q1", "feedback": %s}', read_feedback),
    "stereoset": ("dev.json", '{"data": {"intrasentence": [{"bias_type": %s}]}}', read_stereoset),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("reader", JSON_READERS)
def test_json_values_no_table_should_hold(reader: str, strange: str, tmp_path: Path) -> None:
    name, row, read = JSON_READERS[reader]
    value, message = STRANGE[strange]
    path = tmp_path / name
    path.write_text(row % value, encoding="utf-8")
    with pytest.raises(InterpError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"It is \\ud83d so."', "half a surrogate pair"),
        ("1" * 5000, "not valid YAML|text"),
        ("[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("2001-99-99", "not valid YAML"),
        (".nan", "valid string"),
    ],
)
def test_conditions_no_prompt_could_hold(value: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"mine:\n  description: {value}\n  texts: [a]\n", encoding="utf-8")
    with pytest.raises(InterpError, match=message) as caught:
        load_conditions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("missing", ["nan", "NaN", "NA", "null", "None"])
def test_a_missing_label_is_no_negative_one(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"text,label\na b,fair\nc d,{missing}\n")
    with pytest.raises(InterpError, match=rf"t\.csv, line 3, field 'label'.*'{missing}'"):
        load_texts(path, positive="fair")


@pytest.mark.parametrize("value", ["[1]", '{"x": 1}'])
@pytest.mark.parametrize("field", ["label", "group", "category"])
def test_a_list_or_object_is_no_cell(field: str, value: str, tmp_path: Path) -> None:
    cells = {"text": '"a b"', "label": "1", "group": '"g"', "category": '"c"', field: value}
    path = tmp_path / "t.jsonl"
    path.write_text("{" + ", ".join(f'"{k}": {v}' for k, v in cells.items()) + "}")
    with pytest.raises(InterpError, match=f"line 1, field '{field}'"):
        load_texts(path)


@pytest.mark.parametrize(
    ("name", "header", "read"),
    [
        ("t.csv", "text,label,text", load_texts),
        (
            "crows_pairs_anonymized.csv",
            ",sent_more,sent_less,sent_more,bias_type",
            read_crows_pairs,
        ),
        ("cm_test.csv", "label,input,label", read_ethics),
    ],
)
def test_of_two_columns_of_one_name_none_wins(
    name: str, header: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n")
    with pytest.raises(InterpError, match="line 1: two columns are called"):
        read(path)


def test_of_two_fields_of_one_name_none_wins(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a b", "label": 1, "text": "c d"}')
    with pytest.raises(InterpError, match=r"t\.jsonl, line 1, field 'text': comes twice"):
        load_texts(path)


@pytest.mark.parametrize("text", ["[" * 99_999, '{"format": %s}' % ("1" * 5000), "{", "\x00"])
def test_a_manifest_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InterpError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("header", ["[]", "{", "[" * 99_999, "{}", json.dumps({"auc": 3})])
def test_a_direction_file_with_another_header_is_named(header: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "d.safetensors"
    save_file({"vectors": torch.zeros(2)}, path, metadata={"interp_direction": header})
    with pytest.raises(InterpError, match=r"d\.safetensors"):
        load_direction(path)


@pytest.mark.parametrize("header", ["[]", "{", "[" * 99_999, "{}", json.dumps({"notes": 3})])
def test_a_sweep_file_with_another_header_is_named(header: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from interp.patching import SweepResult

    path = tmp_path / "s.safetensors"
    for key in ("interp_sweep", "sweep"):
        save_file({"values": torch.zeros(2)}, path, metadata={key: header})
        with pytest.raises(InterpError, match=r"s\.safetensors"):
            SweepResult.load(path)
