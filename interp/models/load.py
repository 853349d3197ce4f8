"""load_model: from a name, a folder, a file or a bridge to an evaluated, self-checked bridge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.fetch import cache_root
from interp.models.card import (
    Provenance,
    attach_card,
    model_card,
    weights_fingerprint,
)
from interp.models.catalogue import DEFAULT_MODEL, fetch_model, model_entry, model_names
from interp.models.convert import (
    convert_gguf,
    gguf_provenance,
    quiet_transformers,
    read_provenance,
)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_model(
    name_or_path: str | Path | TransformerBridge = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    compatibility_mode: bool = False,
    revision: str | None = None,
) -> TransformerBridge:
    """Load a model as a TransformerLens bridge in evaluation mode, with its self-checks run.

    Args:
        name_or_path: a catalogue name (``interp models list``), a Hugging Face hub id
            (``owner/name``), a local folder in Hugging Face format, a local ``.gguf`` file, or a
            ``TransformerBridge`` you booted yourself.
        device: ``"auto"`` takes CUDA when there is one, else the CPU.
        dtype: ``"auto"`` is float32 on the CPU, bfloat16 on CUDA for models above 2e9 parameters
            and float32 below.
        compatibility_mode: apply TransformerLens's weight processing (folded norms, centred
            weights), which is what the old ``HookedTransformer`` did. One-way; recorded in the card.
        revision: hub revision; only for hub ids.

    Returns:
        The bridge. ``interp.models.model_card(model)`` shows its provenance and self-checks.

    Raises:
        InterpError: unknown name, unreadable or truncated weights, weights that are not finite, no
            network for a hub id, or a failed self-check.

    Example:
        >>> model = interp.load_model()                                    # doctest: +SKIP
        >>> interp.models.model_card(model).one_line                       # doctest: +SKIP
    """
    if isinstance(name_or_path, TransformerBridge):
        return _adopt(name_or_path, compatibility_mode)
    source, provenance = _resolve(str(name_or_path))
    target = torch.device(_pick_device(device))
    model = _boot(source, str(target), dtype, revision)
    model.eval()
    fingerprint = weights_fingerprint(model)
    if compatibility_mode:
        _process_weights(model)
    attach_card(model, provenance, fingerprint=fingerprint)
    return model


def load_tokenizer(name_or_path: str | Path = DEFAULT_MODEL) -> Any:
    """The tokenizer alone, without the weights; same names as :func:`load_model`."""
    from transformers import AutoTokenizer

    source, _ = _resolve(str(name_or_path))
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InterpError(f"{name_or_path}: no readable tokenizer there ({_first(error)})") from error


def _adopt(model: TransformerBridge, compatibility_mode: bool) -> TransformerBridge:
    model.eval()
    if compatibility_mode and not model.compatibility_mode:
        fingerprint = weights_fingerprint(model)
        _process_weights(model)
        name = str(model.cfg.model_name)
        attach_card(model, Provenance(name, "a bridge booted by the user", "none"), fingerprint=fingerprint)
    model_card(model)
    return model


def _process_weights(model: TransformerBridge) -> None:
    with quiet_transformers():
        model.enable_compatibility_mode(disable_warnings=True)


def _resolve(name: str) -> tuple[str, Provenance]:
    """A folder or hub id that transformers can load, and where it came from."""
    path = Path(name).expanduser()
    if name in model_names():
        return _resolve_catalogue(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InterpError(f"{path}: no such GGUF file")
        provenance = gguf_provenance(path)
        folder = cache_root() / "models" / f"{path.stem}-{str(provenance.weights_sha256)[:12]}"
        return str(convert_gguf(path, folder, provenance)), provenance
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InterpError(f"{path}: no config.json there, so not a Hugging Face model folder")
        return str(path), read_provenance(path) or Provenance(path.name, str(path), "none")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name, Provenance(name, f"Hugging Face hub: {name}", "none")
    return _resolve_catalogue(name)


def _resolve_catalogue(name: str) -> tuple[str, Provenance]:
    entry = model_entry(name)
    provenance = Provenance(
        name=entry.name,
        source=f"catalogue: {entry.filename}",
        quantisation=entry.quantisation,
        weights_sha256=entry.sha256,
        licence=entry.licence,
    )
    known = read_provenance(entry.folder)
    if known is None:
        convert_gguf(fetch_model(name), entry.folder, provenance)
    return str(entry.folder), provenance


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InterpError(f"device {device!r} is not available here: {_first(error)}") from error
    return device


def _pick_dtype(dtype: Dtype, source: str, device: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype in known:
        return known[dtype]
    if dtype != "auto":
        raise InterpError(f"dtype {dtype!r} is not one of auto, {', '.join(known)}")
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if _weights_bytes(source) > 8e9 else torch.float32


def _weights_bytes(source: str) -> int:
    """Bytes of the weight files of a folder; 0 for a hub id (not known before the download)."""
    folder = Path(source)
    return sum(f.stat().st_size for f in folder.glob("*.safetensors")) if folder.is_dir() else 0


def _boot(source: str, device: str, dtype: Dtype, revision: str | None) -> TransformerBridge:
    _require_architecture(source)
    with quiet_transformers():
        try:
            return TransformerBridge.boot_transformers(
                source, device=device, dtype=_pick_dtype(dtype, source, device), revision=revision
            )
        except InterpError:
            raise
        # safetensors, huggingface_hub and transformers each have their own error types
        except Exception as error:
            if Path(source).is_dir():
                raise InterpError(
                    f"{source}: cannot load the model, files truncated or missing perhaps "
                    f"({_first(error)})"
                ) from error
            raise InterpError(
                f"{source}: cannot be loaded from the Hugging Face hub ({_first(error)}); check "
                "the id and the network, or give a local folder"
            ) from error


def _require_architecture(source: str) -> None:
    """A config without ``architectures`` (GGUF exports) makes some families fail obscurely."""
    import json

    path = Path(source) / "config.json"
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise InterpError(f"{path}: not valid JSON ({error}); fetch the model again") from error
    if not config.get("architectures"):
        raise InterpError(
            f"{path}: field 'architectures' is missing; add the class, for example "
            '["LlamaForCausalLM"]'
        )


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
