"""Compatibility mode: TransformerLens's weight processing, applied and checked.

Folding norms and centring weights must leave every predicted probability as it was. On some
architectures it does not (a layer norm folded into some of the experts only), so the log-probabilities
before and after are compared, on a few tokens, and a difference is refused.

What counts as a difference is measured too: the raw model is run again with every layer's residual
stream off by half a unit in the last place, at random signs. What this changes is the model's own
rounding error, and ten times as much is the tolerance. (Over 15 architectures processing that is
right changes 0.3 to 1.4 times as much.) In 16 bits this would be nats and hide anything, so weights in
16 bits are processed and compared in float32, and converted back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError, first_line
from interp.models.checks import Check, require_decoder, require_finite_weights
from interp.models.fingerprint import named_weights
from interp.models.limits import out_of_memory, require_finite
from interp.models.wrapped import wrapped_logits

PROCESSING_CHECK = "log-probabilities, processed = raw (nats)"

_N_TOKENS = 64  # several experts' worth
_TIMES_ROUNDING = 10
_DRAWS = 2


def process_weights(model: TransformerBridge) -> Check:
    """Put ``model`` into compatibility mode, in place; returns the check that it passed.

    Takes 4 bytes per parameter and a copy while it runs, whatever the model's dtype.

    Raises:
        InterpError: predictions changed, or the model has no such mode, or is no decoder that can
            be analysed, or a weight is not finite. The bridge is of no use then.
    """
    require_finite_weights(model)
    require_decoder(model)
    name = type(model.original_model).__name__
    try:
        with _in_float32(model):
            check = _process(model, name)
        with torch.no_grad():  # some processed modules answer in float32 whatever they are given
            wrapped_logits(model, torch.tensor([[0]], device=model.cfg.device))
    except InterpError:
        raise
    except Exception as error:  # whatever the processing of an architecture stumbles over
        reason = first_line(error)
        if out_of_memory(error):
            reason = "out of memory: it takes 4 bytes per parameter and a copy"
        raise InterpError(
            f"compatibility mode fails on {name} ({reason}): load it with compatibility_mode=False"
        ) from error
    return check


def unknown_processing() -> Check:
    """The check of a model that somebody else processed: nobody compared it with the raw one."""
    return Check(PROCESSING_CHECK, math.nan, 0.0, required=False)


@torch.no_grad()
def _process(model: TransformerBridge, name: str) -> Check:
    generator = torch.Generator().manual_seed(0)
    n_tokens = min(_N_TOKENS, model.cfg.n_ctx)
    ids = torch.randint(0, model.cfg.d_vocab, (1, n_tokens), generator=generator)
    ids = ids.to(model.cfg.device)
    raw = _log_probabilities(model, ids)
    require_finite(raw, "the logits", "the raw model")
    tolerance = _TIMES_ROUNDING * _rounding_error(model, ids, raw, generator)
    model.enable_compatibility_mode(disable_warnings=True)
    deviation = float((_log_probabilities(model, ids) - raw).abs().max())
    check = Check(PROCESSING_CHECK, deviation, tolerance)
    if not check.passed:
        raise InterpError(
            f"compatibility mode changes the predictions of {name}: log-probabilities move by "
            f"{deviation:.2g} nats where rounding explains {tolerance:.0e}; load it anew with "
            "compatibility_mode=False (raw weights)"
        )
    return check


def _log_probabilities(
    model: TransformerBridge, ids: Int[Tensor, "1 pos"]
) -> Float[Tensor, "1 pos d_vocab"]:
    """Processing centres the logits, which log-probabilities do not see."""
    logits = wrapped_logits(model, ids)
    return torch.log_softmax(logits.float(), -1)


def _rounding_error(
    model: TransformerBridge,
    ids: Int[Tensor, "1 pos"],
    raw: Float[Tensor, "1 pos d_vocab"],
    generator: torch.Generator,
) -> float:
    """How far the log-probabilities move when every layer's input is rounded differently."""
    half = torch.finfo(torch.float32).eps / 2

    def jitter(activation: Tensor, hook: Any) -> Tensor:
        signs = torch.randint(0, 2, activation.shape, generator=generator) * 2 - 1
        return activation * (1 + half * signs.to(activation))

    last = model.cfg.n_layers - 1
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)]
    error = 2 * half * float(raw.abs().max())  # the output's own rounding is the least
    for _ in range(_DRAWS):
        with model.hooks(
            fwd_hooks=[(hook, jitter) for hook in [*names, f"blocks.{last}.hook_resid_post"]]
        ):
            moved = _log_probabilities(model, ids)
        error = max(error, float((moved - raw).abs().max()))
    return error


@contextmanager
def _in_float32(model: TransformerBridge) -> Iterator[None]:
    """The model in float32, and afterwards what it was; buffers that are computed stay as they are."""
    dtype = model.cfg.dtype
    if dtype == torch.float32:
        yield
        return
    _convert(model, torch.float32)
    yield
    _convert(model, dtype)


def _convert(model: TransformerBridge, dtype: torch.dtype) -> None:
    for _, weight in named_weights(model):
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    model.cfg.dtype = dtype
