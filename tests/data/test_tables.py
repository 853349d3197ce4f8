import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.items import Choice, ChoiceItem, LabelledText
from interp.data.load import load_items
from interp.data.tables import CHOICE_ROWS, read_choice_items, read_labelled_texts
from interp.errors import InterpError

ROLES = ("unknown", "stereotyped", "counter", "other")
# csv cannot carry NUL, and a file cannot carry a lone surrogate
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")).filter(
    lambda text: bool(text.strip())
)
words = st.text("abcdef", min_size=1, max_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


labelled_rows = st.lists(
    st.fixed_dictionaries({"text": texts, "label": st.sampled_from([0, 1]), "group": words})
)


@given(rows=labelled_rows, suffix=st.sampled_from([".csv", ".jsonl"]), bom=st.booleans())
@settings(max_examples=60, deadline=None)
def test_labelled_texts_survive_the_round_trip_through_a_file(
    folder: Path, rows: list[dict[str, Any]], suffix: str, bom: bool
) -> None:
    path = folder / f"mine{suffix}"
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as stream:
        if suffix == ".csv":
            writer = csv.DictWriter(stream, ["text", "label", "group"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\r\n" for row in rows)
    read = read_labelled_texts(path)
    assert read == tuple(
        LabelledText(row["text"], row["label"], row["group"], source="mine") for row in rows
    )


@st.composite
def choice_items(draw: st.DrawFn) -> ChoiceItem:
    options = draw(st.lists(texts, min_size=2, max_size=4, unique_by=str.strip))
    scalars = st.one_of(st.booleans(), st.integers(-1000, 1000), words, st.floats(-1, 1))
    return ChoiceItem(
        id=draw(words),
        benchmark=draw(words),
        category=draw(words),
        context=draw(st.text("abc é\u2028\n", max_size=8)),
        question=draw(words),
        choices=tuple(Choice(text, draw(st.sampled_from(ROLES))) for text in options),
        gold=draw(st.integers(0, len(options) - 1)),
        context_condition=draw(st.sampled_from(["ambiguous", "disambiguated", "plain"])),
        cluster=draw(words),
        meta=draw(st.dictionaries(words, scalars, max_size=3)),
    )


def as_row(item: ChoiceItem) -> dict[str, Any]:
    choices = [{"text": choice.text, "role": choice.role} for choice in item.choices]
    return {**vars(item), "choices": choices}


@given(items=st.lists(choice_items(), unique_by=lambda item: item.id, max_size=4))
@settings(max_examples=60, deadline=None)
def test_choice_items_survive_the_round_trip_through_a_file(
    folder: Path, items: list[ChoiceItem]
) -> None:
    path = folder / "items.jsonl"
    lines = [json.dumps(as_row(item), ensure_ascii=False) for item in items]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    assert read_choice_items(path) == tuple(items)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


ROW = '{"question": "q?", "choices": [{"text": "x", "role": "unknown"}, {"text": "y"}], "gold": 0}'


def test_a_choice_item_with_only_the_required_fields_gets_the_documented_defaults(
    write: Any,
) -> None:
    other = ROW.replace('"gold": 0', '"gold": 1')
    abstains, names = read_choice_items(write("mine.jsonl", f"{ROW}\n{other}\n"))
    assert (abstains.id, names.id) == ("mine:1", "mine:2")
    assert abstains.cluster == abstains.id
    assert (abstains.category, abstains.benchmark, abstains.context) == ("mine", "mine", "")
    assert abstains.choices == (Choice("x", "unknown"), Choice("y", "other"))
    assert abstains.context_condition == "ambiguous"
    assert names.context_condition == "disambiguated"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace("}], ", "], "), "not valid JSON"),
        ("[]", "expected a JSON object"),
        (
            ROW.replace('"question": "q?", ', ""),
            "'question' is missing; a row needs question, choices and answer",
        ),
        (
            ROW.replace('"gold": 0', '"gold": "0"'),
            "field 'answer': '0' is a text: give the right option's number",
        ),
        (ROW.replace('"gold": 0', '"gold": 2'), "gold index 2 is outside 0..1"),
        (ROW.replace('"gold": 0', '"gold": -1'), "field 'gold': Input should be greater"),
        (ROW.replace('"unknown"', '"unsure"'), r"field 'choices\.0\.role': Input should be 'unk"),
        (ROW.replace('"y"', '"x"'), "two choices have the same text"),
        (
            ROW.replace('"gold"', '"contxt": "", "gold"'),
            "unknown field 'contxt': did you mean 'context'",
        ),
        (ROW.replace('"gold"', '"meta": {"a": []}, "gold"'), r"field 'meta\.a"),
    ],
)
def test_a_broken_choice_row_is_one_line_with_file_line_and_field(
    write: Any, row: str, message: str
) -> None:
    with pytest.raises(InterpError, match=rf"mine\.jsonl, line 3.*{message}") as caught:
        read_choice_items(write("mine.jsonl", f"{ROW}\n\n{row}\n"))
    assert "\n" not in str(caught.value)


def test_a_repeated_id_names_both_lines(write: Any) -> None:
    row = ROW.replace("{", '{"id": "a", ', 1)
    with pytest.raises(InterpError, match=r"line 2, field 'id': 'a' was used on line 1"):
        read_choice_items(write("mine.jsonl", f"{row}\n{row}\n"))


def test_without_a_group_column_every_row_is_its_own_group(write: Any) -> None:
    read = read_labelled_texts(write("mine.csv", "text,label\none,1\ntwo,0\n"))
    assert [text.group for text in read] == ["line 2", "line 3"]


