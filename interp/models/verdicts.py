"""What has been measured about a model, and for what it holds.

A faster way of running a model (prompts packed into one forward, a KV cache reused, many patched runs
in one pass) is used only where it was measured to give the numbers of the slow way. Such a verdict
holds for what was covered: the way, the state of the model at the time (:func:`model_state`: its
hooks, weights and modes) and prompts up to a length. Whatever lies outside is measured anew.

:func:`holds` is that rule for a way of running whole prompts. Its measurements reach the length that
is asked for, since windows, scaled attention or rotary frequencies may change beyond some length
(:func:`length_error` in :mod:`interp.models.packed`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from interp.models.fingerprint import walk_modules, weights_state

LEAST = 16
"""Tokens of the shortest measurement."""

_STEP = 32
_LIBRARIES = ("transformers.", "transformer_lens.model_bridge.")
_MODES = (
    "use_attn_result",
    "use_split_qkv_input",
    "use_attn_in",
    "use_hook_mlp_in",
    "ungroup_grouped_query_attention",
)

State: TypeAlias = tuple[Hashable, ...]
"""Equal for two moments between which nothing was changed that a forward depends on."""


@dataclass(frozen=True, eq=False)
class UserHook:
    """A forward hook on a module: its handle's number (never used twice) and the function."""

    module: torch.nn.Module
    number: int
    call: Callable[..., Any]
    before: bool
    """Whether it is a pre-hook."""


def user_hooks(model: TransformerBridge) -> list[UserHook]:
    """All forward hooks on a model but those with which the libraries pass on their own outputs."""
    found = []
    # also those that only the wrapped model or only the bridge knows
    for module in walk_modules(model, model.original_model):
        if not module._forward_pre_hooks and not module._forward_hooks:
            continue
        both = ((True, module._forward_pre_hooks), (False, module._forward_hooks))
        for before, hooks in both:
            for number, call in hooks.items():
                if not str(_origin(module, number, call)).startswith(_LIBRARIES):
                    found.append(UserHook(module, number, call, before))
    return found


def _origin(module: torch.nn.Module, number: int, call: Callable[..., Any]) -> object:
    """The Python module that a hook's function comes from."""
    if isinstance(module, HookPoint):
        for handle in module.fwd_hooks:
            if getattr(handle.hook, "id", None) == number:
                return getattr(handle.user_hook, "__module__", None)
        return None
    return getattr(call, "__module__", None)


def model_state(model: TransformerBridge) -> State:
    """Changes when a hook comes or goes, a weight is written to or replaced, or a mode is set."""
    hf, cfg = model.original_model, model.cfg
    hooks = tuple(hook.number for hook in user_hooks(model))
    config = getattr(hf, "config", None)
    modes = (
        id(hf),
        cfg.dtype,
        str(cfg.device),
        bool(model.training),
        bool(getattr(model, "compatibility_mode", False)),
        getattr(config, "_attn_implementation", None),
        *(bool(getattr(cfg, mode, False)) for mode in _MODES),
    )
    return (hooks, weights_state(model), *modes)


@dataclass
class _Coverage:
    """``passed``: the longest measurement that agreed; ``failed``: the shortest that did not."""

    passed: int = 0
    failed: float = float("inf")


_known: WeakKeyDictionary[TransformerBridge, dict[Hashable, Any]] = WeakKeyDictionary()


def remembered(model: TransformerBridge, key: Hashable, make: Callable[[], Any]) -> Any:
    """What is known of a model under a key; ``make`` gives the empty record of a new one."""
    known = _known.setdefault(model, {})
    if key not in known:
        known[key] = make()
    return known[key]


def forget(model: TransformerBridge) -> None:
    """Measure everything about this model again."""
    _known.pop(model, None)


def holds(
    model: TransformerBridge,
    way: str,
    error: Callable[[int], float],
    n_tokens: int,
    *,
    limit: int,
    tolerance: float,
    state: State | None = None,
) -> bool:
    """Whether a way of running a model is exact for prompts up to ``n_tokens``.

    Args:
        model: a bridge in evaluation mode.
        way: its name, part of the key with :func:`model_state`.
        error: measures it on prompts up to so many tokens, relative to the scale of what is
            compared; infinite or NaN where it cannot be used.
        n_tokens: the longest prompt.
        limit: longest prompt for which the way makes sense at all.
        tolerance: largest error that is rounding.
        state: the model's, where the caller has it already.
    """
    if n_tokens > limit:
        return False
    state = model_state(model) if state is None else state
    covered: _Coverage = remembered(model, (way, state), _Coverage)
    if n_tokens <= covered.passed:
        return True
    # a quarter more than last time, so that prompts of slowly growing length cost little
    size = max(LEAST, -(-n_tokens // _STEP) * _STEP, covered.passed * 5 // 4)
    size = min(size, limit)
    if size >= covered.failed:
        return False
    if error(size) <= tolerance:
        covered.passed = size
        return True
    covered.failed = size
    return False
