"""Figures, coloured tokens, the offline attention page and the HTML report: results in, pictures out.

Every function takes a result, returns a figure (or the path of the file it was asked to write), and
computes nothing beyond what drawing needs, and shows nothing. In
every picture + is the better (or more moral) answer and blue; a condition keeps its colour
everywhere (:data:`CONDITION_COLOURS`). Names load on first use: ``import interp.viz`` is instant, but
in Jupyter, where it sees to it that figures carry a PNG (:mod:`interp.viz.notebooks`).

Example::

    figure = interp.viz.heatmap(interp.sweep(model, pairs))
    interp.viz.save(figure, "patching.svg")
    interp.viz.coloured_tokens(pair.source, log_probs)
    interp.viz.attention_page(model, pair, path="attention.html")
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.viz.attention import AttentionPage, attention_page
    from interp.viz.attention_mass import attention_to_span
    from interp.viz.attention_view import attention_view
    from interp.viz.behaviour import (
        categories,
        effects_by_condition,
        gain_by_rank,
        letters,
    )
    from interp.viz.circuits import circuit_graph, faithfulness
    from interp.viz.circuitsvis import attention_fragment
    from interp.viz.continuations import continuations
    from interp.viz.curves import direction_auc, projection_shift
    from interp.viz.directions import (
        direction_cosines,
        direction_nulls,
        direction_scores,
        transfer_heatmap,
    )
    from interp.viz.export import require_browser, save
    from interp.viz.grids import common_limit, heatmap
    from interp.viz.lens import (
        lens_divergences,
        lens_effects,
        lens_levels,
        lens_margin,
        lens_options,
    )
    from interp.viz.mirrored import flips, round_flips
    from interp.viz.options import effects, levels, position_bias
    from interp.viz.projections import projection_contrast, projection_map, top_contributors
    from interp.viz.report import Fragment, Section, render_report
    from interp.viz.runs import cell_effects, lens_runs, option_probabilities, projection_runs
    from interp.viz.steering import dose_response, effect_against_cost
    from interp.viz.superficiality import scorecard
    from interp.viz.sweeps import layer_profile, top_cells
    from interp.viz.theme import CONDITION_COLOURS, template
    from interp.viz.tokens import coloured_tokens
    from interp.viz.trajectories import edits, round_effects, rounds, toxicity

__all__ = [
    "CONDITION_COLOURS",
    "AttentionPage",
    "Fragment",
    "Section",
    "attention_fragment",
    "attention_page",
    "attention_to_span",
    "attention_view",
    "categories",
    "cell_effects",
    "circuit_graph",
    "coloured_tokens",
    "common_limit",
    "continuations",
    "direction_auc",
    "direction_cosines",
    "direction_nulls",
    "direction_scores",
    "dose_response",
    "edits",
    "effect_against_cost",
    "effects",
    "effects_by_condition",
    "faithfulness",
    "flips",
    "gain_by_rank",
    "heatmap",
    "layer_profile",
    "lens_divergences",
    "lens_effects",
    "lens_levels",
    "lens_margin",
    "lens_options",
    "lens_runs",
    "letters",
    "levels",
    "option_probabilities",
    "position_bias",
    "projection_contrast",
    "projection_map",
    "projection_runs",
    "projection_shift",
    "render_report",
    "require_browser",
    "round_effects",
    "round_flips",
    "rounds",
    "save",
    "scorecard",
    "template",
    "top_cells",
    "top_contributors",
    "toxicity",
    "transfer_heatmap",
]

attach(__name__)


def _set_up_jupyter() -> None:
    """In a Jupyter kernel, and only there: figures get a PNG beside plotly's output."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and hasattr(ipython.get_ipython(), "kernel"):
        from interp.viz.notebooks import set_up

        set_up()


_set_up_jupyter()
