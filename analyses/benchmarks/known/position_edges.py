"""Edges between positions of trained models: who reads whom in block 0, by every method.

What a variable at a position behind block 0 holds of another position has come through the attention
of block 0; which head brought it was for training to choose, the positions were not. So an edge leads
from one position to a later one. Patched alone, the later position's queries meet the keys and values
that the earlier one has in the other prompt, and everybody else reads what it always did (path patching,
arXiv 2304.05969)::

    moved[p, q] = attention out at q, with the source's keys and values at p, less its own

Exact patching adds ``moved[p, q]`` and runs on. Attribution takes its product with the gradient at the
attention's output (EAP, arXiv 2310.10348), integrated gradients the gradient's mean on the way of the
embeddings from destination to source (arXiv 2403.17806), RelP its coefficient there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations, islice
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.scored import Scores, by_method, scored_rows
from interp.known import ToyTask, TrainedTruth
from interp.known.task import INSTRUCTION, LAYOUT
from interp.known.trained_truth import TOLERANCE
from interp.patching.gradients import require_rules, rules_of
from interp.patching.hooked import hook_of
from interp.patching.sites import AttributionMethod
from interp.prompts import MarginTarget, PromptPair, make_pair
from interp.stats import rng

EDGES = tuple(combinations(range(INSTRUCTION, len(LAYOUT)), 2))
"""All (from, to) but those from the BOS, which is the same in all prompts."""

_KEYS_AND_VALUES = [hook_of(site, 0) for site in ("k", "v")]
_OUT = hook_of("attn_out", 0)
_START = hook_of("resid_pre", 0)

DECIMALS = 1
"""Of a mean effect in nats: a variable is worth 3, and training leaves a few hundredths."""


def position_edge_rows(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth, *, n_pairs: int
) -> list[dict[str, object]]:
    """One row per method: how well the mean sizes of effects tell the true edges of :data:`EDGES`."""
    pairs = _pairs(model, task, truth, n_pairs)
    found = by_method(model, pairs, exact=exact, estimate=estimate)
    true = pd.Series([edge in truth.edges for edge in EDGES])
    return scored_rows(f"{task.name} {task.seed}", found, true)


def exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> Scores:
    """Every edge alone from the source run into the destination (denoising)."""
    return _sizes(_patched(model, *_prompts(pairs)))


def estimate(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    method: AttributionMethod = "gradient",
    steps: int = 1,
) -> Scores:
    """The same to first order; with more steps by the mean gradient at midpoints of the path."""
    require_rules(model, method, pairs[0].destination.ids)
    return _sizes(_estimated(model, *_prompts(pairs), method=method, steps=steps))


def _pairs(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth, n: int
) -> list[PromptPair]:
    """Of trained prompts, drawn at random, to which the program gives different answers."""
    told = truth.answers
    drawn = rng(task.seed, "edge pairs", task.name).permutation(len(told) ** 2)
    both = ((told[int(k) // len(told)], told[int(k) % len(told)]) for k in drawn)
    apart = ((a, b) for (a, one), (b, other) in both if abs(one - other) > TOLERANCE)
    return [
        make_pair(model, *map(task.ids, tokens), target=task.target, spans=task.spans)
        for tokens in islice(apart, n)
    ]


def _prompts(pairs: Sequence[PromptPair]) -> tuple[Tensor, Tensor, MarginTarget]:
    """Destinations and sources ``[pair, pos]``, and their margin's tokens."""
    bases, sources = (
        torch.stack([prompt.ids for prompt in side])
        for side in ([p.destination for p in pairs], [p.source for p in pairs])
    )
    target = pairs[0].target
    assert target is not None  # every pair of a task has the same one
    return bases, sources, target


def _sizes(effects: Float[Tensor, "pair edge"]) -> Scores:
    return pd.Series(effects.abs().mean(0).double().numpy()).round(DECIMALS)


@torch.no_grad()
def _moved(
    model: TransformerBridge, bases: Int[Tensor, "pair pos"], sources: Int[Tensor, "pair pos"]
) -> Float[Tensor, "pair edge d_model"]:
    """What every edge alone changes of block 0's attention output, at the position where it ends."""
    _, there = model.run_with_cache(sources, names_filter=lambda name: name in _KEYS_AND_VALUES)
    _, here = model.run_with_cache(bases, names_filter=lambda name: name == _OUT)
    found = {}
    for p in {p for p, _ in EDGES}:

        def read_source(activation: Tensor, hook: Any, name: str, p: int = p) -> Tensor:
            changed = activation.clone()
            changed[:, p] = there[name][:, p]
            return changed

        hooks = [(name, partial(read_source, name=name)) for name in _KEYS_AND_VALUES]
        with model.hooks(fwd_hooks=hooks):
            _, cache = model.run_with_cache(bases, names_filter=lambda name: name == _OUT)
        found[p] = cache[_OUT] - here[_OUT]
    return torch.stack([found[p][:, q] for p, q in EDGES], dim=1)


@torch.no_grad()
def _patched(
    model: TransformerBridge, bases: Tensor, sources: Tensor, target: MarginTarget
) -> Float[Tensor, "pair edge"]:
    """The margin's change in a run of the bases with one edge from the sources."""
    moved = _moved(model, bases, sources)
    own = _margins(target, model(bases))
    effects = []
    for (_, q), step in zip(EDGES, moved.unbind(1), strict=True):

        def add(activation: Tensor, hook: Any, q: int = q, step: Tensor = step) -> Tensor:
            changed = activation.clone()
            changed[:, q] += step
            return changed

        effects.append(_margins(target, model.run_with_hooks(bases, fwd_hooks=[(_OUT, add)])) - own)
    return torch.stack(effects, dim=1)


def _estimated(
    model: TransformerBridge,
    bases: Tensor,
    sources: Tensor,
    target: MarginTarget,
    *,
    method: AttributionMethod,
    steps: int,
) -> Float[Tensor, "pair edge"]:
    """First-order estimates of those changes."""
    moved = _moved(model, bases, sources)
    with torch.no_grad():
        start, end = (
            model.run_with_cache(ids, names_filter=lambda name: name == _START)[1][_START]
            for ids in (bases, sources)
        )
    shares = [0.0] if steps == 1 else [(k + 0.5) / steps for k in range(steps)]
    points = [start + share * (end - start) for share in shares]
    found = [_gradient(model, target, bases, point, method) for point in points]
    ends = [q for _, q in EDGES]
    return (torch.stack(found).mean(0)[:, ends] * moved).sum(-1)


def _gradient(
    model: TransformerBridge,
    target: MarginTarget,
    ids: Tensor,
    embeddings: Tensor,
    method: AttributionMethod = "gradient",
) -> Float[Tensor, "pair pos d_model"]:
    """Of the margin, at block 0's attention output, in a run from given embeddings."""
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> Tensor:
        kept.append(activation.detach().requires_grad_())
        return kept[-1]

    hooks = [(_START, lambda activation, hook: embeddings), (_OUT, keep)]
    with torch.enable_grad():
        with rules_of(model, method):
            logits = model.run_with_hooks(ids, fwd_hooks=hooks)
        (gradient,) = torch.autograd.grad(_margins(target, logits).sum(), kept)
    return gradient


def _margins(
    target: MarginTarget, logits: Float[Tensor, "pair pos d_vocab"]
) -> Float[Tensor, " pair"]:
    return logits[:, -1, target.a] - logits[:, -1, target.b]
