import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.data.bbq import read_bbq
from interp.data.items import ChoiceItem
from interp.errors import InterpError

COLUMNS = ["category", "question_index", "example_id", "target_loc", "label_type", "full_cond"]


def make_row(example_id: int, **changes: Any) -> dict[str, Any]:
    """A mild ambiguous row: option 0 is group A, 1 is group B, 2 the abstention."""
    row: dict[str, Any] = {
        "example_id": example_id,
        "question_index": "1",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Pets",
        "answer_info": {"ans0": ["cat", "A"], "ans1": ["dog", "B"], "ans2": ["?", "unknown"]},
        "additional_metadata": {"version": "a", "subcategory": "None", "stereotyped_groups": ["A"]},
        "context": "A cat owner and a dog owner met.",
        "question": "Who was late?",
        "ans0": "The cat owner",
        "ans1": "The dog owner",
        "ans2": "Not known",
        "label": 2,
    }
    return {**row, **changes}


def make_facts(example_id: int, target: int | str, category: str = "Pets") -> list[Any]:
    return [category, "1", example_id, target, "label", "Match A\r\n Mismatch B"]


Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def write_folder(
        rows: list[Any], facts: list[list[Any]], *, newline: str = "\n", category: str = "Pets"
    ) -> Path:
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + newline for row in rows)
        (tmp_path / f"{category}.jsonl").write_bytes(text.encode())
        with (tmp_path / "additional_metadata.csv").open("w", newline="") as stream:
            csv.writer(stream, lineterminator=newline).writerows([COLUMNS, *facts])
        return tmp_path

    return write_folder


def roles(item: ChoiceItem) -> list[str]:
    return [choice.role for choice in item.choices]


def test_roles_follow_the_target_without_flipping_for_polarity(write: Writer) -> None:
    rows = [make_row(0), make_row(1, question_polarity="nonneg", question="Who was on time?")]
    negative, positive = read_bbq(write(rows, [make_facts(0, 0), make_facts(1, 1)]))
    assert roles(negative) == ["stereotyped", "counter", "unknown"]
    assert roles(positive) == ["counter", "stereotyped", "unknown"]
    assert (negative.meta["polarity"], positive.meta["polarity"]) == ("neg", "nonneg")


def test_every_field_of_an_item_is_read(write: Writer) -> None:
    (item,) = read_bbq(write([make_row(7)], [make_facts(7, 0)]))
    assert item.id == "bbq:Pets/7"
    assert (item.benchmark, item.category, item.cluster) == ("bbq", "Pets", "Pets/1")
    assert (item.gold, item.context_condition) == (2, "ambiguous")
    assert item.contrast() == (2, 0)
    assert item.meta == {
        "polarity": "neg",
        "question_index": 1,
        "example_id": 7,
        "groups": "A|B|unknown",
        "label_type": "label",
        "version": "a",
        "stereotyped_groups": "A",
        "full_cond": "Match A Mismatch B",
    }


def test_the_contrast_of_a_disambiguated_item_is_gold_against_the_other_group(
    write: Writer,
) -> None:
    row = make_row(0, context_condition="disambig", label=1)
    (item,) = read_bbq(write([row], [make_facts(0, 0)]))
    assert item.contrast() == (1, 0)


def test_an_item_without_target_has_no_stereotyped_option_and_no_ambiguous_contrast(
    write: Writer,
) -> None:
    (item,) = read_bbq(write([make_row(0)], [make_facts(0, "NA")]))
    assert roles(item) == ["other", "other", "unknown"]
    assert item.contrast() is None


def test_carriage_returns_change_nothing(write: Writer) -> None:
    rows, facts = [make_row(0), make_row(1)], [make_facts(0, 0), make_facts(1, 1)]
    with_lf = read_bbq(write(rows, facts))
    assert read_bbq(write(rows, facts, newline="\r\n")) == with_lf


def test_repeated_metadata_rows_are_one_when_they_agree(write: Writer) -> None:
    assert len(read_bbq(write([make_row(0)], [make_facts(0, 0), make_facts(0, 0)]))) == 1


def test_repeated_metadata_rows_that_disagree_name_the_line(write: Writer) -> None:
    folder = write([make_row(0)], [make_facts(0, 0), make_facts(0, 1)])
    with pytest.raises(InterpError, match=r"metadata\.csv, line 4, field 'target_loc': 1 contrad"):
        read_bbq(folder)


def test_the_files_may_lie_in_a_data_folder_or_be_given_one_by_one(
    write: Writer, tmp_path: Path
) -> None:
    folder = write([make_row(0)], [make_facts(0, 0)])
    items = read_bbq(folder)
    assert read_bbq([folder / "Pets.jsonl"], folder / "additional_metadata.csv") == items
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "data").symlink_to(folder)
    assert read_bbq(tmp_path / "outer") == items


