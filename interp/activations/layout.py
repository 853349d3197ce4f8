"""Whether a hook holds what its name says, in the layout that it has on other models.

TransformerLens passes on what a model's own code computes. Attention with compressed keys (DeepSeek)
gives ``hook_v`` as ``[batch, head, pos, d_head]``, say, and cuts ``hook_z`` into heads that are none: a
position or a head read there would be another one, without a word. So shapes are looked at once in
every state of the model, on a few tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.rope import reset_rope
from interp.models.verdicts import model_state, remembered, user_hooks
from interp.models.wrapped import wrapped_logits

Shape: TypeAlias = tuple[int, ...]

_SIZES = (5, 6, 7, 9, 4, 3, 2, 1)


@torch.no_grad()
def require_layout(
    model: TransformerBridge, hooks: Sequence[str], wanted: Callable[[int], Shape], remedy: str
) -> None:
    """Refuse hooks that do not have the shape that is read from them.

    Args:
        model: a bridge in evaluation mode.
        hooks: names of hooks.
        wanted: the shape for a batch of one prompt with so many tokens; 0 stands for any size.
        remedy: the end of the message.

    Raises:
        InterpError: a hook of another shape, or one that never fires; names it.
    """
    heads = {int(model.cfg.n_heads), int(getattr(model.cfg, "n_key_value_heads", None) or 0)}
    sizes = [size for size in _SIZES if size <= int(model.cfg.n_ctx)]
    # so that no axis passes for another
    n = next((size for size in sizes if size not in heads), sizes[0])
    known: dict[str, Shape] = remembered(model, ("shapes of hooks", model_state(model)), dict)
    unknown = [name for name in hooks if name not in known]
    try:
        known.update(_shapes(model, unknown, n) if unknown else {})
    except Exception:
        if user_hooks(model):  # a hook may address a position beyond these few tokens
            return
        raise
    for name in hooks:
        found, expected = known.get(name, ()), wanted(n)
        if not found:
            raise InterpError(f"{name} never fires on this model: {remedy}")
        fits = len(found) == len(expected) and all(
            size in (0, other) for size, other in zip(expected, found, strict=True)
        )
        if not fits:
            raise InterpError(
                f"{name} of {type(model.original_model).__name__} has the shape {list(found)} on "
                f"{n} tokens, not {[size or '*' for size in expected]}: {remedy}"
            )


def _shapes(model: TransformerBridge, names: Sequence[str], n: int) -> dict[str, Shape]:
    found: dict[str, Shape] = {}

    def look(activation: Tensor, hook: Any, name: str) -> None:
        found[name] = tuple(activation.shape)

    def looker(name: str) -> Callable[..., None]:
        return lambda activation, hook: look(activation, hook, name)

    reset_rope(model)
    present = [name for name in names if _exists(model, name)]
    with model.hooks(fwd_hooks=[(name, looker(name)) for name in present]):
        wrapped_logits(
            model, torch.arange(n, device=model.cfg.device)[None] % int(model.cfg.d_vocab)
        )
    return found


def _exists(model: TransformerBridge, name: str) -> bool:
    """Whether the model has the hook, and has it switched on."""
    try:
        with model.hooks(fwd_hooks=[(name, lambda activation, hook: None)]):
            return True
    except (KeyError, ValueError):
        return False
