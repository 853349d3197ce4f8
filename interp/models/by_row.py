"""Whether the hooks on a model treat every position alike.

In a packed forward, in a KV cache's continuation and on the flat rows of the exact engine a row's
place in the tensor is not its position in the prompt. A hook that adds a vector everywhere does not
mind. One that addresses a position (``activation[:, -1]``, as steering libraries do), mixes
positions, asks for the length, or only looks on (what it notes down would be of another layout)
does: under such hooks a model runs one prompt at a time.

Every hook is tried on the activations that the caller's own longest prompt brings to it: in reverse
order, on single rows, on many more rows, in a batch. That is done at every call with more than one
prompt, as what a hook does may be switched from outside; only that hooks do not act by row is
remembered. So a hook is called more often than there are forwards (one that only looks on: once).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from interp.models.rope import reset_rope
from interp.models.verdicts import UserHook, model_state, remembered, user_hooks
from interp.models.wrapped import wrapped_logits

_MANY_ROWS = 2048
_NOT_BY_POSITION = ("hook_pattern", "hook_attn_scores")

NOTE = "one forward per prompt: a hook on the model addresses positions, or only looks on"
"""Why prompts under hooks were not run together."""


class OneByOneWarning(UserWarning):
    """Prompts are run one by one: right, only slower."""


@dataclass
class _Judged:
    by_row: bool = True


class _SeenAllError(Exception):
    """Ends a forward when all that it was run for has been seen."""


@torch.no_grad()
def hooks_act_by_row(model: TransformerBridge, sequences: Sequence[Int[Tensor, " _pos"]]) -> bool:
    """Whether all hooks on a model do the same to a row wherever it stands; True without hooks.

    Judged on the longest of the prompts.
    """
    hooks = user_hooks(model)
    if not hooks or not sequences:
        return True
    judged: _Judged = remembered(model, ("hooks by row", model_state(model)), _Judged)
    if judged.by_row:
        judged.by_row = _judge(model, hooks, max(sequences, key=len))
    return judged.by_row


def _judge(model: TransformerBridge, hooks: Sequence[UserHook], ids: Tensor) -> bool:
    points = {id(hook.module): hook.module for hook in hooks}
    if any(hook.before or not isinstance(hook.module, HookPoint) for hook in hooks):
        return False  # on a module of the wrapped model: it may get anything
    seen: dict[int, Tensor] = {}

    def look(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            seen[id(module)] = args[0].detach()
        if len(seen) == len(points):
            raise _SeenAllError

    handles = [point.register_forward_pre_hook(look) for point in points.values()]
    reset_rope(model)
    try:
        wrapped_logits(model, ids[None].to(model.cfg.device))
    except _SeenAllError:
        pass
    except Exception:  # a hook that fails here must fail in the caller's own forward, not in this
        return False
    finally:
        for handle in handles:
            handle.remove()
    return all(
        id(hook.module) in seen and _acts_by_row(hook, seen[id(hook.module)], len(ids))
        for hook in hooks
    )


def _acts_by_row(hook: UserHook, rows: Tensor, n: int) -> bool:
    name = str(getattr(hook.module, "name", ""))
    if rows.ndim < 3 or tuple(rows.shape[:2]) != (1, n) or name.endswith(_NOT_BY_POSITION):
        return False

    def act(x: Tensor) -> Tensor | None:
        x = x.clone()
        out = hook.call(hook.module, (x,), x)
        return out if isinstance(out, Tensor) and out.shape == x.shape else None

    try:
        whole = act(rows)
        if whole is None:
            return False  # it only looks on: not called again, what it notes down is the caller's
        again = act(rows)
        change = float((whole - rows).abs().max())
        rounding = 8 * torch.finfo(rows.dtype).eps * float(whole.abs().max())
        allowed = max(1e-3 * change, rounding)
        if not _near(again, whole, allowed):
            return False  # chance, or a count of its calls
        backwards = torch.arange(n).flip(0)
        orders = [backwards, *(torch.tensor([k]) for k in sorted({0, n // 2, n - 1}))]
        orders.append(backwards.repeat(-(-_MANY_ROWS // n)))
        for order in orders:
            at = order.to(rows.device)
            if not _near(act(rows[:, at]), whole[:, at], allowed):
                return False
        at = backwards.to(rows.device)
        batch = torch.cat([rows, rows[:, at]])
        return _near(act(batch), torch.cat([whole, whole[:, at]]), allowed)
    except Exception:  # an index outside the rows, a shape it does not take
        return False


def _near(found: Tensor | None, wanted: Tensor, allowed: float) -> bool:
    return found is not None and bool(((found - wanted).abs() <= allowed).all())
