"""GGUF -> safetensors + tokenizer, once per file, in the cache.

Reading a GGUF file takes about 20 s (tokenizer and de-quantisation); the converted folder loads in
about one. The folder appears atomically: it is written under another name and renamed when whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

from interp.errors import InterpError, first_line
from interp.fetch import cache_root, sha256_of, work_folder
from interp.models.card import Provenance
from interp.models.checkpoint import CompleteLoader
from interp.parsing import parse_json, read_text

PROVENANCE_FILE = "provenance.json"

_UNQUANTISED = ("ALL_F32", "MOSTLY_F16", "MOSTLY_BF16")


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No bars of transformers' while we load; its warnings are for the user and stay."""
    bar = transformers_logging.is_progress_bar_enabled()
    bar_of_gguf = modeling_gguf_pytorch_utils.tqdm
    transformers_logging.disable_progress_bar()
    # the one bar that does not ask whether bars are wanted; this one does
    modeling_gguf_pytorch_utils.tqdm = transformers_logging.tqdm
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar_of_gguf
        if bar:
            transformers_logging.enable_progress_bar()


def convert_gguf(gguf: Path, folder: Path, provenance: Provenance) -> Path:
    """De-quantise ``gguf`` to float32 and save model, tokenizer and provenance as ``folder``.

    ``folder`` lies in the cache. Does nothing when it is already there.

    Raises:
        InterpError: the file is truncated, lacks a weight, is not GGUF, or holds an architecture
            that transformers cannot read; nothing is left behind. Or the cache cannot be written.
    """
    if (folder / PROVENANCE_FILE).is_file():
        return folder
    with work_folder(f"convert-{folder.name}") as work:
        if (folder / PROVENANCE_FILE).is_file():  # another process was faster
            return folder
        converted = work / "converted"
        converted.mkdir()
        _save_converted(gguf, converted)
        (converted / PROVENANCE_FILE).write_text(json.dumps(asdict(provenance), indent=1))
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(converted, folder)
    return folder


def convert_local_gguf(gguf: Path) -> tuple[Path, Provenance]:
    """The converted folder of a GGUF file, which the file's hash names, and its provenance."""
    digest = sha256_of(gguf)
    folder = cache_root() / "models" / f"{gguf.stem}-{digest[:12]}"
    known = read_provenance(folder)  # reading the header of a large vocabulary takes seconds
    quantisation = known.quantisation if known else _quantisation(gguf)
    provenance = Provenance(gguf.stem, str(gguf), quantisation, weights_sha256=digest)
    return convert_gguf(gguf, folder, provenance), provenance


def read_provenance(folder: Path) -> Provenance | None:
    """The provenance stored with a converted checkpoint, or None for any other folder.

    Raises:
        InterpError: a file that is not what :func:`convert_gguf` writes; names it.
    """
    path = folder / PROVENANCE_FILE
    if not path.is_file():
        return None
    stored = parse_json(read_text(path), str(path))
    try:
        return Provenance(**stored)
    except TypeError as error:  # no object, or other fields
        raise InterpError(
            f"{path}: not the provenance of a converted model; delete the folder, and it is made again"
        ) from error


def _quantisation(gguf: Path) -> str:
    """The format named in the header; ``none`` for plain floats."""
    from gguf import GGUFReader, LlamaFileType

    try:
        field = GGUFReader(gguf).get_field("general.file_type")
        name = "unknown" if field is None else LlamaFileType(int(field.contents())).name
    except Exception as error:  # whatever the broken bytes happen to trigger
        raise _unreadable(gguf, error) from error
    return "none" if name in _UNQUANTISED else name.removeprefix("MOSTLY_")


def _unreadable(gguf: Path, error: Exception) -> InterpError:
    return InterpError(
        f"{gguf}: not a readable GGUF model, truncated perhaps ({first_line(error)}); fetch it again"
    )


def _save_converted(gguf: Path, scratch: Path) -> None:
    with without_progress_bars():
        try:
            model = CompleteLoader(AutoModelForCausalLM).from_pretrained(
                str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except InterpError:
            raise
        # transformers and gguf raise whatever the broken bytes happen to trigger
        except Exception as error:
            raise _unreadable(gguf, error) from error
        # GGUF configs name no class and still call themselves quantised; both break a later load
        model.config.architectures = [type(model).__name__]
        model.config.__dict__.pop("quantization_config", None)
        model.hf_quantizer = None
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
