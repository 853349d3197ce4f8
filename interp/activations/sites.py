"""Sites: where in a block an activation is read or patched, and the hook that holds it.

Every site can be read. A write at any but ``resid_mid`` replaces what the rest of the model sees;
TransformerLens's ``hook_resid_mid`` sits on the MLP's input, so that a write there changes what the
MLP reads and not the residual stream (4.3; :func:`interp.patching.sweep` goes round it).
"""

from __future__ import annotations

from typing import Literal, get_args

from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError

Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"]
SITES: tuple[str, ...] = get_args(Site)


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
