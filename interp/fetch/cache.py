"""The cache folder: where it is, its locks, its work folders, and the check of a hash."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from interp.errors import InterpError


class FetchError(InterpError):
    """Something could not be fetched, or the cache could not be written."""


class HashMismatchError(FetchError):
    """A fetched file is not the pinned one; nothing of it was kept."""


def cache_root() -> Path:
    """The cache folder: ``$INTERP_CACHE``, or ``~/.cache/interp``. Not created here.

    Raises:
        FetchError: there is no home directory.
    """
    named = os.environ.get("INTERP_CACHE")
    try:
        return Path(named).expanduser().resolve() if named else Path.home() / ".cache" / "interp"
    except RuntimeError as error:
        raise FetchError(
            f"no home directory for the cache ({error}): set INTERP_CACHE to a folder"
        ) from error


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def work_folder(key: str) -> Iterator[Path]:
    """An empty folder inside the cache, held under the lock ``key`` and removed at the end.

    Build something in it, check it, and rename it into its place in the cache (one file system, so
    the rename is atomic). Two processes with the same key take turns; look into the cache again
    after entering. An ``OSError`` inside (full disk, no permission) becomes a one-line
    `FetchError`.
    """
    root = cache_root()
    slug = re.sub(r"[^A-Za-z0-9._=-]+", "-", key)
    folder = root / "work" / slug
    try:
        (root / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(root / "locks" / f"{slug}.lock"):
            shutil.rmtree(folder, ignore_errors=True)  # a killed process cannot clean up
            folder.mkdir(parents=True)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise FetchError(_os_error_line(error, root)) from error


def require_hash(path: Path, expected: str, *, name: str) -> None:
    """Raise `HashMismatchError`, naming the file, when its bytes are not the expected ones."""
    got = sha256_of(path)
    if got != expected:
        raise HashMismatchError(
            f"{name}: wrong SHA-256: expected {expected}, got {got} ({path.stat().st_size} bytes). "
            "Nothing was kept. Fetch it again; if it stays wrong, the source serves another file"
        )


def _os_error_line(error: OSError, root: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for the cache {root}: free some, or set INTERP_CACHE to another disk"
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    return f"cannot use the cache {root} ({what}): mend it, or set INTERP_CACHE to another folder"
