"""Runs of a model in which only a circuit's nodes or edges speak for the source prompt.

The source prompt (the instructed one) is run with the outputs of all nodes outside the circuit replaced
(:mod:`interp.circuits.ablation`) at every position. The embeddings always stay the source's, so the
empty circuit is not the placebo's run: what it answers is measured.

Of a circuit of edges every node computes its output in this run, and along an edge outside the circuit
its receiver reads the replacement (:mod:`interp.circuits.streams`). The embedding's edges are edges too,
so that the empty circuit with ``resample`` is the placebo's run. A circuit of all edges but those out
of some nodes is the circuit of nodes without these.

Many circuits of one pair are one batch: they are rows of the same prompt, so nothing is padded. Memory:
one pair at a time; the outputs of its nodes, and the activations of ``batch_size`` runs, of edges as
many as have 1 GB of differences together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import (
    NodeOutputs,
    ablated_outputs,
    mean_outputs,
    require_ablation,
)
from interp.circuits.names import Ablation, UnitKind
from interp.circuits.streams import Streams, require_edges
from interp.circuits.units import CircuitMasks, n_units
from interp.display import short_repr
from interp.errors import InterpError
from interp.models.by_row import hooks_act_by_row
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import OwnForward
from interp.patching.hooked import hook_of, require_one_prompt
from interp.patching.metrics import (
    Metric,
    evaluate_metrics,
    named_metrics,
    reading_of,
    require_target,
)
from interp.prompts import PromptPair
from interp.stats import FloatArray, Interval, random_wordings
from interp.stats import share as share_of

BATCH_SIZE = 16

_EDGE_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class CircuitRuns:
    """The metric of some circuits on some pairs, with both ends.

    ``values`` ``[circuit, pair]``; ``full`` and ``empty`` ``[pair]`` are the circuits of all nodes (the
    model itself on the source prompt) and of none. In the metric's unit (nats for the margin, which is
    the logit difference). ``clusters`` and ``wordings`` name the cluster of items and the pair of
    wordings of every pair.
    """

    values: FloatArray
    full: FloatArray
    empty: FloatArray
    pair_labels: tuple[str, ...]
    clusters: tuple[str, ...]
    wordings: tuple[str, ...]
    metric: str = "margin"
    ablation: Ablation = "resample"

    __repr__ = short_repr

    def faithfulness(self) -> FloatArray:
        """Of the means, ``[circuit]``: (m(circuit) - m(empty)) / (m(full) - m(empty)); NaN for 0 / 0."""
        return _ratio((self.values - self.empty).mean(-1), (self.full - self.empty).mean())

    def faithfulness_per_pair(self) -> FloatArray:
        """Of every pair, ``[circuit, pair]``; NaN where its full and empty circuits answer alike."""
        return _ratio(self.values - self.empty, self.full - self.empty)

    def interval(self) -> Interval:
        """Fieller's interval of :meth:`faithfulness`; clusters and wordings are random.

        NaN with a reason where m(full) - m(empty) does not differ from 0.
        """
        return self.share(self.values - self.empty)

    def share(self, values: FloatArray) -> Interval:
        """mean(values) / mean(full - empty) of ``values [..., pair]``, with Fieller's interval."""
        wordings = random_wordings(self.wordings)
        return share_of(values, self.full - self.empty, self.clusters, wordings)

    def of(self, circuits: slice | Sequence[int]) -> CircuitRuns:
        """The runs of some of the circuits."""
        return CircuitRuns(
            self.values[circuits],
            self.full,
            self.empty,
            self.pair_labels,
            self.clusters,
            self.wordings,
            self.metric,
            self.ablation,
        )


