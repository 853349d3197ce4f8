"""The report of a patching run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: is there an effect to localise, does the positive control's map (a map of copying)
show something, which cells differ from zero with all cells of the condition's maps corrected for. A map
that fails a gate is shown but not interpreted, and no cell is named outside its family.
:func:`map_section` and :func:`map_figures` are functions of sweeps and their tables, so that other
reports can have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.config import MAP_ITEMS
from analyses.contrast import CONTROL, by_name, standing
from analyses.patch.config import PatchConfig
from analyses.patch.health import read_health
from analyses.patch.reading import held_back, read_map
from analyses.patch.tables import PatchResult
from analyses.report.claims import Claim
from analyses.report.prose import count
from analyses.report.sections import METRICS, effect_section, headline, limits, named, read_sample
from analyses.report.verdicts import untested, wordings_caveat
from analyses.study import Story
from analyses.totals import claim_of
from interp import viz
from interp.patching import SweepResult
from interp.prompts.align import EQUAL_LENGTHS
from interp.stats import intervals_of
from interp.viz import Section
from interp.viz.sweeps import partly_patched_columns

Drawn: TypeAlias = tuple[str, go.Figure, str]
"""Name, figure, caption."""


class _Marks(TypedDict):
    """How a figure marks cells."""

    significance: bool
    n_maps: int


_SITES = {
    "resid_pre": "the residual stream before each layer",
    "resid_mid": "the residual stream between attention and MLP",
    "resid_post": "the residual stream after each layer",
    "attn_out": "the output of each layer's attention",
    "mlp_out": "the output of each layer's MLP",
    "z": "the output of each attention head",
    "q": "the queries of each head",
    "k": "the keys of each key/value head",
    "v": "the values of each key/value head",
    "pattern": "the attention pattern of each head",
}
_UNITS = {
    "layer_span": "one span at one layer",
    "layer_pos": "one position at one layer",
    "layer_head": "one head",
    "layer_head_pos": "one head at one position",
}


def tell(done: PatchResult) -> Story:
    """Sections and figures."""
    config, sections = done.config, [_question(done), _effect(done)]
    figures: dict[str, go.Figure] = {}
    for site in config.site:
        results = {name: sweep for (name, at), sweep in done.results.items() if at == site}
        drawn = list(
            map_figures(results, done.totals, condition=config.condition, n_maps=len(config.site))
        )
        summary = done.summary[done.summary["site"] == site]
        sections.append(
            map_section(
                results,
                summary,
                done.totals,
                drawn,
                condition=config.condition,
                n_maps=len(config.site),
                health=done.health[done.health["site"] == site],
            )
        )
        figures |= {name: figure for name, figure, _ in drawn}
    title = f"Where does the instruction{by_name(config.asked)} act?"
    found = headline(done.totals, config.condition, against=config.against)
    return Story(title, [*sections, _limits(done)], figures, headline=found)


def _question(done: PatchResult) -> Section:
    config, used = done.config, len(done.items) - done.dropped
    result = done.results[config.condition, config.site[0]]
    clusters, pairs = len(set(result.clusters)), len(result.pair_labels)
    texts = count(config.texts, "text")
    asked = f", each with one of {texts} in turn," if config.rotate else f" x {texts} a condition"
    source, destination = (
        f"“{text}”" if text else "no instruction"
        for text in (done.example[config.condition], done.example[config.against])
    )
    return Section(
        "What was done",
        paragraphs=[
            f"Two prompts of the same item are run: under “{config.condition}” and under "
            f"“{config.against}”. Then the second is run again and again, each time with some of its "
            "activations replaced by those of the first. What moves its answer is sufficient for "
            "the difference between the two prompts.",
            f"{read_sample(done.items, done.dropped)} "
            f"{count(used, 'item')}{asked} give {count(pairs, 'pair')} in "
            f"{count(clusters, 'cluster')} of items. The "
            f"instruction{by_name(config.asked)} stands {standing(done.spec, config.placement)}. For "
            f"example: {source} against {destination}" + _fitted(config),
            f"{METRICS[config.metric]} A cell's effect is the {named(config.metric)} with the patch "
            "minus that without; its share is that effect over the whole one."
            + (OPTION_ROWS if config.metric == "option_margin" else ""),
            *filter(None, [wordings_caveat(config.texts)]),
        ],
    )


OPTION_ROWS = (
    " The options' own tokens are not patched: even all of the prompt, copied before a later layer, "
    "leaves what they read of it below, so that the share of everything is 1 at the first layer and can "
    "be smaller at later ones."
)


def _fitted(config: PatchConfig) -> str:
    """That the control was fitted, and how."""
    if config.fit_length is None:
        return ""
    how = "dropping words from its end" if config.fit_length == "trim" else "adding neutral words"
    return (
        f" (the text of “{config.against}” was brought to the token count of the other one by {how}: "
        f"fit_length={config.fit_length})"
    )


def _effect(done: PatchResult) -> Section:
    config, totals = done.config, done.totals
    return effect_section(
        "Is there an effect to localise?",
        totals,
        config.condition,
        subject=f"“{config.condition}” against “{config.against}”",
        rest=read_localisable(claim_of(totals, config.condition)),
        difference="source - destination",
        shown="the maps",
        caption="The whole effect.",
    )


def map_section(
    results: Mapping[str, SweepResult],
    summary: pd.DataFrame,
    totals: pd.DataFrame,
    figures: Sequence[Drawn],
    *,
    condition: str,
    n_maps: int = 1,
    health: pd.DataFrame | None = None,
) -> Section:
    """What was patched at one site, what its map says, and the spans' shares.

    ``results``: the sweeps of the condition and of the control where one ran; ``summary``: their
    rows of :func:`analyses.patch.tables.whole_summary`; ``totals``: of
    :func:`analyses.totals.totals_of`; ``health``: of :func:`analyses.patch.health.health_table`.
    """
    result = results[condition]
    control = (results[CONTROL], claim_of(totals, CONTROL)) if CONTROL in results else None
    shares = intervals_of(summary, "share")
    table = pd.DataFrame(
        {
            "condition": summary["condition"],
            "span": [
                f"{span} ({count})" if count else span
                for span, count in zip(summary["span"], summary["not_patched"], strict=True)
            ],
            "cells": summary["cells"],
            "mean effect (nats)": intervals_of(summary),
            # a dash where undefined; the caption gives the reason
            "share": [None if np.isnan(share.estimate) else share for share in shares],
            "largest cell": summary["largest_cell"],
            "its effect": summary["largest_effect"],
        }
    )
    undefined = " Shares are undefined where the whole effect's interval contains 0 (a dash)."
    return Section(
        f"Where: {result.site}",
        paragraphs=[
            f"Patched: {_SITES[result.site]} ({result.site}), "
            f"{_UNITS['_'.join(result.axis_names)]} at a time{_windows(result)}.",
            *_too_few_to_read(result),
            *_patched_in_part(results),
            *read_map(
                condition, result, claim_of(totals, condition), control=control, n_maps=n_maps
            ),
            *([] if health is None else read_health(health)),
        ],
        tables=[
            (
                table,
                "Means over the cells of a span (its layers, positions, heads), 95 % intervals over "
                "clusters of items and wordings, each for itself; shares by Fieller's method. The "
                "largest "
                "cell was picked for its size."
                + (undefined if summary["share"].isna().any() else ""),
            ),
            *([] if health is None else [_health(health)]),
        ],
        figures=[(figure, caption) for _, figure, caption in figures],
    )


_HEALTH = (
    "Checks of the largest cells. Moved against: pairs whose effect has the other sign than the cell's "
    "mean."
)
_CHECKED = (
    " Brings - costs: what a cell brings when put into the destination's run minus what it costs to "
    "take it out of the source's, p corrected over these cells (Holm). Relative norm: of the patch's "
    "change, by the state it changes."
)


def _health(health: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The health table as it is shown, and its caption."""
    names = {
        "cell": "cell",
        "effect": "effect (nats)",
        "moved_against": "moved against",
        "interaction": "brings - costs",
        "p_interaction": "p",
        "dose": "relative norm",
    }
    columns = [name for name in names if name in health]
    table = health[columns].rename(columns=names).reset_index(drop=True)
    return table, _HEALTH + (_CHECKED if "interaction" in health else "")


