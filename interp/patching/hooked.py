"""The slow way: one full forward per cell, through TransformerLens's hooks.

This is what the exact engine is checked against and what it falls back to; it runs whatever model
the bridge can hook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge

from interp.errors import InterpError
from interp.models.packed import TOLERANCE
from interp.models.rope import reset_rope
from interp.models.verdicts import model_state, remembered
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading, over_all_keys, patches_in
from interp.patching.cells import Patch

Hook: TypeAlias = tuple[str, Callable[..., Any]]
"""A hook's name and what is called there, as TransformerLens takes them."""

_HOOKS = {"pattern": "attn.hook_pattern", "edges": "attn.hook_attn_scores"}


def hook_of(site: str, layer: int) -> str:
    """TransformerLens's hook of any patch site."""
    if site in ("z", "q", "k", "v"):
        return f"blocks.{layer}.attn.hook_{site}"
    return f"blocks.{layer}.{_HOOKS.get(site, f'hook_{site}')}"


def supports_hook(model: TransformerBridge, site: str) -> bool:
    """Whether a hook at the site changes what follows.

    Attention that TransformerLens delegates to the wrapped model shows its pattern after use, but
    for its own, whose pattern (not its scores) passes through the hook.
    """
    attention = model.blocks[0].attn
    delegated = type(attention).forward is AttentionBridge.forward
    inside = site == "pattern" and hasattr(attention.original_component, "accepts_pattern_fn")
    return site not in _HOOKS or not delegated or inside


@torch.no_grad()
def run_cell(
    model: TransformerBridge,
    ids: Int[Tensor, " pos"],
    patches: Sequence[Patch],
    read: Int[Tensor, " read"],
) -> Float[Tensor, "read d_vocab"]:
    """Logits of one run with patches, float32.

    Raises:
        InterpError: a site that this model's hooks can only read.
    """
    for patch in patches:
        if not supports_hook(model, patch.site):
            raise InterpError(f"{patch.site} cannot be set on this model: its attention is opaque")
    device = model.cfg.device
    hooks = patch_hooks(patches)
    reset_rope(model)
    with model.hooks(fwd_hooks=hooks):
        logits = wrapped_logits(model, ids[None].to(device), logits_to_keep=read.to(device))
    return logits[0].float()


def run_reading(
    model: TransformerBridge, reading: Reading, patches: Sequence[Patch] = ()
) -> Float[Tensor, "read d_vocab"]:
    """Logits of one run with patches at the rows that are read: one full forward per branch.

    Raises:
        InterpError: as :func:`run_cell`.
    """
    patches = over_all_keys(patches, len(reading))
    logits = [
        run_cell(model, forward.ids, patches_in(patches, forward.rows), wanted)
        for forward, wanted in zip(reading.forwards, reading.reads(), strict=True)
    ]
    return torch.cat(logits)


def require_one_prompt(model: TransformerBridge, reading: Reading) -> None:
    """Refuse branches behind a prompt whose own logits are others with each branch behind it.

    The first token of every option is read in the first branch's forward. That is right where a
    position sees nothing of what follows it, and wrong where rotary frequencies go by the text's
    length. Lengths that were compared before on this model are not compared again.

    Raises:
        InterpError: names the class, and what to read instead.
    """
    branches = [branch for branch in reading.branches if len(branch)]
    if not branches:
        return
    n, compared = len(reading.prompt), remembered(model, ("one prompt", model_state(model)), set)
    lengths = (n, *map(len, branches))
    if lengths in compared:
        return
    texts = [forward.ids for forward in reading.forwards]
    if len(texts) == 1:  # the other option is one token, read behind the prompt alone
        texts.append(reading.prompt)
    last = torch.tensor([n - 1])
    first, *others = [run_cell(model, ids, (), last) for ids in texts]
    apart = max(float((first - other).abs().max()) for other in others)
    if not apart <= TOLERANCE.get(model.cfg.dtype, 1e-2) * float(first.max() - first.min()):
        raise InterpError(
            f"option margins of {type(model.original_model).__name__} at {n} tokens: what it computes "
            "of the prompt depends on the text behind it (rotary frequencies that go by the length, "
            "say), so that two options share no prompt: read metric='margin', or shorten the prompt"
        )
    compared.add(lengths)


def patch_hooks(patches: Sequence[Patch]) -> list[Hook]:
    """Hooks that apply patches to the run of one prompt."""
    return [hook for patch in patches for hook in _hooks(patch)]


def _hooks(patch: Patch) -> list[Hook]:
    if patch.site == "resid_mid":
        return _resid_mid_hooks(patch)
    apply = {"pattern": _on_pattern, "edges": _on_scores}.get(patch.site, _on_rows)

    def write(activation: Tensor, hook: Any) -> Tensor:
        return apply(activation.clone(), patch)

    return [(hook_of(patch.site, patch.layer), write)]


def _on_rows(activation: Tensor, patch: Patch) -> Tensor:
    positions = patch.positions.to(activation.device)
    if patch.heads:
        where = (0, positions[:, None], torch.tensor(patch.heads, device=activation.device))
        activation[where] = patch.apply(activation[where])
    else:
        activation[0, positions] = patch.apply(activation[0, positions])
    return activation


def _on_pattern(pattern: Tensor, patch: Patch) -> Tensor:
    for k, head in enumerate(patch.heads):
        pattern[0, head, patch.positions] = patch.values[:, k].to(pattern)
    return pattern


def _on_scores(scores: Tensor, patch: Patch) -> Tensor:
    for k, head in enumerate(patch.heads):
        rows = scores[0, head, patch.positions]
        gone = patch.values[:, k].to(rows.device)
        scores[0, head, patch.positions] = rows.masked_fill(gone, torch.finfo(rows.dtype).min)
    return scores


def _resid_mid_hooks(patch: Patch) -> list[Hook]:
    """Set through the attention's output, so that the skip connection carries it as well.

    TransformerLens's ``hook_resid_mid`` sits on the MLP's input and misses the skip connection.
    """
    before: dict[str, Tensor] = {}

    def remember(activation: Tensor, hook: Any) -> None:
        before["resid_pre"] = activation

    def write(activation: Tensor, hook: Any) -> Tensor:
        return _on_rows(before["resid_pre"] + activation, patch) - before["resid_pre"]

    return [
        (hook_of("resid_pre", patch.layer), remember),
        (hook_of("attn_out", patch.layer), write),
    ]
