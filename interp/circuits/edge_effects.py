"""The effect of patching single edges of one pair, exact or estimated.

An edge is patched alone, at all positions: its receiver reads, in the destination's run, the stream in
which the sender gives what it gives in the source's run.

``exact``: a run per edge. ``attribution``: the derivative of the metric by how much of the sender's
difference the receiver reads, at 0, which is (source - destination) of what the sender writes times the
gradient at the receiver's input (EAP, edge attribution patching, arXiv 2310.10348). ``steps`` takes the
gradient's mean on the way of the embeddings from the destination's to the source's, with the same
differences ("EAP-IG inputs", arXiv 2403.17806). ``relp``: the coefficients of relevance propagation in
the gradient's place (:mod:`interp.patching.relevance`).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs, record_outputs
from interp.circuits.edges import EdgeGraph
from interp.circuits.runs import edge_batch, run_pair
from interp.circuits.streams import Streams, require_edges
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading
from interp.patching.gradients import require_gradient, require_rules, rules_of
from interp.patching.hooked import require_one_prompt
from interp.patching.metrics import Metric, apply_metrics, reading_of
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair
from interp.stats import FloatArray

_EDGES_AT_ONCE = 512
"""Edges whose circuits are made at once: each is a row over all edges."""

_BATCH_SIZE = 128
"""Runs in one forward where memory allows."""

_GRAPH = 4
"""What a run with its graph takes, in runs without."""


@torch.no_grad()
def exact_edge_effects(
    model: TransformerBridge, pair: PromptPair, metrics: dict[str, Metric]
) -> FloatArray:
    """The effect ``[edge]`` of every edge, patched alone from source into destination."""
    n = EdgeGraph.of(model).n_edges
    # The destination's run with one edge from the source is the circuit of all edges but that one in
    # the destination's run, resampled from the source.
    swapped, effects = pair.swap(), np.empty(n)
    for start in range(0, n, _EDGES_AT_ONCE):
        some = np.arange(start, min(n, start + _EDGES_AT_ONCE))
        masks = np.ones((len(some) + 1, n), dtype=bool)
        masks[np.arange(len(some)), some] = False
        values = run_pair(model, swapped, masks, "edges", metrics, "resample", None, _BATCH_SIZE)
        effects[some] = values[:-1] - values[-1]
    return effects


@torch.inference_mode(False)  # gradients are needed, whatever mode the caller is in
def estimated_edge_effects(
    model: TransformerBridge,
    pair: PromptPair,
    metrics: dict[str, Metric],
    steps: int = 1,
    method: AttributionMethod = "gradient",
) -> FloatArray:
    """First-order estimates ``[edge]`` of :func:`exact_edge_effects`, in one backward for many steps.

    Raises:
        InterpError: a metric without a gradient; a model that RelP has no rules for.
    """
    source, destination = (
        reading_of(p.ids, pair, metrics) for p in (pair.source, pair.destination)
    )
    require_one_prompt(model, destination)
    require_edges(model, destination.prompt)
    require_rules(model, method, destination.prompt)
    there, here = (
        [record_outputs(model, forward.ids) for forward in reading.forwards]
        for reading in (source, destination)
    )
    differences = [a.minus(b) for a, b in zip(there, here, strict=True)]
    shares = torch.zeros(1) if steps == 1 else (torch.arange(steps) + 0.5) / steps
    longest = max(len(forward.ids) for forward in destination.forwards)
    effects = torch.zeros(EdgeGraph.of(model).n_edges, dtype=torch.float64)
    for some in shares.split(max(1, edge_batch(model, longest) // _GRAPH)):
        path = some[:, None, None].to(here[0].embed)  # its device, and its type
        embeddings = [b.embed + path * c.embed for b, c in zip(here, differences, strict=True)]
        gradient = _gradient(model, pair, destination, differences, embeddings, metrics, method)
        effects += gradient.double().cpu() / steps
    require_finite(effects, "the gradient", f"an edge of {pair.label}")
    found: FloatArray = effects.numpy()
    return found


def _gradient(
    model: TransformerBridge,
    pair: PromptPair,
    reading: Reading,
    differences: list[NodeOutputs],
    embeddings: list[Tensor],
    metrics: dict[str, Metric],
    method: AttributionMethod,
) -> Float[Tensor, " edge"]:
    """Derivative of the metric by the share of every difference that is read, at none.

    Summed over the steps of the path, whose ``embeddings`` are ``[step, pos, d_model]`` per forward.
    """
    device, n = model.cfg.device, len(embeddings[0])
    gone = torch.zeros(n, EdgeGraph.of(model).n_edges, device=device, requires_grad=True)
    logits = []
    with torch.enable_grad():
        for forward, read, put, start in zip(
            reading.forwards, reading.reads(), differences, embeddings, strict=True
        ):
            streams = Streams(model, gone, put, fixed=True, embeddings=start)
            reset_rope(model)
            # copies, because a tensor that was made under inference_mode can be in no graph
            ids, rows = forward.ids.clone().expand(n, -1).to(device), read.clone().to(device)
            with model.hooks(fwd_hooks=streams.hooks()), rules_of(model, method):
                logits.append(wrapped_logits(model, ids, logits_to_keep=rows).float())
        values = apply_metrics(metrics, torch.cat(logits, dim=1), pair)
        name, value = next(iter(values.items()))
        require_gradient(name, value)
        return torch.autograd.grad(value.sum(), gone)[0].sum(0)
