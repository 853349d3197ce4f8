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


@dataclass(frozen=True)
class States:
    """Activations of one site: ``values[layer, prompt]`` is a vector of the residual stream's width.

    ``layers`` names the layer of each row.
    """

    values: Float[Tensor, "layer prompt d_model"]
    layers: tuple[int, ...]
    site: Site


def read_states(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " pos"]],
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
        positions: one position per prompt; None reads the last.
        layers: which layers; None reads all.
        progress: show a bar.

    Returns:
        :class:`States` in float32 on the CPU: what is asked for is all that is kept.

    Raises:
        InterpError: unknown site or layer, positions that do not match the prompts, or an
            activation that is not finite (names layer and prompt).
    """
    layers = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    names = [hook_name(model, site, layer) for layer in layers]
    where = [len(s) - 1 for s in sequences] if positions is None else list(positions)
    if len(where) != len(sequences):
        raise InterpError(f"{len(where)} positions for {len(sequences)} prompts: give one each")
    parts = []
    starts = range(0, len(sequences), _PROMPTS_PER_CALL)
    for start in tqdm(starts, desc=f"reading {site}", disable=not progress):
        chunk = sequences[start : start + _PROMPTS_PER_CALL]
        places = [(k, where[start + k]) for k in range(len(chunk))]
        states = forward(model, chunk, read=dict.fromkeys(names, places)).states
        parts.append(torch.stack([states[name] for name in names]))
    return States(torch.cat(parts, dim=1), layers, site)
