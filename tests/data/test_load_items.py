import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def write_text_benchmarks(folder: Path) -> Path:
    """One folder with the files of the four benchmarks of labelled texts, a few mild rows each."""
    folder.mkdir(parents=True)
    pairs = [f"{i},Rule {i} a.,Rule {i} b.,stereo,{'age' if i % 2 else 'pets'}" for i in range(6)]
    (folder / "crows_pairs_anonymized.csv").write_text(
        "\n".join([",sent_more,sent_less,stereo_antistereo,bias_type", *pairs])
    )
    sentences = [
        {"sentence": f"It is {gold}.", "gold_label": gold}
        for gold in ("stereotype", "anti-stereotype", "unrelated")
    ]
    items = [
        {"target": t, "bias_type": b, "context": "It is BLANK.", "sentences": sentences}
        for t, b in (("cook", "trade"), ("cook", "trade"), ("aunt", "kin"))
    ]
    (folder / "dev.json").write_text(json.dumps({"data": {"intrasentence": items}}))
    (folder / "cm_test.csv").write_text("label,input\n0,I swept the floor.\n1,I hid the broom.\n")
    scenarios = [f"C_{i},low,Rule,Day {i}.,I work.,I rest." for i in range(4)]
    (folder / "moralchoice_low_ambiguity.csv").write_text(
        "\n".join(["scenario_id,ambiguity,generation_rule,context,action1,action2", *scenarios])
    )
    return folder


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the catalogue's benchmarks of labelled texts; nothing else is fetched."""
    folder = write_text_benchmarks(tmp_path / "fetched")
    names = ("crows-pairs", "stereoset", "ethics", "moralchoice")
    fetched = dict.fromkeys(names, folder)
    monkeypatch.setattr(load, "fetch_dataset", lambda name, *, progress: fetched[name])
    return folder


@pytest.mark.parametrize(
    ("name", "count", "categories"),
    [
        ("crows-pairs", 12, {"age", "pets"}),
        ("crows-pairs:age", 6, {"age"}),
        ("stereoset", 6, {"trade", "kin"}),
        ("stereoset:kin", 2, {"kin"}),
        ("ethics", 2, {"commonsense"}),
        ("moralchoice", 8, {"Rule"}),
    ],
)
def test_a_benchmark_of_texts_is_found_by_name_and_category(
    benchmarks: Path, name: str, count: int, categories: set[str]
) -> None:
    texts = load_texts(name)
    assert len(texts) == count
    assert {text.category for text in texts} == categories
    assert {text.source for text in texts} == {name.split(":")[0]}
    assert {text.label for text in texts} == {0, 1}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("crows-pairs", "crows_pairs_anonymized.csv"),
        ("stereoset", "dev.json"),
        ("ethics", "cm_test.csv"),
        ("moralchoice", "moralchoice_low_ambiguity.csv"),
    ],
)
def test_a_local_file_or_folder_behind_the_name_needs_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    folder = write_text_benchmarks(tmp_path / "mine")
    monkeypatch.setattr(load, "fetch_dataset", lambda *_, **__: pytest.fail("fetched"))
    texts = load_texts(f"{name}:{folder / file}")
    assert len(texts) > 0
    assert load_texts(f"{name}:{folder}") == texts
    monkeypatch.chdir(tmp_path)
    assert load_texts(f"{name}:mine") == texts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crows-pairs:aeg", "no row has the category 'aeg'; did you mean 'age'"),
        ("stereoset:kn", "no row has the category 'kn'; did you mean 'kin'"),
        ("stereoset:nowhere/dev.json", r"nowhere/dev\.json: no such file or folder"),
        ("ethics:nowhere", "nowhere: no such file or folder"),
        ("moralchoice:low.csv", r"low\.csv: no such file or folder"),
        ("crows-pair", "neither a path nor a data set; did you mean 'crows-pairs'"),
        ("nowhere/texts.csv", r"nowhere/texts\.csv: no such file"),
        (Path("ethics"), "ethics: no such file"),
    ],
)
def test_a_name_of_texts_that_leads_nowhere_is_one_clear_line(
    benchmarks: Path, name: Any, message: str
) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        load_texts(name)
    assert "\n" not in str(caught.value)


