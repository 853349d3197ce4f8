import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.items import CompletionItem
from interp.data.load import load_completions
from interp.data.real_toxicity import RTP, read_completions
from interp.errors import InterpError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "realtoxicityprompts"
NESTED = {
    "prompt": {"text": "The soup was", "toxicity": 0.1, "insult": 0.2},
    "continuation": {"text": " cold.", "toxicity": 0.25, "insult": 0.1},
    "challenging": False,
    "filename": "a.txt",
}
FLAT = {"text": "The soup was", "toxicity": 0.1, "insult": 0.2}


def write(folder: Path, *rows: Any, name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_published_row_gives_its_prompt_and_both_toxicities(tmp_path: Path) -> None:
    assert read_completions(write(tmp_path, NESTED)) == (
        CompletionItem(
            "prompts:1",
            RTP,
            "The soup was",
            {"prompt_toxicity": 0.1, "continuation_toxicity": 0.25, "challenging": False},
        ),
    )


def test_a_flat_row_is_a_prompt_with_its_own_toxicity(tmp_path: Path) -> None:
    assert read_completions(write(tmp_path, FLAT, name="test.jsonl")) == (
        CompletionItem("test:1", RTP, "The soup was", {"prompt_toxicity": 0.1}),
    )


def test_an_own_row_may_have_an_id_and_facts(tmp_path: Path) -> None:
    own = {"id": "soup", "prompt": "The soup was", "meta": {"kind": "food", "n": 2}}
    assert read_completions(write(tmp_path, own, {"prompt": "It rained"}, name="mine.jsonl")) == (
        CompletionItem("soup", "mine", "The soup was", {"kind": "food", "n": 2}),
        CompletionItem("mine:2", "mine", "It rained"),
    )


def test_scores_that_the_authors_had_not_are_left_out(tmp_path: Path) -> None:
    row = {"prompt": {"text": "It", "toxicity": None}, "continuation": {"toxicity": None}}
    (item,) = read_completions(write(tmp_path, row))
    assert item.meta == {}


def test_a_folder_holds_the_published_file_or_the_small_one(tmp_path: Path) -> None:
    write(tmp_path, FLAT, name="test.jsonl")
    assert read_completions(tmp_path)[0].id == "test:1"
    write(tmp_path, NESTED)
    assert read_completions(tmp_path)[0].id == "prompts:1"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1).filter(lambda text: text.strip()), st.none() | st.floats(0, 1)
        ),
        min_size=1,
    )
)
def test_both_published_shapes_tell_the_same_prompts(
    rows: list[tuple[str, float | None]],
) -> None:
    scored = [{"text": text, "toxicity": toxicity} for text, toxicity in rows]
    with TemporaryDirectory() as folder:
        flat = read_completions(write(Path(folder), *scored))
        nested = read_completions(write(Path(folder), *[{"prompt": row} for row in scored]))
    assert flat == nested
    assert [item.prompt for item in flat] == [text.strip() for text, _ in rows]
    assert [item.meta.get("prompt_toxicity") for item in flat] == [score for _, score in rows]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "has neither a field 'prompt' nor a field 'text'"),
        ({"prompt": {}}, "field 'prompt.text': expected a text, got None"),
        ({"prompt": " "}, "field 'prompt': expected a text, got ' '"),
        ({"text": 3}, "field 'text': expected a text, got 3"),
        ({"text": "a", "toxicity": 1.5}, "field 'toxicity': expected a number in 0..1"),
        ({"text": "a", "toxicity": True}, "field 'toxicity': expected a number in 0..1"),
        ({"prompt": {"text": "a", "toxicity": "x"}}, "field 'prompt.toxicity': expected a number"),
        (
            {"prompt": {"text": "a"}, "continuation": {"toxicity": -1}},
            "field 'continuation.toxicity': expected a number in 0..1 or null, got -1",
        ),
        ({"prompt": {"text": "a"}, "continuation": 3}, "field 'continuation': expected an object"),
        ({"prompt": {"text": "a"}, "challenging": 1}, "field 'challenging': expected true or"),
        ({"prompt": "a", "ids": "x"}, "field 'ids': unknown; a row has id, prompt, meta"),
        ({"prompt": "a", "meta": {"x": []}}, "field 'meta': expected an object of scalars"),
        ({"prompt": "a", "id": ""}, "field 'id': expected a text"),
        ({"prompt": "a", "id": "prompts:1"}, "field 'id': 'prompts:1' was used on line 1"),
        ([], "expected a JSON object"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, NESTED, row)
    with pytest.raises(InterpError, match=rf"prompts\.jsonl, line 2[,:] {message}"):
        read_completions(path)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published rows are not beside the project")
def test_the_published_parts_are_read_whole() -> None:
    toxic = read_completions(SHARED / "rtp-test-toxic-2k.jsonl")
    mild = read_completions(SHARED / "decodingtrust_nontoxic.jsonl")
    assert (len(toxic), len(mild)) == (2122, 1200)
    assert all(item.meta["prompt_toxicity"] >= 0.5 for item in toxic)
    assert sum("continuation_toxicity" not in item.meta for item in (*toxic, *mild)) == 9 + 7
    assert "challenging" in mild[0].meta


@pytest.mark.dataset
def test_the_small_part_of_the_catalogue_has_993_scored_prompts() -> None:
    items = load_completions("rtp-993", progress=False)
    assert len(items) == len({item.prompt for item in items}) == 993
    assert all(set(item.meta) == {"prompt_toxicity"} for item in items)
