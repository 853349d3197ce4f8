"""load_model: from a name, a folder, a file or a bridge to an evaluated, self-checked bridge."""

from __future__ import annotations

import os
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError, first_line
from interp.models.boot import boot_bridge
from interp.models.card import (
    Provenance,
    attach_card,
    count_parameters,
    model_card,
)
from interp.models.catalogue import DEFAULT_MODEL, fetch_model, model_entry
from interp.models.chat_template import parse_template_date, set_template_date
from interp.models.convert import (
    convert_gguf,
    convert_local_gguf,
    read_provenance,
    without_progress_bars,
)
from interp.models.fingerprint import weights_fingerprint
from interp.models.names import (
    UNTRAINED,
    Dtype,
    find_model,
    require_architecture,
    require_dtype,
)
from interp.models.processing import process_weights
from interp.models.untrained import untrained_copy

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGE = 2e9  # parameters; above, "auto" on a GPU is bfloat16


def load_model(
    name_or_path: str | Path | TransformerBridge = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    compatibility_mode: bool = False,
    revision: str | None = None,
    template_date: date | str | None = None,
    progress: bool = True,
) -> TransformerBridge:
    """Load a model as a TransformerLens bridge in evaluation mode, with its self-checks run.

    Args:
        name_or_path: a catalogue name (``interp models list``), a Hugging Face hub id
            (``owner/name``), a local folder in Hugging Face format, a local ``.gguf`` file, or a
            ``TransformerBridge`` you booted yourself. ``untrained:`` in front of a name: that model's
            shape with fresh weights (:func:`interp.models.untrained_copy`).
        device: ``"auto"`` takes CUDA when there is one, else the CPU.
        dtype: ``"auto"`` is float32 on the CPU, bfloat16 on CUDA for models above 2e9 parameters
            and float32 below.
        compatibility_mode: apply TransformerLens's weight processing (folded norms, centred
            weights), which is what the old ``HookedTransformer`` did. One-way; the card records it.
        revision: hub revision; only for hub ids.
        template_date: what a chat template that writes today's date writes, so that a prompt is the
            same tomorrow; 2024-07-26 by default. The card has it where the template writes one.
        progress: show a bar while weights of the catalogue are fetched.

    Returns:
        The bridge. ``interp.models.model_card(model)`` shows its provenance and self-checks.

    Raises:
        InterpError: unknown name, device, dtype or date, unreadable or incomplete weights, weights that
            are not finite, no network for a hub id, weight processing that changes predictions, or
            a failed self-check.

    Example:
        >>> model = interp.load_model()                                    # doctest: +SKIP
        >>> interp.models.model_card(model).one_line                       # doctest: +SKIP
    """
    day = None if template_date is None else parse_template_date(template_date)
    if isinstance(name_or_path, TransformerBridge):
        _date_template(name_or_path, day)
        return _adopt(name_or_path, compatibility_mode)
    name = str(name_or_path)
    if name.startswith(UNTRAINED):
        if compatibility_mode:
            raise InterpError(f"{name}: an untrained copy is raw: leave out compatibility mode")
        own = load_model(
            name.removeprefix(UNTRAINED),
            device=device,
            dtype=dtype,
            revision=revision,
            template_date=template_date,
            progress=progress,
        )
        return untrained_copy(own)
    target = _pick_device(device)
    require_dtype(dtype)
    source, provenance = _resolve(name, progress=progress)
    model = _boot(source, target, dtype, revision)
    _date_template(model, day)
    model.eval()
    if compatibility_mode:
        fingerprint = weights_fingerprint(model)  # of the raw weights
        processing = process_weights(model)
        attach_card(model, provenance, fingerprint=fingerprint, processing=processing)
    else:
        attach_card(model, provenance)
    return model


