"""Identities measured on the run's own model and prompts: what every other number rests on."""

from __future__ import annotations

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name
from interp.models import Write, forward
from interp.patching import ALL, sweep
from interp.prompts import PromptPair


def measure_identities(model: TransformerBridge, pair: PromptPair) -> pd.DataFrame:
    """Three identities of one pair: the name, the largest deviation, and its unit."""
    rows = [
        (
            "states before the instruction are the same in two separate runs",
            _largest_early_difference(model, pair),
            "of the row's norm",
        ),
        (
            "writing a run's own states back changes nothing",
            _self_patch(model, pair),
            "nats of margin",
        ),
        (
            "patching everything from the first difference on gives the source run",
            _patch_everything(model, pair),
            "nats of margin",
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


def _self_patch(model: TransformerBridge, pair: PromptPair) -> float:
    ids = pair.destination.ids
    last = len(ids) - 1
    positions = torch.arange(len(ids))
    name = hook_name(model, "resid_pre", model.cfg.n_layers // 2)
    plain = forward(
        model, [ids], logits_at=[(0, last)], read={name: [(0, p) for p in range(last + 1)]}
    )
    write = Write(name, 0, positions, plain.states[name])
    patched = forward(model, [ids], logits_at=[(0, last)], writes=[write], share_until=0)
    return abs(_margin(patched.logits, pair) - _margin(plain.logits, pair))


def _patch_everything(model: TransformerBridge, pair: PromptPair) -> float:
    """The largest gap to the source's margin over all layers; NaN when lengths differ."""
    if not pair.alignment.by_index:
        return float("nan")
    layers = sorted({0, model.cfg.n_layers // 2, model.cfg.n_layers - 1})
    result = sweep(model, pair, spans=[ALL], layers=layers, progress=False)
    return float((result.values - result.source_baseline).abs().max())


def _margin(logits: torch.Tensor, pair: PromptPair) -> float:
    assert pair.target is not None  # the demo looks only into pairs with a margin
    return float(logits[0, pair.target.a] - logits[0, pair.target.b])
