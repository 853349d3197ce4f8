from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interp.errors import InterpError
from interp.runs.atomic import (
    TEMPORARY_PREFIX,
    atomic_path,
    make_folder,
    remove_leftovers,
    write_bytes,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_written_file_holds_its_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"one")
    write_bytes(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_path_is_in_the_same_folder_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "v.safetensors") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".safetensors"
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_exception_while_writing_keeps_the_old_content_and_passes_through(
    tmp_path: Path, error: BaseException
) -> None:
    def write_half(target: Path) -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"ne")
            raise error

    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    with pytest.raises(type(error)):
        write_half(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, moment, full)
    with pytest.raises(InterpError, match=r"a\.txt: cannot be written \(No space left on device\)"):
        write_bytes(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_write_that_the_system_cuts_short_leaves_no_half_written_file(tmp_path: Path) -> None:
    """A real failure half way through the bytes: the size limit of the process."""
    script = (
        "import resource, sys, pathlib\n"
        "from interp.errors import InterpError\n"
        "from interp.runs.atomic import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_bytes(pathlib.Path(sys.argv[1]), bytes(5000))\n"
        "except InterpError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.bin")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "a.bin: cannot be written (File too large)" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert names(tmp_path) == []


def test_sweep_removes_unfinished_files_at_every_depth_and_nothing_else(tmp_path: Path) -> None:
    deep = tmp_path / "parts" / "scores"
    make_folder(deep)
    for folder in (tmp_path, deep):
        (folder / f"{TEMPORARY_PREFIX}0011-x.parquet").write_bytes(b"half")
        (folder / "keep.parquet").write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["keep.parquet", "parts"]
    assert names(deep) == ["keep.parquet"]


def test_make_folder_refuses_a_file_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(InterpError, match="a: is a file, not a folder: choose another --out"):
        make_folder(tmp_path / "a")
    with pytest.raises(InterpError, match="cannot be written"):
        make_folder(tmp_path / "a" / "b")
