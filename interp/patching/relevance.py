"""RelP: a backward with the coefficients of layer-wise relevance propagation instead of gradients.

Relevance patching (arXiv 2508.21258) is attribution patching, ``(source - destination) . coefficient``,
in which the coefficient is what relevance propagation sends back. Of every part of a block:

- an activation ``f(x)`` counts as ``x * (f(x) / x)`` with the ratio held fixed (identity rule); the soft
  caps of scores and logits are such activations. At ``x = 0`` the ratio is the derivative;
- a product of two activations, ``act(gate) * up``, gives each factor half of it (half rule);
- a norm is divided by its size as it is in this run (LN rule), norms of queries and keys and those
  behind attention and MLP included. The mean that a LayerNorm takes off is linear and stays;
- attention is propagated: softmax and both of its products have their gradient, so that queries, keys
  and patterns have coefficients too. The authors' code has it so by default; holding the pattern fixed
  ("AH rule") is an option there and none here, since every effect through the queries and keys would
  be 0.

We differ from that code in two places: it leaves soft caps and, with them, Gemma 2's logits to the
gradient, and its ratio at ``x = 0`` is 0.

A forward under the rules computes what it computes otherwise; only what autograd records of it is
another function. It is recorded by function, not by class of module: every torch function that is
called on an activation either is linear, belongs to attention, has a rule, or ends the backward with an
error that names it. That the logits are unchanged, and that every norm, activation and gate of the
bridge has met its rule, is measured on the first prompt of a model (:func:`require_relevance`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import (
    GatedMLPBridge,
    MLPBridge,
    NormalizationBridge,
)

from interp.errors import InterpError
from interp.models.packed import TOLERANCE
from interp.models.rope import reset_rope
from interp.models.verdicts import model_state, remembered
from interp.models.wrapped import wrapped_logits

_Function = Callable[..., Any]

_ACTIVATIONS = frozenset({
    "silu", "gelu", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "mish", "hardswish",
    "hardtanh", "tanh",
})  # fmt: skip
"""Functions of one number with f(0) = 0."""

_PRODUCTS = frozenset({"mul", "imul", "rmul", "multiply"})

_QUOTIENTS = frozenset({"div", "truediv", "itruediv", "divide", "true_divide"})

_ROOTS = frozenset({"sqrt", "rsqrt"})

_NORMS = frozenset({"layer_norm", "rms_norm"})

_ATTENTION = frozenset({"softmax", "scaled_dot_product_attention"})

_LINEAR = frozenset({
    # sums and weights
    "add", "iadd", "radd", "sub", "isub", "rsub", "neg", "sum", "mean", "cumsum", "dropout",
    "linear", "addmm", "matmul", "rmatmul", "mm", "bmm", "baddbmm", "einsum", "conv1d", "embedding",
    # shapes and copies
    "get", "set", "view", "view_as", "reshape", "reshape_as", "transpose", "permute", "movedim",
    "swapaxes", "flatten", "unflatten", "t", "contiguous", "expand", "expand_as", "repeat",
    "repeat_interleave", "unsqueeze", "squeeze", "chunk", "split", "tensor_split", "unbind", "cat",
    "concat", "stack", "getitem", "setitem", "index_select", "select", "narrow", "gather", "pad",
    "roll", "flip", "clone", "detach", "requires_grad",
    # types
    "to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda",
    # masks
    "where", "masked_fill", "tril", "triu", "zeros_like", "ones_like", "full_like", "nan_to_num",
})  # fmt: skip
"""Functions that are linear in an activation. A matrix product of two activations is attention's."""


class _Valued(torch.autograd.Function):
    """The value of one tensor with the derivative of another."""

    @staticmethod
    def forward(ctx: Any, derivative: Tensor, value: Tensor) -> Tensor:
        return value.clone()  # an input may not be returned as it is where it is written to later

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


