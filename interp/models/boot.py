"""TransformerLens's ``boot_transformers``, with the checkpoint checked and nothing installed.

The bridge wraps the very model whose loading report was checked: ``boot_transformers`` is handed the
class that checks (:class:`~interp.models.checkpoint.CompleteLoader`) in place of the one it would
pick itself, and so keeps its own treatment of config, attention kernel and tokenizer.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.transformers import helpers
from transformers import AutoConfig

from interp.errors import InterpError, first_line
from interp.models.architecture import adapted_architecture
from interp.models.checkpoint import CompleteLoader

_booting = threading.RLock()


def boot_bridge(
    source: str, device: str, dtype: torch.dtype, revision: str | None
) -> TransformerBridge:
    """The bridge of a folder in Hugging Face format or a hub id.

    A model with an image processor loads as the whole model, and the text part is what the bridge
    exposes; the processor itself is attached where torchvision is already there.

    Raises:
        InterpError: a class that cannot be analysed, files that do not hold every weight, or
            weights that TransformerLens can make no bridge of.
        Exception: whatever transformers, safetensors and the hub raise.
    """
    config = AutoConfig.from_pretrained(source, revision=revision)
    architecture = adapted_architecture(source, config)
    loader = CompleteLoader(helpers.get_hf_model_class_for_architecture(architecture))
    try:
        with _nothing_installed():
            return TransformerBridge.boot_transformers(
                source, device=device, dtype=dtype, revision=revision, model_class=loader
            )
    except InterpError:
        raise
    except Exception as error:
        if not loader.finished:
            raise
        raise InterpError(
            f"{source}: cannot load the model: its weights are read, but TransformerLens makes no "
            f"bridge of this {architecture} and its tokenizer ({first_line(error)})"
        ) from error


@contextmanager
def _nothing_installed() -> Iterator[None]:
    """TransformerLens runs ``pip install torchvision`` for a processor that lacks it: not here.

    That can replace torch under a running session. One boot at a time, since the function replaced
    is the module's.
    """
    with _booting:
        install = helpers._ensure_torchvision
        helpers._ensure_torchvision = _has_torchvision
        try:
            yield
        finally:
            helpers._ensure_torchvision = install


def _has_torchvision() -> bool:
    return importlib.util.find_spec("torchvision") is not None