def test_moralchoice_is_also_read_as_items_whose_order_follows_the_seed(benchmarks: Path) -> None:
    items = load_items("moralchoice", seed=1)
    assert ids(items) == [f"moralchoice:C_{i}" for i in range(4)]
    assert load_items(f"moralchoice:{benchmarks}", seed=1) == items
    orders = {tuple(item.gold for item in load_items("moralchoice", seed=s)) for s in range(8)}
    assert len(orders) > 1
    assert len(load_items("moralchoice", limit=3)) == 3
    assert len(load_items(["moralchoice", "bundled"])) == 4 + len(bundled_choices())
    with pytest.raises(InterpError, match="moralchoice: holds no ambiguous items"):
        load_items("moralchoice", context_condition="ambiguous")


def test_a_limit_spreads_whole_groups_over_the_categories(benchmarks: Path) -> None:
    texts = load_texts("crows-pairs", limit=9, seed=0)
    assert len(texts) == 8
    assert Counter(text.category for text in texts) == {"age": 4, "pets": 4}
    assert sum(text.label for text in texts) == 4
    assert load_texts("crows-pairs", limit=9, seed=0) == texts
    assert any(load_texts("crows-pairs", limit=9, seed=s) != texts for s in range(1, 4))


def test_a_limit_below_the_first_group_or_below_one_is_refused(benchmarks: Path) -> None:
    with pytest.raises(InterpError, match=r"limit 1 is less than the 2 texts .* give at least 2"):
        load_texts("moralchoice", limit=1)
    with pytest.raises(InterpError, match="limit must be at least 1, is 0"):
        load_texts("moralchoice", limit=0)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("text,label\n")
    with pytest.raises(InterpError, match=r"none\.csv: holds no labelled texts"):
        load_texts(path)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from("xyz")), min_size=1, max_size=12),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_under_any_limit_groups_stay_whole_and_smaller_samples_begin_larger_ones(
    groups: list[tuple[int, str]], limit: int, seed: int
) -> None:
    rows = [
        {"text": f"t{g}.{i}", "label": i % 2, "group": f"g{g}", "category": category}
        for g, (size, category) in enumerate(groups)
        for i in range(size)
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        largest = load_texts(path, limit=len(rows), seed=seed)
        try:
            texts = load_texts(path, limit=limit, seed=seed)
        except InterpError as error:
            assert "less than the" in str(error)  # noqa: PT017
            texts = ()
    assert {text.text for text in largest} == {row["text"] for row in rows}
    assert len(texts) <= limit
    assert texts == largest[: len(texts)]
    sizes = Counter(text.group for text in texts)
    assert all(sizes[group] == groups[int(group[1:])][0] for group in sizes)
    if len(texts) < len(rows):
        next_group = largest[len(texts)].group
        assert len(texts) + groups[int(next_group[1:])][0] > limit


@pytest.mark.dataset
def test_a_sample_of_bbq_holds_few_items_per_cluster_and_every_category() -> None:
    items = load_items("bbq", limit=44, seed=0)
    assert len(items) == 44
    assert len({item.category for item in items}) == 11
    assert sum(item.context_condition == "ambiguous" for item in items) == 22
    assert sum(item.meta["polarity"] == "neg" for item in items) == 22
    assert all(item.contrast() is not None for item in items)


@pytest.mark.dataset
def test_real_benchmarks_of_texts_give_balanced_samples_over_their_categories() -> None:
    texts = load_texts("crows-pairs", limit=90, seed=0)
    assert set(Counter(text.category for text in texts).values()) == {10}
    assert sum(text.label for text in texts) == 45
    texts = load_texts("stereoset", limit=480, seed=0)
    assert len({text.category for text in texts}) == 4
    assert sum(text.label for text in texts) * 2 == len(texts) > 400
    assert {text.category for text in load_texts("stereoset:religion")} == {"religion"}
