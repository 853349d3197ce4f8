"""Self-checks run on every model at load: the identities every later number rests on.

Each check runs a few random tokens and reports the largest deviation, relative to the scale of what
is compared. They cost well under a second together and are recorded in the :class:`ModelCard`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.limits import out_of_memory
from interp.models.packed import TOLERANCE, PlainRuns, cached_prefix_error, packing_error
from interp.models.verdicts import LEAST, user_hooks
from interp.models.wrapped import wrapped_logits

_N_TOKENS = 16


@dataclass(frozen=True)
class Check:
    """One identity: its relative deviation and the tolerance of the dtype.

    ``required`` is false where the library has an exact fallback (packed prompts).
    """

    name: str
    deviation: float
    tolerance: float
    required: bool = True

    @property
    def passed(self) -> bool:
        """Whether the deviation is within the tolerance."""
        return self.deviation <= self.tolerance


@torch.no_grad()
def run_checks(model: TransformerBridge) -> tuple[Check, ...]:
    """Run the identities of this module on ``model``.

    Raises:
        InterpError: a weight is not finite (names it); a block without attention or MLP; a later
            token that changes an earlier prediction; a class that TransformerLens cannot run; or a
            required identity fails (names it with its deviation).
    """
    require_finite_weights(model)
    require_decoder(model)
    with _one_line(model):
        checks = _run(model)
    failed = [check for check in checks if check.required and not check.passed]
    if failed:
        raise InterpError(
            f"self-check failed: {failed[0].name} (deviation {failed[0].deviation:.2e}, tolerance "
            f"{failed[0].tolerance:.0e}): interventions on this {_name(model)} would not be exact"
        )
    return checks


@torch.no_grad()
def require_decoder(model: TransformerBridge) -> None:
    """Refuse a model that is no causal decoder of blocks with attention and an MLP.

    Raises:
        InterpError: names the class and what it lacks.
    """
    with _one_line(model):
        ids = _probe(model)
        _, cache = model.run_with_cache(ids, names_filter=_residual_name)
        _require_blocks(model, cache)
        _require_rows(model, ids)
        if not user_hooks(model):  # what those do is the user's
            _require_causal(model, ids)


@contextmanager
def _one_line(model: TransformerBridge) -> Iterator[None]:
    """Whatever the code of one architecture stumbles over, as one line."""
    try:
        yield
    except InterpError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        dtype = str(model.cfg.dtype).removeprefix("torch.")
        other = "" if dtype == "float32" else "; try dtype='float32'"
        raise InterpError(
            f"TransformerLens {version('transformer-lens')} cannot run {_name(model)} in {dtype} "
            f"without a KV cache ({type(error).__name__}: {first}){other}"
        ) from error


def _n_probe(model: TransformerBridge) -> int:
    return min(_N_TOKENS, int(model.cfg.n_ctx))  # compiled programs have room for a few


def _probe(model: TransformerBridge) -> Int[Tensor, "1 pos"]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.cfg.d_vocab, (1, _n_probe(model)), generator=generator)
    return ids.to(model.cfg.device)


def _run(model: TransformerBridge) -> tuple[Check, ...]:
    ids = _probe(model)
    tolerance = TOLERANCE.get(model.cfg.dtype, 1e-2)
    logits, cache = model.run_with_cache(ids, names_filter=_residual_name)
    wrapped, plain = wrapped_logits(model, ids), PlainRuns(model)
    return (
        Check("logits equal the wrapped model's", _relative(wrapped, logits), tolerance),
        Check(
            "resid_pre + attn_out + mlp_out = resid_post", _residual_sum(model, cache), tolerance
        ),
        Check("a hook that changes nothing", _relative(_no_op(model, ids), logits), tolerance),
        Check(
            "patching a run with itself",
            _relative(_self_patch(model, ids, cache), logits),
            tolerance,
        ),
        Check(
            "packed prompts = separate prompts",
            packing_error(model, LEAST, plain),
            tolerance,
            required=False,
        ),
        Check(
            "prompts on a cached prefix = whole",
            cached_prefix_error(model, LEAST, plain),
            tolerance,
            required=False,
        ),
    )


def _name(model: TransformerBridge) -> str:
    return type(model.original_model).__name__


def _require_blocks(model: TransformerBridge, cache: Any) -> None:
    """Every block adds the output of an attention and of an MLP to the residual stream."""
    parts = {
        "resid_pre": "residual stream",
        "attn_out": "attention",
        "mlp_out": "MLP",
        "resid_post": "residual stream",
    }
    if not hasattr(model, "blocks"):
        raise InterpError(
            f"{_name(model)}: TransformerLens exposes no single stack of blocks, so there are no "
            "layers to analyse"
        )
    for layer, block in enumerate(model.blocks):
        for hook, part in parts.items():
            name = f"blocks.{layer}.hook_{hook}"
            # a recurrence may have its output at hook_attn_out and is none the less no attention
            if name not in cache or (hook == "attn_out" and not hasattr(block, "attn")):
                inside = [key for key in block._modules if not key.startswith(("hook_", "_"))]
                raise InterpError(
                    f"{_name(model)}: layer {layer} has no {part} that TransformerLens exposes as "
                    f"hook_{hook} (the block holds {', '.join(inside) or 'nothing'}); the workbench "
                    "analyses decoders whose every block has attention and an MLP"
                )


def _require_rows(model: TransformerBridge, ids: Int[Tensor, "1 pos"]) -> None:
    """The forward gives the rows of logits that it is asked for, and no others."""
    rows = torch.tensor([0, ids.shape[1] // 2], device=ids.device).unique()
    logits = wrapped_logits(model, ids, logits_to_keep=rows)
    if logits.shape[1] != len(rows):
        raise InterpError(
            f"{_name(model)}: asked for the logits of {len(rows)} positions (logits_to_keep), its "
            f"forward gives {logits.shape[1]}: logits would be read at other positions than asked"
        )


def _require_causal(model: TransformerBridge, ids: Int[Tensor, "1 pos"]) -> None:
    """Later tokens leave earlier predictions as they are."""
    half = ids.shape[1] // 2
    others = torch.cat([ids[:, :half], (ids[:, half:] + 1) % model.cfg.d_vocab], dim=1)
    first, second = (wrapped_logits(model, tokens)[:, :half] for tokens in (ids, others))
    change = _relative(second, first)
    if change > TOLERANCE.get(model.cfg.dtype, 1e-2):  # NaN is the matter of the checks
        raise InterpError(
            f"{_name(model)}: later tokens change earlier predictions ({change:.1e} of the largest "
            "logit): it is no causal decoder"
        )


def _residual_name(name: str) -> bool:
    parts = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
    return name.startswith("blocks.") and name.count(".") == 2 and name.endswith(parts)


def _relative(value: Tensor, reference: Tensor) -> float:
    scale = float(reference.float().abs().max())
    return float((value.float() - reference.float()).abs().max()) / max(scale, 1e-12)


def _residual_sum(model: TransformerBridge, cache: Any) -> float:
    deviations = []
    for layer in range(model.cfg.n_layers):
        part = [
            cache[f"blocks.{layer}.hook_{name}"].float()
            for name in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        ]
        deviations.append(_relative(part[0] + part[1] + part[2], part[3]))
    return float(torch.tensor(deviations).max())  # unlike Python's max, keeps a NaN


def _no_op(model: TransformerBridge, ids: Int[Tensor, "batch pos"]) -> Tensor:
    def unchanged(activation: Tensor, hook: Any) -> Tensor:
        return activation.clone()

    hooks = [(f"blocks.{n}.hook_resid_pre", unchanged) for n in range(model.cfg.n_layers)]
    return model.run_with_hooks(ids, fwd_hooks=hooks)


def _self_patch(model: TransformerBridge, ids: Int[Tensor, "batch pos"], cache: Any) -> Tensor:
    name = f"blocks.{model.cfg.n_layers // 2}.hook_resid_pre"

    def patch(activation: Tensor, hook: Any) -> Tensor:
        return cache[name]

    return model.run_with_hooks(ids, fwd_hooks=[(name, patch)])


def require_finite_weights(model: TransformerBridge) -> None:
    """Refuse a model with a weight that is NaN or infinite, naming the weight."""
    for name, parameter in model.original_model.named_parameters():
        if parameter.numel() == 0:
            continue
        # a NaN is both least and greatest; one pass, a tenth of the time of isfinite on every entry
        if not bool(torch.isfinite(torch.stack(torch.aminmax(parameter))).all()):
            raise InterpError(
                f"weight {name} holds values that are not finite: the file is damaged or its dtype "
                "overflowed; fetch it again or load it with dtype='float32'"
            )
