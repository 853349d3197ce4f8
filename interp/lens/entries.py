"""The residual stream's entries at chosen places of many prompts, and their check.

An entry is the state that enters a block, or leaves the last one: ``n_layers + 1`` of them, the
embedding first. Prompts run through :func:`interp.models.forward`, so that what they share is computed
once and no logits are made but those asked for; TransformerLens's
:func:`~transformer_lens.tools.analysis.logit_readout` takes entries through the final norm, the
unembedding and the soft cap. That this is the way the model itself takes is checked in every forward,
on its own logits: TransformerLens's ``logit_lens`` does so one prompt at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import logit_readout

from interp.activations.hooks import hook_name
from interp.errors import InterpError, first_line
from interp.models import forward
from interp.models.forward import Place

OWN_OUTPUT = 0.1
"""How far the last entry's read-out may lie from the model's own logits, of their spread: what rounding
does in half precision stays far below, a transform that is left out above (TransformerLens's bound)."""


@torch.no_grad()
def stream_entries(
    model: TransformerBridge, sequences: Sequence[Int[Tensor, " _pos"]], places: Sequence[Place]
) -> Float[Tensor, "entry place d_model"]:
    """Every entry of the stream at these places ``(sequence, position)``; float32, on the CPU.

    Raises:
        InterpError: a sequence or place that does not exist, or a model whose output is not the
            unembedding of its last norm.
    """
    last = int(model.cfg.n_layers) - 1
    names = [hook_name(model, "resid_pre", layer) for layer in range(last + 1)]
    names.append(hook_name(model, "resid_post", last))
    first_places = list({sequence: (sequence, at) for sequence, at in reversed(places)}.values())
    out = forward(model, sequences, logits_at=first_places, read=dict.fromkeys(names, places))
    entries = torch.stack([out.states[name] for name in names])
    checked = entries[-1][[places.index(place) for place in first_places]]
    _require_own_output(model, checked, out.logits)
    return entries


def read_out(
    model: TransformerBridge,
    entries: Float[Tensor, "entry place d_model"],
    targets: Int[Tensor, " place"] | None = None,
    *,
    values: Literal["logits", "log_probs"] = "logits",
) -> Float[Tensor, "entry place _values"]:
    """What entries would say: of the whole vocabulary, or of one token per place; float32, on the CPU.

    Raises:
        InterpError: a model whose output is not the unembedding of its last norm.
    """
    chosen: dict[str, Any] = {} if targets is None else {"targets": targets.to(model.cfg.device)}
    try:
        result = logit_readout(model, entries, return_type=values, **chosen)
    except ValueError as error:  # its way of refusing a model
        raise _no_lens(model, first_line(error)) from error
    return result.values.float().cpu()


def _require_own_output(
    model: TransformerBridge,
    last_entries: Float[Tensor, "place d_model"],
    logits: Float[Tensor, "place d_vocab"],
) -> None:
    """Refuse a model that takes another way from its last block to its logits."""
    found = read_out(model, last_entries[None])[0]
    if found.shape != logits.shape:
        raise _no_lens(
            model, f"it has {logits.shape[-1]} logits, its unembedding {found.shape[-1]}"
        )
    if getattr(
        model, "compatibility_mode", False
    ):  # its unembedding is centred: equal up to a shift
        found, logits = found.log_softmax(-1), logits.log_softmax(-1)
    worst = float((found - logits).abs().max())
    spread = float((logits - logits.mean(-1, keepdim=True)).abs().max())
    if worst > OWN_OUTPUT * spread:
        raise _no_lens(
            model,
            "its logits are not the unembedding of its last norm: they differ by up to "
            f"{worst:.3g} where they spread over {spread:.3g}",
        )


def _no_lens(model: TransformerBridge, why: str) -> InterpError:
    return InterpError(f"no logit lens on {type(model.original_model).__name__}: {why}")