@torch.no_grad()
def run_circuits(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    circuits: CircuitMasks,
    *,
    unit: UnitKind = "nodes",
    ablation: Ablation = "resample",
    means: NodeOutputs | None = None,
    metric: str | Metric = "margin",
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> CircuitRuns:
    """Run the source prompt of every pair with each circuit, all other nodes or edges ablated.

    Args:
        model: a bridge in evaluation mode.
        pairs: source (the instructed prompt) and destination (its placebo).
        circuits: rows over :func:`circuit_nodes` or :func:`circuit_edges`, ``[circuit, unit]``, true
            for those that are kept.
        unit: which of the two.
        ablation: what the other nodes' outputs become, see :mod:`interp.circuits.ablation`.
        means: of ``"mean"``, to take them from other pairs; by default those of these pairs.
        metric: as in a sweep, one of them.
        batch_size: how many circuits run in one forward.
        progress: show a bar.

    Raises:
        InterpError: see :func:`interp.circuits.ablation.require_ablation`; circuits that are no rows
            over the model's nodes or edges; several metrics; a pair without what the metric reads;
            edges of a model whose stream is not the sum of its nodes (:func:`require_edges`).
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    if several:
        raise InterpError(f"circuits are run with one metric, not {len(metrics)}: name one")
    masks = _require_masks(circuits, n_units(model, unit), unit)
    if batch_size < 1:
        raise InterpError(f"batch_size is {batch_size}: at least one circuit runs at a time")
    require_ablation(model, pairs, ablation)
    require_target(model, pairs, metrics)
    if ablation == "mean" and means is None:
        means = mean_outputs(model, pairs)
    n = masks.shape[1]
    ends = np.stack([np.zeros(n, dtype=bool), np.ones(n, dtype=bool)])
    # Equal circuits run once. So the ends of a curve are the very numbers that it is measured by, and
    # its faithfulness there is 0 and 1 exactly.
    distinct, index = np.unique(np.concatenate([ends, masks]), axis=0, return_inverse=True)
    columns = []
    for pair in tqdm(pairs, desc="circuits", disable=not progress):
        found = run_pair(model, pair, distinct, unit, metrics, ablation, means, batch_size)
        columns.append(found[index.reshape(-1)])
    values = np.stack(columns, axis=-1)
    return CircuitRuns(
        values=values[2:],
        full=values[1],
        empty=values[0],
        pair_labels=tuple(pair.label for pair in pairs),
        clusters=tuple(p.item.cluster if p.item else str(k) for k, p in enumerate(pairs)),
        wordings=tuple(pair.wording for pair in pairs),
        metric=next(iter(metrics)),
        ablation=ablation,
    )


def run_pair(
    model: TransformerBridge,
    pair: PromptPair,
    masks: CircuitMasks,
    unit: UnitKind,
    metrics: dict[str, Metric],
    ablation: Ablation,
    means: NodeOutputs | None,
    batch_size: int,
) -> FloatArray:
    """The metric of every circuit on one pair, ``[circuit]``."""
    source, destination = (
        reading_of(p.ids, pair, metrics) for p in (pair.source, pair.destination)
    )
    require_one_prompt(model, source)
    if unit == "edges":
        require_edges(model, source.prompt)
        batch_size = min(
            batch_size, edge_batch(model, max(len(each.ids) for each in source.forwards))
        )
    # a hook of the user's may address the first row of a batch, say
    if not hooks_act_by_row(model, [source.prompt]):
        batch_size = 1
    outputs = ablated_outputs(model, ablation, source, destination, means)
    forwards = list(zip(source.forwards, source.reads(), outputs, strict=True))
    found = []
    for start in range(0, len(masks), batch_size):
        kept = torch.from_numpy(masks[start : start + batch_size])
        logits = [
            _logits(model, forward, read, len(kept), _hooks(model, unit, put, kept))
            for forward, read, put in forwards
        ]
        found.append(evaluate_metrics(metrics, torch.cat(logits, dim=1), pair)[0])
    values = torch.cat(found)
    require_finite(values, "the metric", f"a circuit of {pair.label}")
    return values.double().numpy()


def edge_batch(model: TransformerBridge, n: int) -> int:
    """How many circuits' differences of ``n`` positions fit into memory."""
    cfg = model.cfg
    senders = 1 + int(cfg.n_layers) * (int(cfg.n_heads) + 1)
    return max(1, _EDGE_BYTES // (senders * n * int(cfg.d_model) * cfg.dtype.itemsize))


def _logits(
    model: TransformerBridge,
    forward: OwnForward,
    read: Tensor,
    n_circuits: int,
    hooks: list[tuple[str, Callable[..., Any]]],
) -> Float[Tensor, "circuit read d_vocab"]:
    """Logits of a batch of circuits."""
    device = model.cfg.device
    reset_rope(model)
    with model.hooks(fwd_hooks=hooks):
        ids = forward.ids[None].expand(n_circuits, -1).to(device)
        return wrapped_logits(model, ids, logits_to_keep=read.to(device)).float()


def _hooks(
    model: TransformerBridge, unit: UnitKind, put: NodeOutputs, kept: Bool[Tensor, "circuit unit"]
) -> list[tuple[str, Callable[..., Any]]]:
    if unit == "edges":
        return Streams(model, (~kept).float().to(model.cfg.device), put).hooks()
    return circuit_hooks(put, kept.reshape(len(kept), int(model.cfg.n_layers), -1))


def circuit_hooks(
    outputs: NodeOutputs, kept: Bool[Tensor, "circuit layer slot"]
) -> list[tuple[str, Callable[..., Tensor]]]:
    """TransformerLens hooks that put ``outputs`` in the place of every node that is not kept.

    ``slot`` goes over a layer's heads, then its MLP.
    """
    hooks = []
    for layer in range(kept.shape[1]):
        heads, mlp = kept[:, layer, :-1], kept[:, layer, -1]
        if not bool(heads.all()):
            own = _putting(outputs.z[layer][None], heads[:, None, :, None])
            hooks.append((hook_of("z", layer), own))
        if not bool(mlp.all()):
            own = _putting(outputs.mlp_out[layer][None], mlp[:, None, None])
            hooks.append((hook_of("mlp_out", layer), own))
    return hooks


def _putting(values: Tensor, kept: Tensor) -> Callable[..., Tensor]:
    def write(activation: Tensor, hook: Any) -> Tensor:
        return torch.where(kept.to(activation.device), activation, values.to(activation))

    return write


def _require_masks(circuits: CircuitMasks, n: int, unit: UnitKind) -> CircuitMasks:
    masks = np.asarray(circuits)
    if masks.dtype != np.bool_ or masks.ndim != 2 or masks.shape[1] != n:
        raise InterpError(
            f"circuits are {masks.dtype} {list(masks.shape)}: give booleans [circuit, {n}], a column "
            f"for each of circuit_{unit}(model)"
        )
    return masks


def _ratio(above: FloatArray, below: FloatArray | np.floating[Any]) -> FloatArray:
    above, below = np.broadcast_arrays(above, below)
    found = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return found + 0.0  # 0 / -1 is -0
