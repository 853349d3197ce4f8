"""The hook of TransformerLens that holds a site's activations."""

from __future__ import annotations

from transformer_lens.model_bridge import TransformerBridge

from interp.activations.sites import SITES
from interp.errors import InterpError


def hook_name(model: TransformerBridge, site: str, layer: int) -> str:
    """TransformerLens's hook of a site, ``[batch, pos, d_model]``.

    Raises:
        InterpError: an unknown site or layer, or ``resid_mid`` in parallel blocks (attention and
            MLP both read ``resid_pre`` there, so nothing lies between them).
    """
    if site not in SITES:
        raise InterpError(f"no site {site!r}; known: {', '.join(SITES)}")
    if not 0 <= layer < model.cfg.n_layers:
        raise InterpError(f"layer {layer} is outside 0..{model.cfg.n_layers - 1}")
    name = f"blocks.{layer}.hook_{site}"
    if site == "resid_mid" and (model.cfg.parallel_attn_mlp or name not in model.hook_dict):
        raise InterpError("parallel blocks have no resid_mid: use resid_pre or resid_post")
    return name
