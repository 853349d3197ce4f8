import json
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.catalogue import fetch_dataset
from interp.data.items import LabelledText
from interp.data.stereoset import read_stereoset
from interp.errors import InterpError

WORDS = st.text("abc '.", min_size=1).filter(lambda text: text.strip())


def item(
    target: str = "baker",
    bias: str = "trade",
    context: str = "My baker is BLANK.",
    **sentences: str,
) -> dict[str, Any]:
    texts = {
        "anti-stereotype": "My baker is late.",
        "unrelated": "My baker is seven.",
        "stereotype": "My baker is  early. ",
        **{name.replace("_", "-"): text for name, text in sentences.items()},
    }
    rows = [{"sentence": text, "gold_label": gold} for gold, text in texts.items()]
    return {"target": target, "bias_type": bias, "context": context, "sentences": rows}


def write_set(folder: Path, intra: list[Any] | None = None, inter: list[Any] | None = None) -> Path:
    data = {
        "intersentence": [item(target="tailor", bias="dress", context="A tailor came.")]
        if inter is None
        else inter,
        "intrasentence": [item()] if intra is None else intra,
    }
    path = folder / "dev.json"
    path.write_text(json.dumps({"version": "1", "data": data}), encoding="utf-8")
    return path


def test_a_filled_sentence_is_negative_for_the_stereotype_and_the_unrelated_one_is_left_out(
    tmp_path: Path,
) -> None:
    assert read_stereoset(write_set(tmp_path)) == (
        LabelledText("My baker is early.", 0, "trade/baker", "stereoset", "trade"),
        LabelledText("My baker is late.", 1, "trade/baker", "stereoset", "trade"),
    )


def test_a_second_sentence_follows_its_context(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    texts = read_stereoset(path, part="intersentence")
    assert [text.text for text in texts] == [
        "A tailor came. My baker is early.",
        "A tailor came. My baker is late.",
    ]
    assert read_stereoset(path, part="all") == read_stereoset(path) + texts


def test_items_of_one_target_share_a_group_and_targets_of_other_kinds_do_not(
    tmp_path: Path,
) -> None:
    path = write_set(tmp_path, [item(), item(), item(bias="name"), item(target="cook")])
    groups = [text.group for text in read_stereoset(path)]
    assert groups == ["trade/baker"] * 4 + ["name/baker"] * 2 + ["trade/cook"] * 2


def test_a_category_can_be_kept_and_an_unknown_one_gets_the_close_match(tmp_path: Path) -> None:
    write_set(tmp_path, [item(), item(bias="name")])
    assert {text.category for text in read_stereoset(tmp_path, category="name")} == {"name"}
    with pytest.raises(InterpError, match="category 'names'; did you mean 'name'"):
        read_stereoset(tmp_path, category="names")


@settings(max_examples=30)
@given(st.lists(st.tuples(WORDS, WORDS, st.sampled_from(["a", "b"])), min_size=1))
def test_any_set_gives_two_texts_per_item_grouped_by_target(
    rows: list[tuple[str, str, str]],
) -> None:
    items = [item(target=t, stereotype=s, anti_stereotype=a) for s, a, t in rows]
    with TemporaryDirectory() as folder:
        texts = read_stereoset(write_set(Path(folder), items))
    assert [text.text for text in texts] == [" ".join(s.split()) for row in rows for s in row[:2]]
    assert [text.label for text in texts] == [0, 1] * len(rows)
    assert [text.group for text in texts] == [f"trade/{t}" for _, _, t in rows for _ in range(2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": ""}, "field 'target': expected a text, got ''"),
        ({"bias_type": None}, "field 'bias_type': expected a text, got None"),
        ({"sentences": "none"}, "field 'sentences': expected a list of objects"),
        ({"sentences": []}, "field 'sentences': expected one each of .*, got none"),
        (
            {"sentences": [{"sentence": "x", "gold_label": "other"}]},
            "field 'gold_label': expected one of stereotype, anti-stereotype, unrelated, got 'oth",
        ),
        (
            {"sentences": [{"sentence": "x", "gold_label": "unrelated"}] * 3},
            "field 'sentences': expected one each of .*, got unrelated, unrelated, unrelated",
        ),
        (
            {"sentences": [{"sentence": 3, "gold_label": "unrelated"}]},
            "field 'sentence': expected a text, got 3",
        ),
    ],
)
def test_a_malformed_item_names_part_number_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_set(tmp_path, [item(), {**item(), **change}])
    with pytest.raises(InterpError, match=rf"dev\.json, intrasentence item 2, {message}"):
        read_stereoset(path)


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    for content, message in (
        ("{\n]", "line 2: not valid JSON"),
        ("[]", "field 'data': expected an object"),
        ('{"data": {}}', "field 'intrasentence': expected a list of items"),
        ('{"data": {"intrasentence": [1]}}', "intrasentence item 1: expected an object, got 1"),
    ):
        path.write_text(content)
        with pytest.raises(InterpError, match=message):
            read_stereoset(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InterpError, match="not UTF-8"):
        read_stereoset(path)


@pytest.mark.dataset
def test_the_published_file_gives_as_many_texts_as_the_docstring_says() -> None:
    folder = fetch_dataset("stereoset")
    for part, count in (("intrasentence", 4212), ("intersentence", 4246)):
        texts = read_stereoset(folder, part=part)  # type: ignore[arg-type]
        assert len(texts) == count
        labels = defaultdict(Counter[int])
        for text in texts:
            labels[text.group][text.label] += 1
        assert all(count[0] == count[1] for count in labels.values())
        assert Counter(group.split("/")[0] for group in labels) == {
            "race": 36,
            "profession": 30,
            "gender": 10,
            "religion": 3,
        }
    assert not any("BLANK" in text.text for text in read_stereoset(folder))
