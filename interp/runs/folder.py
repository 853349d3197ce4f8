"""Opening a run folder, and writing into it.

:func:`open_run` takes the folder's lock (one writer at a time; the operating system frees it when
the writer dies), refuses a folder that is not a run or is another run, removes what a killed writer
left unfinished and hands out a :class:`Run`. Leaving the block without an exception marks the
manifest ``complete``. A completed run can be opened again: its units are skipped and its tables
merged anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from interp.errors import InterpError
from interp.runs import manifest as manifests
from interp.runs.atomic import (
    atomic_path,
    cannot_write,
    make_folder,
    remove_leftovers,
    write_bytes,
)
from interp.runs.canonical import canonical_json
from interp.runs.ledger import Ledger
from interp.runs.manifest import LOCK_NAME, MANIFEST_NAME, WRITER_NAME
from interp.runs.parquet import encode, to_arrow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PLOTLY_SCRIPT = "figures/plotly.min.js"


class Run:
    """An open run folder. Every ``save_*`` replaces the file of that name atomically.

    Names are letters, digits, ``_``, ``-`` and ``.``, with ``/`` between folders.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self._manifest = manifest
        self._ledgers: dict[str, Ledger] = {}
        self._has_plotly_script = False
        self._closed = False

    def ledger(self, name: str, *, version: int | str = 1) -> Ledger:
        """The ledger of the table ``<name>.parquet``; raise ``version`` when its code changes."""
        self.require_open()
        self._target(f"{name}.parquet")
        if "/" in name or name in self._ledgers:
            trouble = "must not contain '/'" if "/" in name else "is open already in this run"
            raise InterpError(f"{self.path}: table {name!r} {trouble}: choose another name")
        self._ledgers[name] = Ledger(self, name, version)
        return self._ledgers[name]

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A temporary path for other writers; it becomes ``name`` when the block ends well.

        with run.file("direction.safetensors") as path:
            direction.save(path)
        """
        self.require_open()
        target = self._target(name)
        make_folder(target.parent)
        with atomic_path(target) as temporary:
            yield temporary
            with temporary.open("rb") as handle:
                sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        self._manifest["files"][name] = sha256

    def publish(self, name: str, table: pa.Table) -> None:
        """Write an Arrow table as ``<name>.parquet``."""
        with self.file(f"{name}.parquet") as path:
            encode(path, table)

    def save_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a frame that needed no ledger as ``<name>.parquet``. Row indexes are dropped."""
        if name in self._ledgers:
            raise InterpError(f"{self.path}: table {name!r} belongs to a ledger: use its merge()")
        self.publish(name, to_arrow(frame, f"table {name!r}"))

    def save_tensors(
        self, name: str, tensors: Mapping[str, Any], *, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Write torch tensors or numpy arrays (one kind) of any shape as ``<name>.safetensors``.

        ``facts`` (JSON values) are stored as canonical JSON in the file's metadata entry ``facts``:
        one entry, because the order of several is not fixed.
        """
        metadata = {"facts": canonical_json(facts, "facts")} if facts else None
        content = _tensor_bytes(tensors, metadata)
        with self.file(f"{name}.safetensors") as path:
            path.write_bytes(content)

    def save_text(self, name: str, text: str) -> None:
        """Write UTF-8 text, such as ``report.html`` or ``figures/attention.html``."""
        with self.file(name) as path:
            path.write_bytes(text.encode("utf-8"))

    def save_figure(self, name: str, figure: Any) -> None:
        """Write a plotly figure as ``figures/<name>.html``, which works offline.

        plotly's script (about 5 MB) is stored once, in the folder of the figures.
        """
        from plotly.offline import get_plotlyjs

        if not self._has_plotly_script:
            self.save_text(_PLOTLY_SCRIPT, get_plotlyjs())
            self._has_plotly_script = True
        html = figure.to_html(include_plotlyjs="directory", full_html=True, div_id=name)
        self.save_text(f"figures/{name}.html", html)

    def record_headline(self, text: str) -> None:
        """Note in the manifest, in one line, what the run found; recorded and never compared."""
        self.require_open()
        self._manifest["headline"] = " ".join(text.split())

    def require_open(self) -> None:
        """Raise InterpError once the run has been left."""
        if self._closed:
            raise InterpError(f"{self.path}: the run has been closed: write inside its with block")

    def close(self, status: manifests.Status, trouble: str | None = None) -> None:
        """End the session with ``status``; :func:`open_run` calls this."""
        self._closed = True
        manifests.end(self._manifest, status, trouble)
        manifests.write_manifest(self.path, self._manifest)

    def _target(self, name: str) -> Path:
        steps = name.split("/")
        if not all(_NAME.fullmatch(step) for step in steps):
            raise InterpError(
                f"{self.path}: {name!r} cannot name a file: use letters, digits, '_', '-' and '.'"
            )
        if name == MANIFEST_NAME or steps[0] == "parts":
            raise InterpError(f"{self.path}: {name!r} is kept for the run itself: rename it")
        return self.path.joinpath(*steps)


@contextlib.contextmanager
def open_run(
    path: str | Path,
    *,
    config: Any,
    study: str = "",
    model: Any = None,
    data: Mapping[str, str] | None = None,
    rules: Mapping[str, Any] | None = None,
    seed: int = 0,
    command: str = "",
    threads: int | None = None,
    ignore: Collection[str] = ("config.out",),
) -> Iterator[Run]:
    """Create the run folder ``path``, or take up the run in it, and lock it for the block.

    ``config`` and ``model`` (the model card) may be dicts, dataclasses or pydantic models of JSON
    values; ``study`` names the kind of run; ``data`` maps data set names to hashes; ``rules`` are what
    the reading of the numbers was fixed to before there were any. With ``seed``, ``threads`` (default:
    torch's number of threads) and the versions of the packages that make the numbers, they are the
    identity of the run. ``ignore`` lists dotted places that are recorded and not compared. ``command``
    and ``path`` are recorded only.

    Raises InterpError, one line, if the folder is another run (each difference is named), is in use
    (by which process), holds files but no manifest, or cannot be written. An exception of the block
    passes through after the manifest has been marked ``failed`` or ``interrupted``.
    """
    folder = Path(path)
    now = manifests.identity(
        study=study,
        config=config,
        model=model,
        data=data or {},
        rules=rules,
        seed=seed,
        threads=_torch_threads() if threads is None else threads,
    )
    manifests.refuse_foreign(folder)
    make_folder(folder)
    with _writer_lock(folder):
        run = _begin(folder, now, command=command, ignore=ignore)
        try:
            yield run
        except BaseException as error:
            # The block's own error matters more than a manifest that cannot be written.
            with contextlib.suppress(InterpError):
                run.close(_status_after(error), _describe(error))
            raise
        run.close("complete")


@contextlib.contextmanager
def amend_run(path: str | Path) -> Iterator[Run]:
    """A finished run, locked for the block, whose files are written again from what it holds.

    Nothing but the files' hashes and the headline changes in its manifest: neither status nor sessions.

    Raises InterpError if there is no run, if it has not ended, or if it is in use.
    """
    folder = Path(path)
    manifest = manifests.read_manifest(folder)
    if manifest["status"] != "complete":
        raise InterpError(f"{folder}: the run has not ended: run its command again")
    with _writer_lock(folder):
        run = Run(folder, manifest)
        yield run
        manifests.write_manifest(folder, manifest)


def _begin(folder: Path, now: dict[str, Any], *, command: str, ignore: Collection[str]) -> Run:
    previous = None
    if (folder / MANIFEST_NAME).exists():
        previous = manifests.read_manifest(folder)
        manifests.refuse_other_identity(folder, previous, now, ignore=ignore)
    remove_leftovers(folder)
    manifest = manifests.begin(folder, now, command=command, previous=previous)
    manifests.write_manifest(folder, manifest)
    return Run(folder, manifest)


@contextlib.contextmanager
def _writer_lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK_NAME, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise InterpError(
            f"{folder}: is being written by another run{_writer(folder)}: "
            "wait for it to end, or choose another --out"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname()}
        write_bytes(folder / WRITER_NAME, json.dumps(who).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / WRITER_NAME).unlink(missing_ok=True)
        lock.release()


def _writer(folder: Path) -> str:
    try:
        who = json.loads((folder / WRITER_NAME).read_text(encoding="utf-8"))
        return f" (process {who['pid']} on {who['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _status_after(error: BaseException) -> manifests.Status:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _describe(error: BaseException) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line[:200]}".removesuffix(": ")


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def _tensor_bytes(tensors: Mapping[str, Any], metadata: dict[str, str] | None) -> bytes:
    import numpy as np

    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        from safetensors.numpy import save

        return save({k: np.array(v, order="C") for k, v in tensors.items()}, metadata)
    from safetensors import torch as safetensors_torch

    # Copies, because safetensors refuses views that share memory.
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return safetensors_torch.save(copies, metadata)
