import json
from pathlib import Path
from typing import Any

import pytest

from interp.data import load
from interp.data.bundle import bundled_choices
from interp.data.load import load_items, load_texts
from interp.errors import InterpError


def write_bbq(folder: Path, categories: tuple[str, ...] = ("Pets", "Plants")) -> Path:
    """A folder in BBQ's layout: per category four mild items in two clusters."""
    data = folder / "data"
    data.mkdir(parents=True)
    facts = ["category,example_id,target_loc,label_type"]
    for category in categories:
        rows = []
        for i in range(4):
            facts.append(f"{category},{i},0,label")
            rows.append(
                {
                    "example_id": i,
                    "question_index": str(i // 2),
                    "question_polarity": "neg",
                    "context_condition": ("ambig", "disambig")[i % 2],
                    "answer_info": {
                        "ans0": ["a", "A"],
                        "ans1": ["b", "B"],
                        "ans2": ["?", "unknown"],
                    },
                    "context": "Two owners met.",
                    "question": "Who was late?",
                    "ans0": "The first",
                    "ans1": "The second",
                    "ans2": "Not known",
                    "label": (2, 0)[i % 2],
                }
            )
        (data / f"{category}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "additional_metadata.csv").write_text("\n".join(facts) + "\n")
    return folder


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the catalogue's BBQ."""
    folder = write_bbq(tmp_path / "fetched")
    monkeypatch.setattr(load, "fetch_dataset", lambda name, *, progress: folder)
    return folder


def ids(items: Any) -> list[str]:
    return [item.id for item in items]


def test_a_benchmark_name_gives_every_item_in_file_order(fetched: Path) -> None:
    expected = [f"bbq:{category}/{i}" for category in ("Pets", "Plants") for i in range(4)]
    assert ids(load_items("bbq")) == expected


def test_categories_can_be_given_alone_with_commas_or_as_a_list(fetched: Path) -> None:
    assert {item.category for item in load_items("bbq:Pets")} == {"Pets"}
    both = load_items("bbq:Plants,bbq:Pets")
    assert ids(both)[0] == "bbq:Plants/0"
    assert load_items(["bbq:Plants", "bbq:Pets"]) == both


def test_an_unknown_category_gets_the_close_match(fetched: Path) -> None:
    with pytest.raises(InterpError, match="BBQ has no category 'Pet'; did you mean 'Pets'"):
        load_items("bbq:Pet")
    with pytest.raises(InterpError, match="did you mean 'Pets'"):
        load_items("bbq:pets")


def test_items_that_come_twice_are_refused(fetched: Path) -> None:
    with pytest.raises(InterpError, match="item 'bbq:Pets/0' comes twice"):
        load_items("bbq,bbq:Pets")


def test_one_context_condition_can_be_kept(fetched: Path) -> None:
    items = load_items("bbq", context_condition="ambiguous")
    assert len(items) == 4
    assert {item.context_condition for item in items} == {"ambiguous"}


def test_a_limit_draws_the_same_sample_for_the_same_seed(fetched: Path) -> None:
    first = load_items("bbq", limit=4, seed=1)
    assert len(first) == 4
    assert load_items("bbq", limit=4, seed=1) == first
    assert {item.category for item in first} == {"Pets", "Plants"}


def test_a_local_folder_in_the_layout_of_bbq_is_read(tmp_path: Path) -> None:
    folder = write_bbq(tmp_path / "mine", ("Pets",))
    assert len(load_items(folder)) == 4
    assert load_items(str(folder)) == load_items(folder)


def test_a_jsonl_file_of_items_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "q?", "choices": [{"text": "x"}, {"text": "y"}], "gold": 0}\n')
    assert ids(load_items(path)) == ["mine:1"]
    assert load_items(str(path)) == load_items(path)


def test_the_bundled_items_need_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "fetch_dataset", lambda *_, **__: pytest.fail("fetched"))
    assert load_items("bundled") == load_items("bundled:choices") == bundled_choices()


def test_a_catalogue_name_without_reader_says_that_it_can_be_fetched() -> None:
    with pytest.raises(InterpError, match=r"'crows-pairs' can be fetched .* but has no reader"):
        load_items("crows-pairs")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bqb", "'bqb' is neither a path nor a data set; did you mean 'bbq'"),
        ("bundle", "did you mean 'bundled'"),
        ("bundled:text", "no bundled items are called 'text'"),
        ("nowhere/items.jsonl", r"nowhere/items\.jsonl: no such file"),
        (Path("nowhere"), "nowhere: no such file"),
        ([], "an empty list: holds no items"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_clear_line(name: Any, message: str) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        load_items(name)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("text\n")
    with pytest.raises(InterpError, match=r"choice items are read from a \.jsonl file"):
        load_items(tmp_path / "items.csv")
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(InterpError, match=r"none\.jsonl: holds no items"):
        load_items(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["bundled:morality", "bundled:statements"])
def test_bundled_texts_are_found_by_name(name: str) -> None:
    texts = load_texts(name)
    assert {text.label for text in texts} == {0, 1}


def test_one_of_the_bundled_contrasts_is_found_by_its_two_part_name() -> None:
    assert len(load_texts("bundled:contrasts:tense")) > 0


def test_texts_come_from_a_table_with_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("sentence,kind,pair\none,good,a\ntwo,bad,a\n")
    texts = load_texts(path, text="sentence", label="kind", group="pair", positive="good")
    assert [(text.text, text.label, text.group) for text in texts] == [
        ("one", 1, "a"),
        ("two", 0, "a"),
    ]


def test_a_benchmark_of_items_has_no_labelled_texts() -> None:
    with pytest.raises(InterpError, match="'bbq:Age' has no labelled texts"):
        load_texts("bbq:Age")


@pytest.mark.dataset
def test_a_sample_of_bbq_holds_few_items_per_cluster_and_every_category() -> None:
    items = load_items("bbq", limit=44, seed=0)
    assert len(items) == 44
    assert len({item.category for item in items}) == 11
    assert sum(item.context_condition == "ambiguous" for item in items) == 22
    assert sum(item.meta["polarity"] == "neg" for item in items) == 22
    assert all(item.contrast() is not None for item in items)
