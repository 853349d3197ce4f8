import json
from pathlib import Path

import pytest

from interp.data import load
from interp.data.bundle import bundled_completions
from interp.data.load import is_completions, load_completions
from interp.errors import InterpError


def write_prompts(path: Path, count: int = 9) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"Day {i} was"}) + "\n" for i in range(count)))
    return path


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for any data set of the catalogue."""
    write_prompts(tmp_path / "prompts.jsonl", 3)
    monkeypatch.setattr(load, "fetch_dataset", lambda name, *, progress: tmp_path)
    return tmp_path


def test_the_bundled_prompts_need_no_download() -> None:
    assert load_completions("bundled") == load_completions("bundled:completions")
    assert load_completions("bundled") == bundled_completions()


@pytest.mark.parametrize("name", ["rtp-993", "real-toxicity-prompts"])
def test_a_benchmark_name_fetches_and_a_path_behind_it_does_not(
    fetched: Path, tmp_path: Path, name: str
) -> None:
    assert [item.prompt for item in load_completions(name)] == [f"Day {i} was" for i in range(3)]
    (tmp_path / "mine").mkdir()
    own = write_prompts(tmp_path / "mine" / "prompts.jsonl", 5)
    assert len(load_completions(f"{name}:{own}")) == len(load_completions(f"{name}:{own.parent}"))
    assert len(load_completions(f"{name}:{own}")) == 5


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = write_prompts(tmp_path / "mine.jsonl")
    assert load_completions(path) == load_completions(str(path))
    assert [item.id for item in load_completions(path)] == [f"mine:{i}" for i in range(1, 10)]


def test_a_limit_draws_with_the_seed_and_smaller_limits_begin_larger_ones(tmp_path: Path) -> None:
    path = write_prompts(tmp_path / "mine.jsonl", 30)
    drawn = load_completions(path, limit=12, seed=3)
    assert drawn == load_completions(path, limit=12, seed=3)
    assert drawn[:5] == load_completions(path, limit=5, seed=3)
    assert drawn != load_completions(path, limit=12, seed=4)
    assert len({item.id for item in drawn}) == 12
    assert len(load_completions(path, limit=99)) == 30
    with pytest.raises(InterpError, match="limit must be at least 1, is 0"):
        load_completions(path, limit=0)


@pytest.mark.parametrize("name", ["bbq", "bundled:choices", "winogender"])
def test_a_data_set_without_prompts_says_which_ones_have_some(name: str) -> None:
    message = f"{name!r} has no prompts to complete; they come from rtp-993, real-toxicity-prompts"
    with pytest.raises(InterpError, match=message):
        load_completions(name)


def test_a_misspelt_name_an_absent_file_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="did you mean 'rtp-993'"):
        load_completions("rtp993")
    with pytest.raises(InterpError, match="no such file"):
        load_completions("absent.jsonl")
    with pytest.raises(InterpError, match="holds no prompt to complete"):
        load_completions(write_prompts(tmp_path / "empty.jsonl", 0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rtp-993", True),
        ("real-toxicity-prompts", True),
        ("real-toxicity-prompts:prompts.jsonl", True),
        ("bundled:completions", True),
        ("bundled", False),
        ("bundled:choices", False),
        ("bundled:morality", False),
        ("bbq", False),
        ("bbq:Age", False),
        ("winogender", False),
        ("moralchoice", False),
    ],
)
def test_named_sets_are_of_one_kind(name: str, expected: bool) -> None:
    assert is_completions(name) is expected


def test_a_file_is_of_the_kind_of_its_rows(tmp_path: Path) -> None:
    begun = write_prompts(tmp_path / "begun.jsonl")
    chosen = tmp_path / "chosen.jsonl"
    chosen.write_text(json.dumps({"question": "Who?", "choices": [], "gold": 0}) + "\n")
    for path, expected in ((begun, True), (chosen, False)):
        assert is_completions(path) is is_completions(str(path)) is expected
    table = tmp_path / "texts.csv"
    table.write_text("text,label\na,1\n")
    assert not is_completions(table)


def test_a_folder_is_of_the_kind_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "rtp").mkdir()
    write_prompts(tmp_path / "rtp" / "prompts.jsonl")
    (tmp_path / "BBQ" / "data").mkdir(parents=True)
    assert is_completions(tmp_path / "rtp")
    assert load_completions(tmp_path / "rtp")
    assert not is_completions(tmp_path / "BBQ")


def test_what_is_nowhere_is_no_completion_set_and_a_misspelt_name_is_refused(
    tmp_path: Path,
) -> None:
    assert not is_completions(tmp_path / "none.jsonl")
    assert not is_completions("none.jsonl")
    with pytest.raises(InterpError, match="neither a path nor a data set; did you mean 'rtp-993'"):
        is_completions("rpt-993")


def test_a_file_that_is_no_json_is_refused_where_its_kind_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("{")
    with pytest.raises(InterpError, match=r"broken\.jsonl, line 1"):
        is_completions(path)
