"""The stored weights and cards of the compiled programs (``weights/NAME.safetensors`` and ``.json``).

Weights are stored by their entries that are not zero: ``PARAMETER:where``, places in the flat tensor,
and ``PARAMETER:values``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = Path(__file__).parent / "weights"


def load_card(name: str) -> dict[str, Any]:
    """What was recorded of a program when it was compiled."""
    card: dict[str, Any] = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    return card


def load_weights(name: str, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The weights of a program, float64, in the shapes of the model's parameters."""
    stored = load_file(WEIGHTS / f"{name}.safetensors")
    weights = {}
    for key, shape in shapes.items():
        weight = torch.zeros(shape, dtype=torch.float64)
        if f"{key}:where" in stored:
            weight.view(-1)[stored[f"{key}:where"].long()] = stored[f"{key}:values"].double()
        weights[key] = weight
    return weights
