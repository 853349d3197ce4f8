"""Reading chosen activations over many prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.sites import Site, hook_name
from interp.errors import InterpError
from interp.models import forward

_PROMPTS_PER_CALL = 16


@dataclass(frozen=True, eq=False)
class States:
    """Activations of one site: ``values[layer, prompt]`` is a vector of width ``d_model``.

    ``layers`` names the layer of each row.
    """

    values: Float[Tensor, "layer prompt d_model"]
    layers: tuple[int, ...]
    site: Site


def read_states(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " _pos"]],
    *,
    site: Site = "resid_post",
    positions: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> States:
    """The site's vector at one position of every prompt, at every layer.

    Args:
        model: a bridge in evaluation mode.
        sequences: token ids, one tensor per prompt.
        site: which activation.
        positions: one position per prompt (negative ones count from its end); None reads the last.
        layers: which layers; None reads all.
        progress: show a bar.

    Returns:
        :class:`States` in float32 on the CPU: what is asked for is all that is kept.

    Raises:
        InterpError: no prompts, one without tokens or beyond the context, unknown site or layer,
            positions that do not match the prompts, or an activation that is not finite (names
            hook and prompt).
    """
    layers = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    names = [hook_name(model, site, layer) for layer in layers]
    if not names:
        raise InterpError("no layers to read: the list is empty")
    where = _positions(model, sequences, positions)
    parts = []
    starts = range(0, len(sequences), _PROMPTS_PER_CALL)
    for start in tqdm(starts, desc=f"reading {site}", disable=not progress):
        chunk = sequences[start : start + _PROMPTS_PER_CALL]
        places = [(k, where[start + k]) for k in range(len(chunk))]
        try:
            states = forward(model, chunk, read=dict.fromkeys(names, places)).states
        except InterpError as error:
            raise _named(model, chunk, names, start) or error from error
        parts.append(torch.stack([states[name] for name in names]))
    return States(torch.cat(parts, dim=1), layers, site)


def _positions(
    model: TransformerBridge, sequences: Sequence[Tensor], positions: Sequence[int] | None
) -> list[int]:
    """One checked position per prompt, counted from its start."""
    if not sequences:
        raise InterpError("no prompts to read: the list is empty")
    where = [-1] * len(sequences) if positions is None else list(positions)
    if len(where) != len(sequences):
        raise InterpError(f"{len(where)} positions for {len(sequences)} prompts: give one each")
    for index, (sequence, position) in enumerate(zip(sequences, where, strict=True)):
        if not 1 <= len(sequence) <= model.cfg.n_ctx:
            raise InterpError(
                f"prompt {index} has {len(sequence)} tokens, must be 1 to {model.cfg.n_ctx}"
            )
        if not -len(sequence) <= position < len(sequence):
            raise InterpError(
                f"position {position} is outside prompt {index}, 0..{len(sequence) - 1}"
            )
    return [position % len(s) for s, position in zip(sequences, where, strict=True)]


def _named(
    model: TransformerBridge, chunk: Sequence[Tensor], names: Sequence[str], start: int
) -> InterpError | None:
    """The first activation that is not finite, by hook and prompt; None if there is none.

    (:func:`forward` numbers the prompts of its own call, not those of the caller.)
    """
    for index, ids in enumerate(chunk):
        _, cache = model.run_with_cache(
            ids[None].to(model.cfg.device), names_filter=lambda name: name in names
        )
        for name in names:
            if not bool(torch.isfinite(cache[name]).all()):
                return InterpError(
                    f"{name} of prompt {start + index} is not finite: the weights or the input "
                    "overflow; check the model's card, or load it in float32"
                )
    return None
