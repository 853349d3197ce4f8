"""``manifest.json``: what a run folder is a run of, and what happened to it.

The *identity* (study, config, rules, model card, data hashes, seed, thread count, versions of the
packages that make the numbers) is compared on resumption, because rows made under two identities must
not share a table. Bit-equality holds only at an equal thread count, so that counts too. Everything else
(command, folder, times, process, other versions, hashes of the files) is recorded and never
compared. Times are in the manifest alone.
"""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from interp import __version__
from interp.errors import InterpError
from interp.parsing import parse_json
from interp.runs.atomic import TEMPORARY_PREFIX, cannot_write, write_bytes
from interp.runs.canonical import Json, differences, summarise, to_json_values

MANIFEST_NAME = "manifest.json"
LOCK_NAME = ".lock"
WRITER_NAME = ".writer.json"
FORMAT = "interp-run/2"
OWN_PACKAGE = "interp-workbench"

COMPARED_PACKAGES = (
    "torch", "transformers", "transformer-lens", "numpy", "scipy", "scikit-learn", OWN_PACKAGE,
)  # fmt: skip
"""Packages whose version can change a number."""

RECORDED_PACKAGES = (
    "tokenizers", "pandas", "pyarrow", "safetensors", "plotly", "circuitsvis", "pydantic",
)  # fmt: skip
"""Packages that only read and write."""

IDENTITY = ("study", "config", "rules", "model", "data", "seed", "threads", "packages")

Status = Literal["running", "complete", "interrupted", "failed", "killed"]
"""``interrupted``: by the keyboard; ``failed``: by an exception; ``killed``: ended without
updating the manifest, as the next opening finds (until then it is ``running``)."""


def identity(
    *,
    study: str,
    config: Any,
    model: Any,
    data: Mapping[str, str],
    seed: int,
    threads: int,
    rules: Mapping[str, Any] | None = None,
) -> dict[str, Json]:
    """The compared part of a manifest. Raises InterpError for what JSON cannot hold."""
    return {
        "study": to_json_values(study, "study"),
        "config": to_json_values(config, "config"),
        "rules": to_json_values(rules or {}, "rules"),
        "model": to_json_values(model, "model"),
        "data": to_json_values(data, "data"),
        "seed": to_json_values(seed, "seed"),
        "threads": to_json_values(threads, "threads"),
        "packages": _versions(COMPARED_PACKAGES),
    }


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises InterpError if it is missing or not one of ours."""
    path = Path(folder) / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InterpError(f"{path}: cannot be read ({error.strerror}): is it a run?") from error
    except ValueError as error:
        raise _foreign(path, "is not JSON") from error
    try:
        manifest = parse_json(text, str(path), allow_nan=True)
    except InterpError as error:
        raise _foreign(path, "is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _foreign(path, f"is not a manifest of format {FORMAT}")
    # folders written before these were recorded
    manifest.setdefault("rules", {})
    manifest.setdefault("headline", "")
    missing = [name for name in (*IDENTITY, "sessions", "files") if name not in manifest]
    if missing:
        raise _foreign(path, f"lacks {', '.join(missing)}")
    return manifest


def _foreign(path: Path, trouble: str) -> InterpError:
    return InterpError(f"{path}: {trouble}: choose another --out or delete the folder")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files of somebody else, before the first of ours is written into it.

    Raises:
        InterpError: a file, a folder below one, one that holds files but no manifest, or one that cannot
            be read.
    """
    for place in (folder, *folder.parents):
        if place.is_file():
            raise InterpError(f"{place}: is a file, not a folder: choose another --out")
    try:
        if not folder.is_dir() or (folder / MANIFEST_NAME).exists():
            return
        others = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.name not in (LOCK_NAME, WRITER_NAME)
            and not entry.name.startswith(TEMPORARY_PREFIX)
        )
    except OSError as error:
        raise cannot_write(folder, error) from error
    if others:
        raise InterpError(
            f"{folder}: holds {others[0]!r} but no {MANIFEST_NAME}, so it is not a run: "
            "choose another --out"
        )


def refuse_other_identity(
    folder: Path, manifest: Mapping[str, Any], now: dict[str, Json], *, ignore: Collection[str]
) -> None:
    """Raise InterpError, naming each difference, unless the folder is a run of ``now``.

    ``now`` is the identity, or as much of it as is known already.
    """
    before: dict[str, Json] = {name: manifest[name] for name in now}
    changes = differences(before, now, ignore=ignore)
    if changes:
        threads = any(change.startswith("threads ") for change in changes)
        same = " (OMP_NUM_THREADS sets them)" if threads else ""
        raise InterpError(
            f"{folder}: {summarise(changes)}{same}: choose another --out or delete the folder"
        )


def begin(
    folder: Path, now: dict[str, Json], *, command: str, previous: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The manifest of a folder that has just been opened, with a new session at the end."""
    sessions = [dict(session) for session in previous["sessions"]] if previous else []
    for session in sessions:
        if session["status"] == "running":
            session["status"] = "killed"
    return {
        "format": FORMAT,
        "created_by": previous["created_by"] if previous else _created_by(),
        "status": "running",
        "command": command,
        "folder": str(folder),
        **now,
        "headline": "",
        "files": dict(previous["files"]) if previous else {},
        "sessions": [*sessions, _new_session()],
    }


def end(manifest: dict[str, Any], status: Status, trouble: str | None) -> None:
    """Close the last session of ``manifest`` in place."""
    manifest["status"] = status
    session = {"status": status, "ended": _time()}
    manifest["sessions"][-1].update(session if trouble is None else {**session, "error": trouble})


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest atomically, indented for reading."""
    text = json.dumps(manifest, indent=2, ensure_ascii=True, allow_nan=False)
    write_bytes(folder / MANIFEST_NAME, f"{text}\n".encode("ascii"))


def _new_session() -> dict[str, Any]:
    return {
        "status": "running",
        "started": _time(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(RECORDED_PACKAGES),
    }


def _created_by() -> str:
    return f"{OWN_PACKAGE} {__version__}"


def _versions(names: Collection[str]) -> dict[str, Json]:
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    if name == OWN_PACKAGE:
        return __version__  # of the code that runs: an editable install can be older
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
