"""Files that appear whole or not at all, also after a power cut, a full disk or ``kill -9``.

A file is written under a temporary name in its own folder, flushed to the disk and renamed; then
the folder is flushed, so that the new name survives too. A process that dies before the rename
leaves a temporary file, which :func:`remove_leftovers` removes, and never half a file under the
real name.

    with atomic_path(folder / "direction.safetensors") as temporary:
        direction.save(temporary)
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from interp.errors import InterpError, first_line

TEMPORARY_PREFIX = ".unfinished-"
"""How the name of a file that is still being written begins; it ends in the file's real name."""


def cannot_write(path: Path, error: OSError) -> InterpError:
    """The one line for a path the operating system would not let us write."""
    reason = error.strerror or first_line(error)
    return InterpError(
        f"{path}: cannot be written ({reason}): make room or give write access, "
        "or choose another --out"
    )


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder; it takes the place of ``path`` when the block ends well.

    If the block raises, also ``KeyboardInterrupt``, the temporary file is removed and an existing
    ``path`` keeps its content. An ``OSError`` of the block or of the flushing (full disk, missing
    permission) becomes an :class:`InterpError` that names ``path``.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically. Errors: as :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents where missing, and flush the name. Raises InterpError."""
    try:
        if folder.is_dir():
            return
        if folder.exists():
            raise InterpError(f"{folder}: is a file, not a folder: choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        _flush(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files a killed writer left in ``folder`` or below.

    Only for the one who holds the folder's lock: a living writer's file looks the same.
    """
    try:
        for leftover in folder.rglob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
