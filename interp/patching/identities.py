"""Identities of one pair, measured on its own model: what every patching result of it rests on.

Three statements that hold exactly in real arithmetic, each with the largest deviation found:

- the states before the first differing token are the same in two separate runs (causal masking, and
  no other source of chance), relative to the norm of a state;
- writing a run's own states back changes nothing, in nats of the pair's margin (logit difference);
- patching every position from the first difference on gives the source run, in nats of margin. Only
  where both prompts align by index: otherwise there is nothing to compare with, and it is NaN.

A deviation far above rounding (1e-3) means that hooks, caches or the model itself do not do what
patching assumes. Cost: about ten forwards.

    measure_identities(model, pair)
"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name
from interp.errors import InterpError
from interp.models import Write, forward
from interp.patching.plan import ALL
from interp.patching.sweep import sweep
from interp.prompts import MarginTarget, PromptPair


def measure_identities(model: TransformerBridge, pair: PromptPair) -> pd.DataFrame:
    """Three identities of one pair, a row each: ``identity``, ``largest deviation`` and its ``unit``.

    Raises:
        InterpError: a pair without a target, whose margin is not defined.
    """
    if pair.target is None:
        raise InterpError(
            "the pair has no target, so no margin that could deviate: give make_pair an item with a "
            "margin, or target=(a, b)"
        )
    rows = [
        (
            "states before the instruction are the same in two separate runs",
            _largest_early_difference(model, pair),
            "of the row's norm",
        ),
        (
            "writing a run's own states back changes nothing",
            _self_patch(model, pair.destination.ids, pair.target),
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


def _self_patch(model: TransformerBridge, ids: Tensor, target: MarginTarget) -> float:
    """The change of the margin when a middle layer's states are overwritten with themselves."""
    last = len(ids) - 1
    positions = torch.arange(len(ids))
    name = hook_name(model, "resid_pre", model.cfg.n_layers // 2)
    plain = forward(
        model, [ids], logits_at=[(0, last)], read={name: [(0, p) for p in range(last + 1)]}
    )
    write = Write(name, 0, positions, plain.states[name])
    patched = forward(model, [ids], logits_at=[(0, last)], writes=[write], share_until=0)
    return abs(_margin(patched.logits, target) - _margin(plain.logits, target))


def _patch_everything(model: TransformerBridge, pair: PromptPair) -> float:
    """The largest gap to the source's margin at three layers; NaN when lengths differ."""
    if not pair.alignment.by_index:
        return float("nan")
    layers = sorted({0, model.cfg.n_layers // 2, model.cfg.n_layers - 1})
    result = sweep(model, pair, spans=[ALL], layers=layers, progress=False)
    return float((result.values - result.source_baseline).abs().max())


def _margin(logits: Float[Tensor, "place d_vocab"], target: MarginTarget) -> float:
    return float(logits[0, target.a] - logits[0, target.b])
