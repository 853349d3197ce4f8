"""Logit-lens trajectories of the answer options, and what may be read from them.

At every layer the residual stream of the last position is read through the model's own final norm,
unembedding and soft cap (TransformerLens's :func:`~transformer_lens.tools.analysis.logit_readout`); the
last entry is the model's own output, which is checked.

**Conventions.** ``layer`` counts entries of the stream: 0 = the embedding, n_layers = the output.
The margin is the logit difference, logit(a) - logit(b) in nats, + is the better answer. Ranks start
at 1 (the top token of the vocabulary). Divergences are in nats over the whole vocabulary.
``metric="option_margin"`` also reads both options' full texts, teacher-forced: the mean log P per token
of a minus that of b.

**Memory.** Distributions ``[n_layers + 1, d_vocab]`` of a few prompts are held at a time and
never kept; results hold numbers per layer.

**Limits.** The lens reads a middle state as if it were the last. Where it shows nothing, later layers
may still use what is there; early layers of many models are not in the output's basis.

Example::

    trajectory = lens_trajectory(model, pairs)             # both runs of each pair
    parting_layer(trajectory.difference(), seed=0)         # 14.0 [12.0, 17.0]
    lens = lens_conditions(model, items, n_texts=6)        # several wordings of each condition
    layer_effects(lens, "instructed", seed=0)              # with intervals and family-wise p
    settled_layer(lens.frame, seed=0)                      # when the answer no longer changes
    lens_divergence(model, pairs)                          # KL, Jensen-Shannon, top-5 overlap
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.lens.conditions import Arms, LensConditions, lens_conditions, lens_item
    from interp.lens.divergence import compare, lens_divergence
    from interp.lens.options import LensMetric, lens_option_margin
    from interp.lens.readings import (
        divergence_table,
        layer_effects,
        parting_layer,
        settled_layer,
        settled_layers,
    )
    from interp.lens.trajectory import (
        LensTrajectory,
        lens_logits,
        lens_prompt,
        lens_trajectory,
        option_readings,
    )

__all__ = [
    "Arms",
    "LensConditions",
    "LensMetric",
    "LensTrajectory",
    "compare",
    "divergence_table",
    "layer_effects",
    "lens_conditions",
    "lens_divergence",
    "lens_item",
    "lens_logits",
    "lens_option_margin",
    "lens_prompt",
    "lens_trajectory",
    "option_readings",
    "parting_layer",
    "settled_layer",
    "settled_layers",
]

attach(__name__)