def prepare_model(name: str, *, allow_mirrors: bool = False, progress: bool = True) -> Path:
    """Fetch and convert a catalogue model; returns the folder that :func:`load_model` reads."""
    entry = model_entry(name)
    if read_provenance(entry.folder) is None:
        provenance = Provenance(
            name=entry.name,
            source=f"catalogue: {entry.filename}",
            quantisation=entry.quantisation,
            weights_sha256=entry.sha256,
            licence=entry.licence,
        )
        gguf = fetch_model(name, allow_mirrors=allow_mirrors, progress=progress)
        convert_gguf(gguf, entry.folder, provenance)
    return entry.folder


def load_tokenizer(name_or_path: str | Path = DEFAULT_MODEL) -> Any:
    """The tokenizer alone, without the weights; same names as :func:`load_model`."""
    from transformers import AutoTokenizer

    source, _ = _resolve(str(name_or_path).removeprefix(UNTRAINED))
    try:
        with without_progress_bars():
            return AutoTokenizer.from_pretrained(source)
    except Exception as error:  # tokenizers raises plain Exception for a file it cannot read
        raise InterpError(
            f"{name_or_path}: no readable tokenizer there ({first_line(error)})"
        ) from error


def _date_template(model: TransformerBridge, day: date | None) -> None:
    if day is not None and model.tokenizer is not None:
        set_template_date(model.tokenizer, day)


def _adopt(model: TransformerBridge, compatibility_mode: bool) -> TransformerBridge:
    model.eval()
    card = model_card(model)  # before the weights change: the fingerprint is that of the raw ones
    if compatibility_mode and not model.compatibility_mode:
        processing = process_weights(model)
        attach_card(model, card.provenance, fingerprint=card.fingerprint, processing=processing)
    return model


def _resolve(name: str, *, progress: bool = True) -> tuple[str, Provenance]:
    """A folder or hub id that transformers can load, and where it came from."""
    kind, place = find_model(name)
    if kind == "catalogue":
        folder = prepare_model(place, progress=progress)
        provenance = read_provenance(folder)
        if provenance is None:
            raise InterpError(
                f"{folder}: the converted model lost its provenance; delete the folder"
            )
        return str(folder), provenance
    if kind == "gguf":
        folder, provenance = convert_local_gguf(Path(place))
        return str(folder), provenance
    if kind == "hub":
        return place, Provenance(place, f"Hugging Face hub: {place}", "none")
    return place, read_provenance(Path(place)) or Provenance(Path(place).name, place, "none")


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InterpError(
            f"device {device!r} is not available here: {first_line(error)}"
        ) from error
    return device


def _pick_dtype(dtype: Dtype, source: str, device: str, revision: str | None) -> torch.dtype:
    if dtype != "auto":
        return _DTYPES[dtype]
    if torch.device(device).type != "cuda":
        return torch.float32
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source, revision=revision)
    large = count_parameters(AutoModelForCausalLM.from_config, config) > _LARGE
    return torch.bfloat16 if large else torch.float32


def _boot(source: str, device: str, dtype: Dtype, revision: str | None) -> TransformerBridge:
    if os.path.isdir(source):  # not a hub id
        require_architecture(source)
    try:
        with without_progress_bars():
            picked = _pick_dtype(dtype, source, device, revision)
            return boot_bridge(source, device, picked, revision)
    except InterpError:
        raise
    except ImportError as error:
        raise InterpError(
            f"{source}: this class needs a package that is not installed ({first_line(error)})"
        ) from error
    # safetensors, huggingface_hub and transformers each have their own error types
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise InterpError(
                f"{source}: its class is code in its own repository, which is not run; boot it with "
                "TransformerBridge.boot_transformers(..., trust_remote_code=True) and give the bridge"
            ) from error
        if "does not recognize this architecture" in str(error):
            raise InterpError(
                f"{source}: cannot load the model: transformers {version('transformers')} does not "
                f"know its kind ({first_line(error)})"
            ) from error
        if os.path.isdir(source):
            raise InterpError(
                f"{source}: cannot load the model, files truncated or missing perhaps "
                f"({first_line(error)})"
            ) from error
        raise InterpError(
            f"{source}: cannot be loaded from the Hugging Face hub ({first_line(error)}); check "
            "the id and the network, or give a local folder"
        ) from error