class _Refused(torch.autograd.Function):
    """A value whose derivative would be wrong: relevance that reaches it is an error."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str) -> Tensor:
        ctx.name = name
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise InterpError(
            f"RelP has no rule for torch's {ctx.name} between the site and the logits: use "
            "method='gradient'"
        )


class _Rules(TorchFunctionMode):
    """Records the rules' linear functions in the place of what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.met: Counter[str] = Counter()
        self.inside = 0
        """Modules around, each an activation as a whole."""

    def __torch_function__(
        self, func: _Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func)).strip("_")
        if self.inside or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if name in _ACTIVATIONS:

            def f(x: Tensor) -> Tensor:
                return func(x.clone(), *args[1:], **kwargs)

            return self.activation(f, args[0], f(args[0].detach()))
        if name in _NORMS:
            return self.norm(func, name, args, kwargs)
        out = func(*args, **kwargs)
        if name in _ROOTS or (name in ("pow", "rpow") and args[1:] == (-0.5,)):
            self.met["norm"] += 1
            return out.detach()
        if name in _PRODUCTS and _both_activations(*args[:2]):
            self.met["gate"] += 1
            return _Valued.apply(out / 2, out)
        if name in _QUOTIENTS and len(args) > 1 and _depends(args[1]):
            return _refused(out, "division by an activation")
        if name in _LINEAR | _ATTENTION | _PRODUCTS | _QUOTIENTS:
            return out
        return _refused(out, name) if any(map(_depends, args)) else out

    def activation(self, f: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> Tensor:
        """``f(x)`` as ``x`` times a fixed ratio."""
        if not x.requires_grad:
            return value
        self.met["activation"] += 1
        ratio = torch.where(x == 0, _slope_at_zero(f, x), value / x).detach()
        return _Valued.apply(x * ratio, value)

    def norm(self, func: _Function, name: str, args: Any, kwargs: Any) -> Tensor:
        """A fused norm, divided by its size in this run."""
        given = dict(zip(("x", "shape", "weight", "bias", "eps"), args, strict=False))
        if name == "rms_norm" and "bias" in given:  # it has none, so that its fourth is eps
            given["eps"] = given.pop("bias")
        given |= kwargs
        x = given.pop("input", given.get("x"))
        shape = given["normalized_shape"] if "normalized_shape" in given else given["shape"]
        value: Tensor = func(*args, **kwargs)
        self.met["norm"] += 1
        axes = tuple(range(-len(shape), 0))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(axes, keepdim=True) if name == "layer_norm" else wide
        eps = given.get("eps")
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        size = (centred.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
        linear = centred * size
        weight = given.get("weight")
        linear = linear if weight is None else linear * weight.detach()
        return _Valued.apply(linear.to(value.dtype), value)


@contextmanager
def relevance_rules(model: TransformerBridge) -> Iterator[Counter[str]]:
    """Forwards inside record the rules' functions; what is yielded counts the rules met.

    Only the model's own forward belongs inside; the backward may come later.
    """
    rules = _Rules()
    handles = []
    for module in _composed_activations(model):
        handles.append(module.register_forward_pre_hook(_entering(rules)))
        handles.append(module.register_forward_hook(_leaving(rules)))
    try:
        with rules:
            yield rules.met
    finally:
        for handle in handles:
            handle.remove()


def require_relevance(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> None:
    """Refuse a model of which the rules do not know every part, measured on one prompt.

    Its logits have to be those of the plain forward, and every norm, activation and gated product of
    the bridge has to have met its rule. What was measured before on this model (its hooks and weights)
    is not measured again.

    Raises:
        InterpError: names the class, and what has no rule.
    """
    measured = remembered(model, ("relevance", model_state(model)), set)
    if measured:
        return
    name = type(model.original_model).__name__
    if str(getattr(model.cfg, "act_fn", "")).startswith("solu"):
        raise InterpError(f"RelP has no rule for the SoLU of {name}: use method='gradient'")
    ids = ids.clone()[None].to(model.cfg.device)

    def start(activation: Tensor, hook: Any) -> Tensor:
        return activation.detach().requires_grad_()

    reset_rope(model)
    with torch.no_grad():
        plain = wrapped_logits(model, ids, logits_to_keep=1)
    reset_rope(model)
    with (
        torch.enable_grad(),
        relevance_rules(model) as met,
        model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", start)]),
    ):
        logits = wrapped_logits(model, ids, logits_to_keep=1).detach()
    apart = float((logits - plain).abs().max())
    if not apart <= TOLERANCE.get(model.cfg.dtype, 1e-2) * float(plain.max() - plain.min()):
        raise InterpError(
            f"RelP's forward of {name} gives other logits than the model, {apart:.1e} apart: use "
            "method='gradient'"
        )
    for part, expected in _expected(model).items():
        if met[part] < expected:
            raise InterpError(
                f"RelP has rules for {met[part]} of {expected} {part}s of {name}, the others are "
                "computed by functions that it does not know: use method='gradient'"
            )
    measured.add(True)


def _expected(model: TransformerBridge) -> dict[str, int]:
    """How many norms, activations and gated products a forward has at least."""
    modules = list(model.modules())
    norms = [
        module
        for module in modules
        if isinstance(module, NormalizationBridge)
        and not isinstance(module.original_component, torch.nn.Identity)
    ]
    mlps = [module for module in modules if isinstance(module, MLPBridge)]
    gated = [module for module in mlps if isinstance(module, GatedMLPBridge)]
    return {"norm": len(norms), "activation": len(mlps), "gate": len(gated)}


def _composed_activations(model: TransformerBridge) -> list[torch.nn.Module]:
    """Activations that transformers puts together from several functions, and its other ones."""
    return [
        module
        for module in model.original_model.modules()
        if type(module).__module__ == "transformers.activations"
    ]


def _entering(rules: _Rules) -> Callable[..., None]:
    def enter(module: torch.nn.Module, args: Any) -> None:
        rules.inside += 1

    return enter


def _leaving(rules: _Rules) -> Callable[..., Tensor]:
    def leave(module: torch.nn.Module, args: Any, output: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            output = rules.activation(module.forward, args[0], output.detach())
        rules.inside -= 1
        return output

    return leave


def _slope_at_zero(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The derivative of an activation at 0, where the ratio f(x) / x is not defined."""
    with torch.enable_grad():
        zero = torch.zeros(1, dtype=x.dtype, device=x.device, requires_grad=True)
        value = f(zero)
        if float(value.detach()) != 0:
            raise InterpError(
                f"RelP has no rule for an activation that is {float(value.detach()):.3g} at 0: use "
                "method='gradient'"
            )
        return torch.autograd.grad(value.sum(), zero)[0]


def _depends(value: Any) -> bool:
    """Whether a value comes from an activation: not a weight, and with a gradient."""
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and not isinstance(value, torch.nn.Parameter)
    )


def _both_activations(a: Any, b: Any) -> bool:
    """Whether a product has two factors from activations; what weights make has no batch axis."""
    return _depends(a) and _depends(b) and a.ndim == b.ndim


def _refused(out: Any, name: str) -> Any:
    if isinstance(out, Tensor):
        return _Refused.apply(out, name) if out.requires_grad else out
    if isinstance(out, (tuple, list)):
        return type(out)(_refused(part, name) for part in out)
    return out
