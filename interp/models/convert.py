"""GGUF -> safetensors + tokenizer, once per file, in the cache.

Reading a GGUF file takes about 20 s (tokenizer and de-quantisation); the converted folder loads in
about one. The folder appears atomically: it is written under another name and renamed when whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from interp.errors import InterpError
from interp.fetch import sha256_of
from interp.models.card import Provenance

PROVENANCE_FILE = "provenance.json"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' own bars and advice while we load; restores both."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def convert_gguf(gguf: Path, folder: Path, provenance: Provenance) -> Path:
    """De-quantise ``gguf`` to float32 and save model, tokenizer and provenance as ``folder``.

    Does nothing when the folder is already there.

    Raises:
        InterpError: the file is truncated, is not GGUF, or holds an architecture that
            transformers cannot read; nothing is left behind.
    """
    if (folder / PROVENANCE_FILE).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / PROVENANCE_FILE).is_file():
            return folder
        scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        try:
            _save_converted(gguf, scratch)
            (scratch / PROVENANCE_FILE).write_text(json.dumps(asdict(provenance), indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(scratch, folder)
        except OSError as error:
            raise InterpError(f"{folder}: cannot write the converted model ({error})") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def read_provenance(folder: Path) -> Provenance | None:
    """The provenance written beside a converted checkpoint, or None for any other folder."""
    path = folder / PROVENANCE_FILE
    return Provenance(**json.loads(path.read_text())) if path.is_file() else None


def gguf_provenance(gguf: Path) -> Provenance:
    """Provenance of a local GGUF file: its hash and the quantisation in its header."""
    return Provenance(
        name=gguf.stem,
        source=str(gguf),
        quantisation=_quantisation(gguf),
        weights_sha256=sha256_of(gguf),
    )


def _quantisation(gguf: Path) -> str:
    from gguf import GGUFReader, LlamaFileType

    try:
        field = GGUFReader(gguf).get_field("general.file_type")
        return "unknown" if field is None else LlamaFileType(int(field.contents())).name.removeprefix("MOSTLY_")
    except Exception as error:
        raise _unreadable(gguf, error) from error


def _unreadable(gguf: Path, error: Exception) -> InterpError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InterpError(f"{gguf}: not a readable GGUF model, truncated perhaps ({reason}); fetch it again")


def _save_converted(gguf: Path, scratch: Path) -> None:
    with quiet_transformers():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # transformers and gguf raise whatever the broken bytes happen to trigger
        except Exception as error:
            raise _unreadable(gguf, error) from error
        # GGUF configs name no class and still call themselves quantised; both break a later load
        model.config.architectures = [type(model).__name__]
        model.config.__dict__.pop("quantization_config", None)
        model.hf_quantizer = None
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
