"""Sites: where in a block an activation is read or patched.

Every site can be read. A write at any but ``resid_mid`` replaces what the rest of the model sees;
TransformerLens's ``hook_resid_mid`` sits on the MLP's input, so that a write there changes what the
MLP reads and not the residual stream (4.3; :func:`interp.patching.sweep` goes round it).
:func:`interp.activations.hook_name` gives a site's hook. Nothing here loads torch.
"""

from __future__ import annotations

from typing import Literal, get_args

Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"]
SITES: tuple[str, ...] = get_args(Site)
