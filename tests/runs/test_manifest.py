from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InterpError
from interp.runs import manifest as manifests
from interp.runs import read_manifest


def an_identity(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "study": "lens",
        "config": {"limit": 48},
        "model": {"name": "tiny"},
        "data": {"bbq": "ab"},
        "seed": 0,
        "threads": 2,
    }
    return manifests.identity(**{**given, **changes})


def started(folder: Path) -> dict[str, Any]:
    return manifests.begin(folder, an_identity(), command="interp demo", previous=None)


def test_the_identity_holds_the_installed_versions_of_what_makes_the_numbers() -> None:
    packages = an_identity()["packages"]
    for name in ("torch", "transformers", "transformer-lens", "numpy"):
        assert packages[name] == metadata.version(name)


def test_the_identity_holds_the_version_of_the_code_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "__version__", "9.9")  # an editable install says another one
    assert an_identity()["packages"]["interp-workbench"] == "9.9"
    assert started(tmp_path)["created_by"] == "interp-workbench 9.9"


def test_a_package_that_is_not_installed_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "COMPARED_PACKAGES", ("no-such-package-anywhere",))
    assert an_identity()["packages"] == {"no-such-package-anywhere": None}


def test_a_written_manifest_reads_back_equal_and_ends_in_a_newline(tmp_path: Path) -> None:
    manifest = started(tmp_path)
    manifests.write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes().endswith(b"}\n")


def test_a_session_left_running_is_found_killed_by_the_next(tmp_path: Path) -> None:
    first = started(tmp_path)
    second = manifests.begin(tmp_path, an_identity(), command="again", previous=first)
    assert [session["status"] for session in second["sessions"]] == ["killed", "running"]
    assert second["command"] == "again"
    manifests.end(second, "complete", None)
    assert second["status"] == second["sessions"][-1]["status"] == "complete"
    assert "error" not in second["sessions"][-1]


def test_an_equal_identity_is_accepted_and_the_command_and_folder_do_not_count(
    tmp_path: Path,
) -> None:
    manifest = started(tmp_path)
    manifests.refuse_other_identity(Path("elsewhere"), manifest, an_identity(), ignore=())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": {"limit": 60}}, "config.limit was 48, is now 60"),
        ({"config": {"limit": 48.0}}, "config.limit was 48, is now 48.0"),
        ({"model": {"name": "small"}}, 'model.name was "tiny", is now "small"'),
        ({"data": {"bbq": "cd"}}, 'data.bbq was "ab", is now "cd"'),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"threads": 4}, "threads was 2, is now 4 (OMP_NUM_THREADS sets them)"),
    ],
)
def test_another_identity_is_refused_in_one_line_that_names_the_difference(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InterpError) as caught:
        manifests.refuse_other_identity(
            Path("runs/demo"), started(tmp_path), an_identity(**changes), ignore=()
        )
    assert str(caught.value) == f"runs/demo: {expected}: choose another --out or delete the folder"


def test_another_version_of_torch_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = started(tmp_path)
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "9.9.9" if name == "torch" else real(name)
    )
    with pytest.raises(InterpError, match=r'packages\.torch was "[^"]+", is now "9\.9\.9"'):
        manifests.refuse_other_identity(tmp_path, manifest, an_identity(), ignore=())


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ('{"format": "interp-run/2", "con', "is not JSON"),
        ("[]", "is not a manifest of format interp-run/2"),
        ('{"format": "other"}', "is not a manifest of format interp-run/2"),
        (json.dumps({"format": "interp-run/2", "config": {}}), "lacks study, model, data, seed"),
    ],
)
def test_a_file_that_is_not_our_manifest_is_refused(
    tmp_path: Path, text: str, trouble: str
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InterpError, match=rf"manifest\.json: {trouble}"):
        read_manifest(tmp_path)


def test_a_missing_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path)


def test_rules_are_part_of_the_identity_and_older_folders_have_none(tmp_path: Path) -> None:
    begun = manifests.begin(tmp_path, an_identity(rules={"delta": 0.1}), command="", previous=None)
    assert begun["rules"] == {"delta": 0.1}
    with pytest.raises(InterpError, match="rules"):
        manifests.refuse_other_identity(tmp_path, begun, an_identity(), ignore=())
    older = {name: value for name, value in begun.items() if name != "rules"}
    manifests.write_manifest(tmp_path, older)
    assert manifests.read_manifest(tmp_path)["rules"] == {}
