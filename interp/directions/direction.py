"""Direction: a signed, scaled axis of the residual stream, one per layer.

Convention: ``+`` is the positive pole of the labels (moral). A state's projection in *class units*
is ``(h . v - offset) / scale``: the mean of the positive class lies at +1, of the negative class at
-1. The facts of its making travel with it and inside its file, and a direction is refused by a
model, or a processing mode, that it was not made for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
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
from interp.directions.methods import FitMethod
from interp.directions.scores import ShuffledNull
from interp.directions.steering import ablate_vectors, add_vector
from interp.directions.stored import HEADER, no_direction, read_header, unreadable
from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.models import model_card
from interp.stats import ALPHA, Interval, interval_column_names, interval_columns

SIGN = "+ is label 1"


@dataclass(frozen=True)
class DirectionFacts:
    """How a direction was made.

    ``fingerprint`` and ``mode`` name the weights and the processing it belongs to (device and dtype
    play no part); ``source`` and ``data_hash`` the labelled texts.
    """

    method: FitMethod
    source: str
    data_hash: str
    n_texts: int
    fingerprint: str
    mode: str
    sign: str = SIGN

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


@dataclass(frozen=True, eq=False)
class Direction:
    """The direction at one layer: unit vector, scale and offset (see the module)."""

    vector: Float[Tensor, " d_model"]
    scale: float
    offset: float
    layer: int
    site: Site
    facts: DirectionFacts

    __repr__ = short_repr

    def project(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """Projection in class units (+1 positive class mean, -1 negative)."""
        return (states @ self.vector - self.offset) / self.scale

    def require(self, model: TransformerBridge) -> None:
        """Refuse a model or a processing mode this direction was not made for."""
        self.facts.require(model)

    def apply(
        self, model: TransformerBridge, *, strength: float | int = 1.0
    ) -> AbstractContextManager[None]:
        """Steer: inside the context every state at the direction's layer and site is moved along it.

        ``strength`` is in class units: +2 carries the mean negative state to the mean positive one.
        All positions are moved, those of generated tokens too.

        Raises:
            InterpError: another model or processing mode.

        Example:
            >>> with v[14].apply(model, strength=2):     # doctest: +SKIP
            ...     scores = interp.score_options(model, items)
        """
        self.require(model)
        step = strength * self.scale * self.vector
        return add_vector(model, self.site, self.layer, step)

    def ablate(self, model: TransformerBridge) -> AbstractContextManager[None]:
        """Inside the context the states at the layer and site have no component along the direction.

        The component is set to the midpoint of the two classes (``offset``), not to 0: states lie
        far from the origin, and it is the difference between the classes that is to go.

        Raises:
            InterpError: another model or processing mode, or site ``resid_mid``.
        """
        self.require(model)
        return ablate_vectors(model, [(self.site, self.layer, self.vector, self.offset)])


@dataclass(frozen=True, eq=False)
class DirectionStack:
    """One direction per layer of one site, fitted by one method on one data set.

    ``auc`` is the held-out ROC-AUC per layer (an :class:`~interp.stats.Interval` over layers,
    corrected repeated cross-validation), ``shuffled`` the same under shuffled labels.
    """

    vectors: Float[Tensor, "layer d_model"]
    scales: Float[Tensor, " layer"]
    offsets: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    site: Site
    facts: DirectionFacts
    auc: Interval
    shuffled: ShuffledNull

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> Direction:
        if layer not in self.layers:
            raise InterpError(f"no direction at layer {layer}; fitted at {list(self.layers)}")
        k = self.layers.index(layer)
        scale, offset = float(self.scales[k]), float(self.offsets[k])
        return Direction(self.vectors[k], scale, offset, layer, self.site, self.facts)

    def __iter__(self) -> Iterator[Direction]:
        return (self[layer] for layer in self.layers)

    @property
    def best_row(self) -> int:
        """Where :attr:`best_layer` stands among ``layers``, and so in every array over layers."""
        return int(np.argmax(self.auc.estimate))

    @property
    def best_layer(self) -> int:
        """The layer with the highest held-out AUC: selected on labelled sentences only."""
        return self.layers[self.best_row]

    @property
    def best(self) -> Direction:
        """The direction at :attr:`best_layer`."""
        return self[self.best_layer]

    @property
    def layers_at_chance(self) -> tuple[int, ...]:
        """Layers at which it does not separate held-out sentences, so that no shift along it is read.

        There the interval of the AUC does not lie above .5, or shuffled labels do as well (p of .05 or
        more, family-wise over layers).
        """
        found = zip(self.layers, self.auc.low, self.shuffled.p, strict=True)
        return tuple(layer for layer, low, p in found if not low > 0.5 or p >= ALPHA)

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
        self.facts.require(model)

    def ablate(self, model: TransformerBridge) -> AbstractContextManager[None]:
        """:meth:`Direction.ablate` at every layer, each with its own vector."""
        self.require(model)
        return ablate_vectors(model, [(v.site, v.layer, v.vector, v.offset) for v in self])

    def to_dataframe(self) -> pd.DataFrame:
        """One row per layer: held-out AUC with its interval, its null, scale and offset.

        Columns: ``layer``, the interval's under the name ``auc`` (:mod:`interp.stats.columns`), the mean
        and central 95 % of AUCs under shuffled labels (``shuffled``, ``shuffled_low``,
        ``shuffled_high``), ``p`` of the AUC among them, ``scale`` and ``offset``.
        """
        return pd.DataFrame(
            {
                "layer": self.layers,
                **interval_columns(self.auc, "auc"),
                "shuffled": self.shuffled.mean,
                "shuffled_low": self.shuffled.low,
                "shuffled_high": self.shuffled.high,
                "p": self.shuffled.p,
                "scale": self.scales.tolist(),
                "offset": self.offsets.tolist(),
            }
        )

    def describe(self) -> pd.DataFrame:
        """What a direction says about itself: ``property`` and ``value``, text both."""
        facts, null = self.facts, self.shuffled
        row = self.best_row
        shuffled = (
            f"{null.mean[row]:.3f} [{null.low[row]:.3f}, {null.high[row]:.3f}], p = "
            f"{null.p[row]:.3g} ({null.n_shuffles} shuffles)"
            if null.n_shuffles
            else "not shuffled"
        )
        rows = [
            ("method", facts.method),
            ("learned from", f"{facts.n_texts} texts of {facts.source}"),
            ("data hash", facts.data_hash),
            ("sign", facts.sign),
            ("site", self.site),
            ("layers", f"{self.layers[0]} to {self.layers[-1]} ({len(self)})"),
            ("width", str(self.vectors.shape[-1])),
            ("weights", facts.fingerprint),
            ("processing mode", facts.mode),
            ("best layer", str(self.best_layer)),
            ("held-out AUC there", str(self.auc.at(row))),
            ("under shuffled labels", shuffled),
        ]
        return pd.DataFrame(rows, columns=["property", "value"])

    def __repr__(self) -> str:
        facts = self.facts
        return (
            f"{facts.method} direction of {facts.source} at {self.site}: {len(self)} layers, "
            f"{facts.n_texts} texts, best at layer {self.best_layer} (AUC "
            f"{np.max(self.auc.estimate):.3f})"
        )

    def _repr_html_(self) -> str:
        layers = self.to_dataframe().drop(columns=interval_column_names("auc")[3:])
        return html_paragraph(repr(self), bold=True) + html_table(layers, decimals=3)

    def tensors(self) -> dict[str, Tensor]:
        """What the file holds, by name."""
        auc, null = self.auc, self.shuffled
        return {
            "vectors": self.vectors.contiguous(),
            "scales": self.scales,
            "offsets": self.offsets,
            "auc": torch.tensor(np.stack([auc.estimate, auc.low, auc.high, auc.se, auc.df, auc.p])),
            "shuffled": torch.tensor(np.stack([null.mean, null.low, null.high, null.p])),
        }

    def metadata(self) -> dict[str, str]:
        """The facts of its making, as the file's header."""
        header: dict[str, Any] = {
            "layers": list(self.layers),
            "site": self.site,
            "facts": asdict(self.facts),
            "n_shuffles": self.shuffled.n_shuffles,
            "auc": {
                "n": np.asarray(self.auc.n).tolist(),
                "n_clusters": np.asarray(self.auc.n_clusters).tolist(),
                "reason": np.asarray(self.auc.reason).tolist(),
                "confidence": self.auc.confidence,
                "method": self.auc.method,
            },
        }
        return {HEADER: json.dumps(header)}

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
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _from_file(header, tensors)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise no_direction(path) from error


def _from_file(header: dict[str, Any], tensors: dict[str, Tensor]) -> DirectionStack:
    estimate, low, high, se, df, p_auc = (row.numpy() for row in tensors["auc"])
    mean, null_low, null_high, p = (row.numpy() for row in tensors["shuffled"])
    auc = header["auc"]
    return DirectionStack(
        vectors=tensors["vectors"],
        scales=tensors["scales"],
        offsets=tensors["offsets"],
        layers=tuple(header["layers"]),
        site=header["site"],
        facts=DirectionFacts(**header["facts"]),
        auc=Interval(
            estimate=estimate,
            low=low,
            high=high,
            n=np.array(auc["n"]),
            n_clusters=np.array(auc["n_clusters"]),
            confidence=auc["confidence"],
            reason=np.array(auc["reason"]),
            method=auc["method"],
            se=se,
            df=df,
            p=p_auc,
        ),
        shuffled=ShuffledNull(mean, null_low, null_high, p, header["n_shuffles"]),
    )
