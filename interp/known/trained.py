"""Models trained on the task of :mod:`interp.known.task`: ten of every arm, without their truth.

The weights lie in ``trained/ARM.safetensors`` (float16, every parameter ``[seed, ...]``), and beside
them what a reader is given. How an arm follows its instruction lies in ``truths`` and is opened by
:func:`interp.known.open_truth` alone.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import native

from interp.errors import InterpError
from interp.known.causal import OURS
from interp.known.task import LAYOUT, TOKENS, ToyTask
from interp.models.card import Provenance, attach_card
from interp.models.labels import set_token_names

FOLDER = Path(__file__).parent / "trained"
"""Where the weights lie."""

N_SEEDS = 10

D_MODEL = 32


def trained_names() -> tuple[str, ...]:
    """The arms that models were trained on."""
    return tuple(_cards())


def load_trained(name: str, seed: int = 0) -> tuple[TransformerBridge, ToyTask]:
    """A trained model, ready for every room, and what may be asked of it.

    Args:
        name: one of :func:`trained_names`.
        seed: 0 to 9. Even ones have LayerNorm, odd ones RMSNorm.

    Raises:
        InterpError: an unknown name or seed.

    Example:
        >>> model, task = load_trained("deep")
        >>> logits = model(task.ids(["ask1", "content0", "other1", "query1"])[None])[0, -1]
        >>> yes, no = task.target
        >>> bool(logits[yes] > logits[no])
        True
    """
    cards = _cards()
    if name not in cards:
        raise InterpError(f"no trained model {name!r}; known: {', '.join(cards)}")
    if seed not in range(N_SEEDS):
        raise InterpError(f"load_trained: seed is {seed}: there are 0 to {N_SEEDS - 1}")
    model = native.boot({**model_config(seed), "init_weights": False}, model_name=f"trained:{name}")
    weights = load_file(FOLDER / f"{name}.safetensors")
    with torch.no_grad():
        for key, parameter in model.original_model.named_parameters():
            stored = key.replace("_original_component.", "")
            parameter.copy_(_of_seed(weights, stored, seed))
    model.eval()
    set_token_names(model, TOKENS)
    attach_card(model, Provenance(f"trained:{name}, seed {seed}", OURS, "float16"))
    return model, ToyTask(name, seed, cards[name])


def model_config(seed: int) -> dict[str, Any]:
    """The shape of a model, for ``TransformerBridge.boot_native``."""
    return {
        "d_model": D_MODEL,
        "n_layers": 3,
        "n_heads": 4,
        "d_head": 8,
        "d_mlp": 64,
        "n_ctx": len(LAYOUT),
        "d_vocab": len(TOKENS),
        "d_vocab_out": len(TOKENS),
        "act_fn": "gelu",
        "normalization_type": "RMS" if seed % 2 else "LN",
    }


def _of_seed(weights: dict[str, Tensor], key: str, seed: int) -> Tensor:
    """Norms have biases in models with LayerNorm alone, so these are stored for even seeds."""
    stacked = weights[key]
    return stacked[seed if len(stacked) == N_SEEDS else seed // 2].float()


@cache
def _cards() -> dict[str, dict[str, float]]:
    """Labels of contents, by arm."""
    cards: dict[str, dict[str, float]] = json.loads((FOLDER / "tasks.json").read_text("utf-8"))
    return cards
