"""Identities of one pair, measured on its own model: what every patching result of it rests on.

Three statements that hold exactly in real arithmetic, each with the largest deviation found:

- the states before the first differing token are the same in two separate runs (causal masking, and
  no other source of chance), relative to the norm of a state;
- writing a run's own states back changes nothing, in nats of the metric (the pair's margin or logit
  difference, or its option margin, which is in nats per token);
- patching every position from the first difference on gives the source run, in the same unit. Only
  where both prompts align by index: otherwise there is nothing to compare with, and it is NaN. (The
  option margin at the first layer only: the options' own rows are not patched, and have read the
  unpatched prompt in the layers below a later one.)

A deviation far above rounding (:data:`TOLERANCE`) means that hooks, caches or the model itself do not
do what patching assumes. Cost: about ten forwards.

    measure_identities(model, pair)
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name
from interp.errors import InterpError
from interp.models import Write, forward
from interp.patching.metrics import (
    Metric,
    evaluate_metrics,
    named_metrics,
    reading_of,
    reads_options,
    require_target,
)
from interp.patching.positions import ALL
from interp.patching.sites import MetricName
from interp.patching.sweep import sweep
from interp.prompts import PromptPair

TOLERANCE = 1e-3
"""A deviation above this is no rounding, in nats of the metric (or of a state's norm)."""


def measure_identities(
    model: TransformerBridge, pair: PromptPair, *, metric: MetricName = "margin"
) -> pd.DataFrame:
    """Three identities of one pair, a row each: ``identity``, ``largest deviation`` and its ``unit``.

    Raises:
        InterpError: a pair without a target, whose margin is not defined; without options, for the
            option margin; an unknown metric.
    """
    metrics, _ = named_metrics(metric)
    if pair.target is None and not reads_options(metrics):
        raise InterpError(
            "the pair has no target, so no margin that could deviate: give make_pair an item with a "
            "margin, or target=(a, b)"
        )
    require_target(model, [pair], metrics)
    unit = f"nats of {metric.replace('_', ' ')}"
    rows = [
        (
            "states before the instruction are the same in two separate runs",
            _largest_early_difference(model, pair),
            "of the row's norm",
        ),
        (
            "writing a run's own states back changes nothing",
            _self_patch(model, pair, metrics),
            unit,
        ),
        (
            "patching everything from the first difference on gives the source run",
            _patch_everything(model, pair, metric),
            unit,
        ),
    ]
    return pd.DataFrame(rows, columns=["identity", "largest deviation", "unit"])


def _largest_early_difference(model: TransformerBridge, pair: PromptPair) -> float:
    """Over all layers and positions before the first differing token; 0 when there are none."""
    first = pair.alignment.first_difference or 0
    if first == 0:
        return 0.0
    names = [hook_name(model, "resid_post", layer) for layer in range(model.cfg.n_layers)]
    places = [(0, position) for position in range(first)]
    runs = [
        forward(model, [prompt.ids], read=dict.fromkeys(names, places)).states
        for prompt in (pair.source, pair.destination)
    ]
    worst = 0.0
    for name in names:
        difference = (runs[0][name] - runs[1][name]).norm(dim=-1)
        worst = max(worst, float((difference / runs[1][name].norm(dim=-1)).max()))
    return worst


def _self_patch(model: TransformerBridge, pair: PromptPair, metrics: Mapping[str, Metric]) -> float:
    """The change of the metric when a middle layer's states are overwritten with themselves."""
    reading = reading_of(pair.destination.ids, pair, metrics)
    name = hook_name(model, "resid_pre", model.cfg.n_layers // 2)
    plain, patched = [], []
    for own, read in zip(reading.forwards, reading.reads(), strict=True):
        at = [(0, int(position)) for position in read]
        everywhere = [(0, position) for position in range(len(own.ids))]
        run = forward(model, [own.ids], logits_at=at, read={name: everywhere})
        write = Write(name, 0, torch.arange(len(own.ids)), run.states[name])
        plain.append(run.logits)
        patched.append(
            forward(model, [own.ids], logits_at=at, writes=[write], share_until=0).logits
        )
    both = torch.stack([torch.cat(plain), torch.cat(patched)])
    (values,) = evaluate_metrics(metrics, both, pair)
    return abs(float(values[1] - values[0]))


def _patch_everything(model: TransformerBridge, pair: PromptPair, metric: MetricName) -> float:
    """The largest gap to the source's metric at three layers; NaN when lengths differ."""
    if not pair.alignment.by_index:
        return float("nan")
    layers = sorted({0, model.cfg.n_layers // 2, model.cfg.n_layers - 1})
    metrics, _ = named_metrics(metric)
    if reading_of(pair.destination.ids, pair, metrics).branches:
        layers = [0]  # later, the options' rows have read the unpatched prompt in the layers below
    result = sweep(model, pair, spans=[ALL], layers=layers, metric=metric, progress=False)
    return float((result.values - result.source_baseline).abs().max())