def test_a_group_column_under_another_name_must_exist(write: Any) -> None:
    with pytest.raises(InterpError, match="line 2: field 'pair' is missing or empty"):
        read_labelled_texts(write("mine.csv", "text,label\none,1\n"), group="pair")


def test_columns_can_be_named_and_the_positive_label_chosen(write: Any) -> None:
    path = write("mine.csv", "sentence,kind,pair,category\none,fair,a,work\ntwo,unfair,a,home\n")
    read = read_labelled_texts(path, text="sentence", label="kind", group="pair", positive="fair")
    assert read == (
        LabelledText("one", 1, "a", "mine", "work"),
        LabelledText("two", 0, "a", "mine", "home"),
    )


def test_a_positive_label_can_turn_zero_and_one_round(write: Any) -> None:
    path = write("mine.jsonl", '{"text": "one", "label": 0}\n{"text": "two", "label": 1}\n')
    assert [text.label for text in read_labelled_texts(path, positive=0)] == [1, 0]


def test_a_positive_label_needs_exactly_one_other_value(write: Any) -> None:
    path = write("mine.csv", "text,label\na,x\nb,y\nc,z\n")
    with pytest.raises(InterpError, match="field 'label' holds x, y, z; with positive='x'"):
        read_labelled_texts(path, positive="x")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text,label\none,1\ntwo,yes\n",
            "line 3, field 'label': expected 0 or 1, got 'ye",
        ),
        ("a.csv", "text,label\none,1\n,0\n", "line 3: field 'text' is missing or empty"),
        ("a.csv", 'text,label\n"two\nlines",1\n  ,0\n', "line 4, field 'text': expected a text"),
        ("a.csv", "text,label\none,1,2\n", "line 2: 3 cells, the header has 2"),
        ("a.csv", 'text,label\n"one"x,1\n', "line 2: not valid CSV"),
        ("a.csv", b"text,label\none,1\n\xff,0\n", "line 3: not UTF-8"),
        ("a.jsonl", b'{"text": "one", "label": 1}\n"\xff"\n', "line 2: not UTF-8"),
        ("a.jsonl", '{"text": "one", "label": 1}\n7\n', "line 2: expected a JSON object, got '7'"),
        ("a.jsonl", '{"text": 5, "label": 1}\n', "line 1, field 'text': expected a text, got 5"),
        ("a.txt", "one", r"labelled texts are read from a \.csv or a \.jsonl file"),
    ],
)
def test_a_broken_table_is_one_line_with_file_line_and_field(
    write: Any, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InterpError, match=rf"{name}.*{message}") as caught:
        read_labelled_texts(write(name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"none\.jsonl: no such file"):
        read_choice_items(tmp_path / "none.jsonl")
    with pytest.raises(InterpError, match=r"none\.csv: no such file"):
        read_labelled_texts(tmp_path / "none.csv")


PLAIN = '{"question": "Which can fly?", "choices": ["an owl", "a dog"], "answer": 0}'


def test_a_row_of_plain_texts_is_a_plain_item_with_a_contrast(write: Any) -> None:
    (item,) = read_choice_items(write("mine.jsonl", PLAIN))
    assert item.choices == (Choice("an owl"), Choice("a dog"))
    assert (item.gold, item.context_condition, item.contrast()) == (0, "plain", (0, 1))
    assert (item.id, item.category, item.benchmark, item.context) == ("mine:1", "mine", "mine", "")
    mixed = '{"question": "q", "choices": [{"text": "x", "role": "counter"}, "y"], "gold": 1}'
    (roles,) = read_choice_items(write("mixed.jsonl", mixed))
    assert roles.context_condition == "disambiguated"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PLAIN.replace("choices", "options"), "unknown field 'options': did you mean 'choices'?"),
        (PLAIN.replace("choices", "answers"), "unknown field 'answers': did you mean 'choices'?"),
        (PLAIN.replace("answer", "label"), "unknown field 'label': did you mean 'answer'?"),
        (
            PLAIN.replace('"answer": 0', '"answer": 0, "gold": 0'),
            "'answer' and 'gold' are one field",
        ),
        (PLAIN.replace(', "answer": 0', ""), "the field 'answer' is missing"),
        (PLAIN.replace('"answer": 0', '"answer": "an owl"'), "'an owl' is a text: give the right"),
        (
            PLAIN.replace('"answer": 0', '"answer": 1.5'),
            "field 'answer': Input should be a valid int",
        ),
        (PLAIN.replace('"answer": 0', '"answer": 2'), "gold index 2 is outside 0..1"),
        (PLAIN.replace('["an owl", "a dog"]', '"an owl"'), "field 'choices'"),
    ],
)
def test_a_row_with_other_names_gets_a_suggestion(write: Any, row: str, message: str) -> None:
    with pytest.raises(InterpError, match=re.escape(message)) as caught:
        read_choice_items(write("mine.jsonl", row))
    assert "\n" not in str(caught.value)
    assert "Field required" not in str(caught.value)


def test_the_form_that_help_shows_is_the_form_that_is_read(write: Any) -> None:
    example = next(line for line in CHOICE_ROWS.splitlines() if line.startswith("{"))
    assert read_choice_items(write("mine.jsonl", example))
    assert example in (load_items.__doc__ or "")
    for name in ("context", "id", "cluster", "category", "benchmark", "context_condition", "meta"):
        assert f"  {name} " in CHOICE_ROWS
        assert f"``{name}``" in (load_items.__doc__ or "")