def _too_few_to_read(result: SweepResult) -> list[str]:
    """What a map of few items cannot show."""
    n_clusters = len(set(result.clusters))
    if n_clusters >= MAP_ITEMS // 2:  # at most two items of a cluster
        return []
    pairs, clusters = count(len(result.pair_labels), "pair"), count(n_clusters, "cluster")
    return [
        f"{pairs} of prompts in {clusters} are too few to read single cells: even one that holds the "
        "whole effect may not be clear, so a cell that is not named is not shown to be without effect."
    ]


def _patched_in_part(results: Mapping[str, SweepResult]) -> list[str]:
    """Which columns are grey since their tokens have no counterpart, and what to do about it."""
    said = []
    for name, result in results.items():
        columns = partly_patched_columns(result)
        if columns:
            said.append(
                f"In the map of {name} patched in part, drawn grey and named as no effect: "
                f"{'; '.join(columns)}. The two texts differ in length: {EQUAL_LENGTHS}."
            )
    return said


def map_figures(
    results: Mapping[str, SweepResult],
    totals: pd.DataFrame,
    *,
    condition: str,
    n_maps: int = 1,
) -> Iterator[Drawn]:
    """The control's figures at one site first, then the condition's, on the same scale of colours.

    Cells are outlined in maps that the section interprets, by the rule by which it names them. The other
    arguments are those of :func:`map_section`.
    """
    claim = claim_of(totals, condition)
    control = (results[CONTROL], claim_of(totals, CONTROL)) if CONTROL in results else None
    held = {condition: held_back(claim, control, n_maps=n_maps)}
    limit = viz.common_limit(*results.values())
    for name in [name for name in dict.fromkeys([CONTROL, condition]) if name in results]:
        result = results[name]
        is_control = name == CONTROL and condition != CONTROL
        who = "the positive control" if is_control else f"the {name} prompt"
        copying = ", a map of copying: it names the answer" if name == CONTROL else ""
        tested = not held.get(name) and not untested(result.total())
        marks: _Marks = {"significance": tested, "n_maps": n_maps}
        over = "this map" if n_maps == 1 else f"all {n_maps} maps"
        caption = (
            f"The map of {who}{copying}. Blue: the patch brings the better answer. "
            + (
                f"Outlined: p < .05 with all cells of {over} corrected for; a colour without an outline "
                "is no result."
                if tested
                else "Shown but not interpreted (see above), so no cell is outlined."
            )
            + (" All maps here have one scale." if len(results) > 1 else "")
        )
        yield f"map-{name}-{result.site}", viz.heatmap(result, limit=limit, **marks), caption
        if "span" in result.axis_names:
            caption = f"The same for {who}: each span's mean effect over layers."
            yield f"profile-{name}-{result.site}", viz.layer_profile(result), caption
        if not is_control:
            caption = "The largest cells, picked for their size and so biased upward by selection."
            yield f"top-{name}-{result.site}", viz.top_cells(result, **marks), caption


def _limits(done: PatchResult) -> Section:
    against = done.config.against
    other_length = (
        f" Against “{against}” the effect holds that of another length and position as well: compare "
        "it with the placebo against the same prompt."
    )
    return limits(
        done.card,
        [
            "A cell says that copying those activations is sufficient for a change of the "
            f"{named(done.config.metric)} in these prompts, not that they are necessary, and nothing "
            "about what they mean.",
            "Cells are correlated and were looked at together: p is corrected over all cells of a "
            "map. A layer or head chosen here has to be reported on other items."
            + (other_length if against != "placebo" else ""),
        ],
    )


def read_localisable(claim: Claim) -> str:
    """Whether there is an effect to localise, to follow its sentence."""
    if claim.is_effect:
        return " This whole effect is what the maps divide up."
    return " So there is nothing to localise."


def _windows(result: SweepResult) -> str:
    """How many layers are patched together, where it is more than one: labels are ``3-7``."""
    first, _, last = result.axis_labels["layer"][0].partition("-")
    return f", {int(last) - int(first) + 1} layers together" if last else ""