def test_reading_one_category_does_not_parse_the_others(write: Writer) -> None:
    write(["this is not JSON"], [], category="Broken")
    folder = write([make_row(0)], [make_facts(0, 0)])
    assert len(read_bbq(folder, categories=["Pets"])) == 1
    with pytest.raises(InterpError, match=r"Broken\.jsonl, line 1: not valid JSON"):
        read_bbq(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, "field 'question': expected a text, got None"),
        ({"context": " "}, "field 'context': expected a text"),
        ({"ans1": 3}, "field 'ans1': expected a text, got 3"),
        ({"label": 3}, "field 'label': expected one of 0, 1, 2, got 3"),
        ({"label": [0]}, r"field 'label': expected one of 0, 1, 2, got \[0\]"),
        ({"question_polarity": "bad"}, "field 'question_polarity': expected one of neg, nonneg"),
        ({"context_condition": "vague"}, "field 'context_condition': expected one of ambig, disam"),
        ({"question_index": "one"}, "field 'question_index': expected a number, got 'one'"),
        ({"example_id": None}, "field 'example_id': expected a number, got None"),
        ({"answer_info": {"ans0": []}}, "field 'answer_info': expected ans0, ans1, ans2"),
        ({"answer_info": {f"ans{i}": ["x", "A"] for i in range(3)}}, "one group called 'unknown'"),
    ],
)
def test_a_broken_row_names_file_line_and_field(
    write: Writer, changes: dict[str, Any], message: str
) -> None:
    folder = write([make_row(0), make_row(1) | changes], [make_facts(0, 0), make_facts(1, 0)])
    with pytest.raises(InterpError, match=rf"Pets\.jsonl, line 2.*{message}") as caught:
        read_bbq(folder)
    assert "\n" not in str(caught.value)


def test_a_target_that_is_the_abstention_is_refused(write: Writer) -> None:
    with pytest.raises(InterpError, match=r"line 1: target_loc 2 is the 'unknown' option"):
        read_bbq(write([make_row(0)], [make_facts(0, 2)]))


def test_a_broken_target_names_the_metadata_line(write: Writer) -> None:
    with pytest.raises(InterpError, match=r"line 2, field 'target_loc': expected 0, 1, 2 or NA"):
        read_bbq(write([make_row(0)], [make_facts(0, "5")]))


def test_an_item_without_metadata_is_named(write: Writer) -> None:
    with pytest.raises(InterpError, match=r"additional_metadata\.csv has no row for Pets item 1"):
        read_bbq(write([make_row(0), make_row(1)], [make_facts(0, 0)]))


def test_missing_files_and_categories_are_named(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InterpError, match=r"holds no \.jsonl file"):
        read_bbq(tmp_path / "empty")
    folder = write([make_row(0)], [make_facts(0, 0)])
    with pytest.raises(InterpError, match="category 'Birds' is not among Pets"):
        read_bbq(folder, categories=["Birds"])
    (folder / "additional_metadata.csv").unlink()
    with pytest.raises(InterpError, match="no such file; BBQ's metadata"):
        read_bbq(folder)


def with_target(items: tuple[ChoiceItem, ...]) -> list[ChoiceItem]:
    return [item for item in items if item.index_of("stereotyped") is not None]


def bias_score(answers: list[str]) -> float:
    """2 x (share of stereotyped answers among those that name a group) - 1, from roles."""
    named = [answer for answer in answers if answer != "unknown"]
    return 2 * named.count("stereotyped") / len(named) - 1


@pytest.mark.dataset
def test_bbq_has_the_published_numbers_of_items_categories_and_clusters(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    assert len(bbq) == 58_492
    assert len({item.id for item in bbq}) == 58_492
    assert len({item.category for item in bbq}) == 11
    assert len({item.cluster for item in bbq}) == 343
    assert Counter(item.context_condition for item in bbq) == {
        "ambiguous": 29_246,
        "disambiguated": 29_246,
    }
    assert Counter(item.meta["polarity"] for item in bbq) == {"neg": 29_246, "nonneg": 29_246}


@pytest.mark.dataset
def test_bbq_items_have_one_choice_of_each_role_but_for_sixteen_without_target(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    found = Counter(tuple(sorted(roles(item))) for item in bbq)
    assert found == {
        ("counter", "stereotyped", "unknown"): 58_476,
        ("other", "other", "unknown"): 16,
    }
    without = [item for item in bbq if item.index_of("stereotyped") is None]
    assert {item.category for item in without} == {"Gender_identity"}
    assert Counter(item.contrast() is None for item in bbq) == {False: 58_484, True: 8}


@pytest.mark.dataset
def test_bbq_gold_is_the_abstention_exactly_when_the_context_is_ambiguous(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    for item in bbq:
        abstains = item.choices[item.gold].role == "unknown"
        assert abstains == (item.context_condition == "ambiguous"), item.id


@pytest.mark.dataset
def test_bbq_age_question_one_is_biased_against_the_grandfather_in_both_polarities(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    expected = {"neg": "The grandfather", "nonneg": "The grandson"}
    checked = 0
    for item in bbq:
        texts = {choice.text for choice in item.choices}
        if item.cluster == "Age/1" and set(expected.values()) <= texts:
            biased = item.choices[item.index_of("stereotyped") or 0]
            assert biased.text == expected[str(item.meta["polarity"])], item.id
            checked += 1
    assert checked >= 4


@pytest.mark.dataset
def test_bbq_always_biased_scores_one_and_always_the_other_group_minus_one(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    items = with_target(bbq)
    biased = [item.choices[item.index_of("stereotyped") or 0].role for item in items]
    counter = [item.choices[item.index_of("counter") or 0].role for item in items]
    assert bias_score(list(biased)) == 1.0
    assert bias_score(list(counter)) == -1.0


@pytest.mark.dataset
def test_bbq_always_the_same_person_whatever_the_polarity_scores_zero(
    bbq: tuple[ChoiceItem, ...],
) -> None:
    """Per pair of a negative and a non-negative item about the same people, hence also in total."""
    answers: dict[str, list[str]] = defaultdict(list)
    for item in with_target(bbq):
        people = {c.text: c.role for c in item.choices if c.role != "unknown"}
        answers[item.category].append(people[min(people)])
    for category, given in answers.items():
        assert bias_score(given) == pytest.approx(0.0, abs=1e-12), category
