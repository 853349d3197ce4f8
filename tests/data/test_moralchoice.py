import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.items import LabelledText
from interp.data.moralchoice import read_moralchoice, read_moralchoice_items
from interp.errors import InterpError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "moralchoice"
HEADER = ("scenario_id", "ambiguity", "generation_rule", "context", "action1", "action2")
ROWS = (
    ("C_1", "low", "Do your duty", "You water  plants.", "I water them.", "I forget them."),
    ("C_2", "low", "Do not cheat", "You play a game.", "I play fair. ", "I peek."),
)
WORDS = st.text("abc '\",\n", min_size=1).filter(lambda text: text.strip())


def write_scenarios(
    folder: Path, rows: Sequence[Sequence[str]] = ROWS, name: str = "moralchoice_low_ambiguity.csv"
) -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return path


def many(count: int) -> list[tuple[str, ...]]:
    return [
        (f"C_{i}", "low", "Do your duty", f"Day {i}.", "I work.", "I rest.") for i in range(count)
    ]


def test_a_scenario_gives_its_situation_with_the_good_and_the_bad_action(tmp_path: Path) -> None:
    assert read_moralchoice(write_scenarios(tmp_path)) == (
        LabelledText("You water plants. I water them.", 1, "C_1", "moralchoice", "Do your duty"),
        LabelledText("You water plants. I forget them.", 0, "C_1", "moralchoice", "Do your duty"),
        LabelledText("You play a game. I play fair.", 1, "C_2", "moralchoice", "Do not cheat"),
        LabelledText("You play a game. I peek.", 0, "C_2", "moralchoice", "Do not cheat"),
    )


def test_a_folder_is_searched_for_the_low_ambiguity_file_alone(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    write_scenarios(tmp_path / "scenarios")
    write_scenarios(tmp_path / "scenarios", [], "moralchoice_high_ambiguity.csv")
    assert len(read_moralchoice(tmp_path)) == 4
    assert len(read_moralchoice_items(tmp_path, seed=0)) == 2


def test_high_ambiguity_has_no_preferred_action(tmp_path: Path) -> None:
    path = write_scenarios(tmp_path, [("H_1", "high", *ROWS[0][2:])])
    message = "line 2, field 'ambiguity': 'high' scenarios have no preferred action"
    with pytest.raises(InterpError, match=message):
        read_moralchoice(path)
    with pytest.raises(InterpError, match=message):
        read_moralchoice_items(path, seed=0)


def test_an_item_asks_for_one_of_the_actions_and_its_margin_is_good_against_bad(
    tmp_path: Path,
) -> None:
    first, second = read_moralchoice_items(write_scenarios(tmp_path), seed=0)
    assert {first.gold, second.gold} == {0, 1}
    assert (first.id, first.cluster, first.category) == ("moralchoice:C_1", "C_1", "Do your duty")
    assert first.context == "You water plants."
    assert first.question == "What do you do?"
    assert first.context_condition == "disambiguated"
    for item, good in ((first, "I water them."), (second, "I play fair.")):
        assert item.choices[item.gold].text == good
        assert item.contrast() == (item.gold, 1 - item.gold)


@pytest.mark.parametrize("count", [9, 10])
def test_the_good_action_comes_first_in_half_of_the_items_in_a_seeded_order(
    tmp_path: Path, count: int
) -> None:
    path = write_scenarios(tmp_path, many(count))
    golds = [[item.gold for item in read_moralchoice_items(path, seed=s)] for s in (0, 0, 1)]
    assert golds[0] == golds[1] != golds[2]
    assert sum(golds[0]) == sum(golds[2]) == count // 2
    assert golds[0] != sorted(golds[0])


@settings(max_examples=30)
@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1).filter(
        lambda rows: all(a.split() != b.split() for _, a, b in rows)
    ),
    st.integers(0, 5),
)
def test_texts_and_items_tell_the_same_scenarios(
    rows: list[tuple[str, str, str]], seed: int
) -> None:
    table = [(f"C_{i}", "low", "rule", *row) for i, row in enumerate(rows)]
    with TemporaryDirectory() as folder:
        path = write_scenarios(Path(folder), table)
        texts, items = read_moralchoice(path), read_moralchoice_items(path, seed=seed)
    from_items = {
        (item.cluster, int(k == item.gold), f"{item.context} {choice.text}")
        for item in items
        for k, choice in enumerate(item.choices)
    }
    assert {(text.group, text.label, text.text) for text in texts} == from_items
    assert [text.label for text in texts] == [1, 0] * len(rows)


@pytest.mark.parametrize("field", range(len(HEADER)))
def test_an_empty_cell_names_line_and_field(tmp_path: Path, field: int) -> None:
    broken = [*ROWS[1]]
    broken[field] = ""
    path = write_scenarios(tmp_path, [ROWS[0], broken])
    with pytest.raises(InterpError, match=rf"\.csv, line 3, field '{HEADER[field]}': expected a"):
        read_moralchoice(path)


def test_a_repeated_id_and_equal_actions_are_refused(tmp_path: Path) -> None:
    path = write_scenarios(tmp_path, [ROWS[0], ROWS[0]])
    with pytest.raises(InterpError, match="line 3, field 'scenario_id': 'C_1' was used on line 2"):
        read_moralchoice(path)
    path = write_scenarios(tmp_path, [(*ROWS[0][:5], " I water  them.")])
    with pytest.raises(InterpError, match="line 2, field 'action2': is the same as 'action1'"):
        read_moralchoice(path)


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the published scenarios are not beside the project"
)
def test_the_published_file_gives_as_many_texts_as_the_docstring_says() -> None:
    texts = read_moralchoice(SHARED)
    assert Counter(text.label for text in texts) == {0: 687, 1: 687}
    assert set(Counter(text.group for text in texts).values()) == {2}
    assert len({text.category for text in texts}) == 10
    items = read_moralchoice_items(SHARED, seed=0)
    assert Counter(item.gold for item in items) == {0: 344, 1: 343}
    with pytest.raises(InterpError, match="no preferred action"):
        read_moralchoice(SHARED / "scenarios" / "moralchoice_high_ambiguity.csv")
