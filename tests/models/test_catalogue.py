from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InterpError
from interp.models import DEFAULT_MODEL, catalogue, fetch_model, model_entry, model_names


def test_default_comes_first_and_names_are_unique() -> None:
    names = model_names()
    assert names[0] == DEFAULT_MODEL
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", model_names())
def test_every_entry_is_pinned_licensed_and_has_a_source(name: str) -> None:
    entry = model_entry(name)
    assert entry.name == name
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.licence
    assert entry.sources
    assert entry.filename.endswith(".gguf")
    assert entry.quantisation.lower() in entry.filename.lower()


def test_converted_folder_lies_in_the_cache_and_is_named_by_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    entry = model_entry(DEFAULT_MODEL)
    assert entry.folder == tmp_path / "models" / f"{DEFAULT_MODEL}-{entry.sha256[:12]}"


def test_unknown_name_says_which_are_close_and_what_else_is_accepted() -> None:
    with pytest.raises(InterpError) as caught:
        model_entry("SmolLM2")
    assert str(caught.value) == (
        f"no model in the catalogue is called 'SmolLM2'; did you mean '{DEFAULT_MODEL}'? "
        "(a hub id owner/name, a folder and a .gguf file are also accepted)"
    )


def test_fetching_asks_for_the_pinned_file_and_for_mirrors_only_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch_file(name: str, sources: Any, **options: Any) -> Path:
        asked.update(name=name, sources=sources, **options)
        return tmp_path / name

    monkeypatch.setattr(catalogue, "fetch_file", fetch_file)
    entry = model_entry(DEFAULT_MODEL)
    assert fetch_model(DEFAULT_MODEL, progress=False) == tmp_path / entry.filename
    assert asked == {
        "name": entry.filename,
        "sources": entry.sources,
        "sha256": entry.sha256,
        "allow_mirrors": False,
        "progress": False,
    }
    fetch_model(DEFAULT_MODEL, allow_mirrors=True)
    assert asked["allow_mirrors"]
