"""Direction: a signed, scaled axis of the residual stream, one per layer.

Convention: ``+`` is the positive pole of the labels (moral). A state's projection in *class units*
is ``(h . v - offset) / scale``: the mean of the positive class lies at +1, of the negative class at
-1. The facts of its making travel inside the file, and a direction is refused by a model, or a
processing mode, that it was not made for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site, States
from interp.errors import InterpError
from interp.models import model_card
from interp.stats import Interval


@dataclass(frozen=True, eq=False)
class Direction:
    """The direction at one layer: unit vector, scale and offset (see the module)."""

    vector: Float[Tensor, " d_model"]
    scale: float
    offset: float
    layer: int
    site: Site

    def project(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """Projection in class units (+1 positive class mean, -1 negative)."""
        return (states @ self.vector - self.offset) / self.scale


@dataclass(frozen=True, eq=False)
class DirectionStack:
    """One direction per layer of one site, fitted by one method on one data set.

    ``auc`` is the held-out ROC-AUC per layer (an :class:`~interp.stats.Interval` over layers, group
    bootstrap). ``fingerprint`` and ``mode`` say which model it belongs to.
    """

    vectors: Float[Tensor, "layer d_model"]
    scales: Float[Tensor, " layer"]
    offsets: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    site: Site
    method: str
    source: str
    data_hash: str
    n_texts: int
    fingerprint: str
    mode: str
    auc: Interval

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> Direction:
        if layer not in self.layers:
            raise InterpError(f"no direction at layer {layer}; fitted at {list(self.layers)}")
        k = self.layers.index(layer)
        return Direction(
            self.vectors[k], float(self.scales[k]), float(self.offsets[k]), layer, self.site
        )

    def __iter__(self) -> Iterator[Direction]:
        return (self[layer] for layer in self.layers)

    @property
    def best_layer(self) -> int:
        """The layer with the highest held-out AUC: selected on labelled sentences only."""
        return self.layers[int(np.argmax(self.auc.estimate))]

    def project(self, states: States) -> Float[Tensor, "layer prompt"]:
        """Projections in class units of the states of the same site and layers."""
        if states.site != self.site or states.layers != self.layers:
            raise InterpError(
                f"states of {states.site} at {len(states.layers)} layers do not fit a direction of "
                f"{self.site} at {len(self.layers)} layers"
            )
        dots = torch.einsum("lpd,ld->lp", states.values, self.vectors)
        return (dots - self.offsets[:, None]) / self.scales[:, None]

    def require(self, model: TransformerBridge) -> None:
        """Refuse a model or a processing mode this direction was not made for."""
        card = model_card(model)
        if card.fingerprint != self.fingerprint:
            raise InterpError(
                f"this direction was fitted on other weights (fingerprint {self.fingerprint[:12]}) "
                f"than {card.name} ({card.fingerprint[:12]}): fit it again on this model"
            )
        if card.mode != self.mode:
            raise InterpError(
                f"this direction was fitted in {self.mode} mode, the model is in {card.mode} mode: "
                "activations differ between them, fit it again"
            )

    def to_dataframe(self) -> pd.DataFrame:
        """One row per layer: held-out AUC with its interval, scale and offset."""
        return pd.DataFrame(
            {
                "layer": self.layers,
                "auc": self.auc.estimate,
                "auc_low": self.auc.low,
                "auc_high": self.auc.high,
                "scale": self.scales.tolist(),
                "offset": self.offsets.tolist(),
            }
        )

    def _repr_html_(self) -> str:
        head = f"{self.method} direction of {self.source} at {self.site}, {self.n_texts} texts"
        return f"<p><b>{head}</b></p>" + self.to_dataframe().to_html(
            index=False, border=0, float_format="{:.3f}".format
        )

    def tensors(self) -> dict[str, Tensor]:
        """What the file holds, by name."""
        auc = torch.tensor(np.stack([self.auc.estimate, self.auc.low, self.auc.high]))
        return {
            "vectors": self.vectors.contiguous(),
            "scales": self.scales,
            "offsets": self.offsets,
            "auc": auc,
        }

    def metadata(self) -> dict[str, str]:
        """The facts of its making, as the file's header."""
        facts: dict[str, Any] = {
            "layers": list(self.layers),
            "site": self.site,
            "method": self.method,
            "source": self.source,
            "data_hash": self.data_hash,
            "n_texts": self.n_texts,
            "fingerprint": self.fingerprint,
            "mode": self.mode,
            "auc": {
                "n": np.asarray(self.auc.n).tolist(),
                "n_clusters": np.asarray(self.auc.n_clusters).tolist(),
                "reason": np.asarray(self.auc.reason).tolist(),
                "confidence": self.auc.confidence,
            },
        }
        return {"interp_direction": json.dumps(facts)}

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; returns its path."""
        path = Path(path)
        try:
            save_file(self.tensors(), path, metadata=self.metadata())
        except (OSError, SafetensorError) as error:
            raise InterpError(f"{path}: cannot write the direction ({error})") from error
        return path


def load_direction(path: str | Path) -> DirectionStack:
    """Read a direction written by :meth:`DirectionStack.save`.

    Raises:
        InterpError: no such file, a truncated one, or one that holds no direction.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["interp_direction"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _from_file(facts, tensors)
    except (OSError, SafetensorError) as error:
        raise InterpError(f"{path}: not a readable direction file ({error})") from error
    except (KeyError, TypeError, ValueError) as error:  # another kind of safetensors file
        raise InterpError(
            f"{path}: holds no direction as DirectionStack.save writes it; fit it again"
        ) from error


def _from_file(facts: dict[str, Any], tensors: dict[str, Tensor]) -> DirectionStack:
    estimate, low, high = (row.numpy() for row in tensors["auc"])
    auc = facts.pop("auc")
    return DirectionStack(
        vectors=tensors["vectors"],
        scales=tensors["scales"],
        offsets=tensors["offsets"],
        auc=Interval(
            estimate=estimate,
            low=low,
            high=high,
            n=np.array(auc["n"]),
            n_clusters=np.array(auc["n_clusters"]),
            confidence=auc["confidence"],
            reason=np.array(auc["reason"]),
        ),
        **{**facts, "layers": tuple(facts["layers"])},
    )
