"""What a model may be called, and what it is loaded with: all that is refused without loading anything.

Importing this module loads neither torch nor transformers, so that a mistyped name is answered at once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from interp.errors import InterpError
from interp.models.catalogue import model_entry, model_names
from interp.parsing import parse_json, read_text

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Also ``cuda:1``, a GPU by its number."""

ModelKind: TypeAlias = Literal["catalogue", "folder", "gguf", "hub"]

UNTRAINED = "untrained:"
"""In front of a model's name: its shape with fresh weights."""

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def find_model(name: str) -> tuple[ModelKind, str]:
    """What a model's name stands for, and where: a name or hub id as it is, a path with ``~`` resolved.

    Raises:
        InterpError: neither a name of the catalogue nor a hub id, and no such file; or a folder
            without a ``config.json``.
    """
    if name in model_names():
        return "catalogue", name
    path = _path(name)
    # os.path and not Path: False for a name that no file can have
    if path.suffix == ".gguf":
        if not os.path.isfile(path):
            raise InterpError(f"{path}: no such GGUF file")
        return "gguf", str(path)
    if os.path.isdir(path):
        if not os.path.isfile(path / "config.json"):
            raise InterpError(f"{path}: no config.json there, so not a Hugging Face model folder")
        return "folder", str(path)
    if os.path.isfile(path):
        raise InterpError(f"{path}: neither a .gguf file nor a folder in Hugging Face format")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InterpError(f"{path}: no such folder")
    if name.count("/") == 1:
        return "hub", name
    return "catalogue", model_entry(name).name  # refuses it, and says what is close


def parse_device(text: str) -> str:
    """A device by its name, whether or not this machine has it.

    Raises:
        InterpError: any other text.
    """
    if not _DEVICE.fullmatch(text):
        raise InterpError("a device is auto, cpu, cuda, cuda:1 (a number) or mps")
    return text


def require_dtype(text: str) -> None:
    """Refuse what is no dtype that a model can be loaded in.

    Raises:
        InterpError: names it.
    """
    if text not in DTYPES:
        raise InterpError(f"dtype {text!r} is not one of {', '.join(DTYPES)}")


def require_model(name: str) -> None:
    """Refuse a model that cannot be loaded, as far as its name and its folder show that.

    Raises:
        InterpError: as :func:`find_model` and :func:`require_architecture`.
    """
    kind, place = find_model(name.removeprefix(UNTRAINED))
    if kind == "folder":
        require_architecture(place)


def require_architecture(folder: str | Path) -> None:
    """Refuse a config without ``architectures`` (GGUF exports): some families fail obscurely then.

    Raises:
        InterpError: names the file and the field.
    """
    path = Path(folder) / "config.json"
    config = parse_json(read_text(path), str(path), allow_nan=True)
    if not isinstance(config, dict) or not config.get("architectures"):
        raise InterpError(
            f"{path}: field 'architectures' is missing; add the class, for example "
            '["LlamaForCausalLM"]'
        )


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise InterpError(
            f"{name}: there is no home directory here that ~ could stand for; give the whole path"
        ) from error
