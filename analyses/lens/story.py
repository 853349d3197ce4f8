"""The report of a lens run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does naming the answer move the output, does its curve show any layer, is there an
effect of the condition at the output. A curve that fails a gate is shown but not interpreted. Layers are
named from their family alone: those with a p below .05, corrected over all layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.contrast import CONTROL, by_name, standing
from analyses.lens.tables import LensResult
from analyses.report.claims import Claim
from analyses.report.prose import count, number_ranges
from analyses.report.sections import (
    METRICS,
    effect_section,
    headline,
    limits,
    named,
    read_sample,
)
from analyses.report.verdicts import control_works, untested, wordings_caveat
from analyses.study import Story
from analyses.totals import claim_of
from interp import viz
from interp.stats import Interval, interval_of, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

_Drawn: TypeAlias = tuple[str, go.Figure, str]
"""Name, figure, caption."""


def tell(done: LensResult) -> Story:
    """Sections and figures."""
    drawn = list(_figures(done))
    shown = {name: (figure, caption) for name, figure, caption in drawn}
    return Story(
        title=f"When does the instruction{by_name(done.config.condition)} change the answer?",
        sections=[
            _question(done),
            _effect(done),
            _where(done, shown["effects"]),
            _levels(done, [shown["levels"], shown["options"]]),
            _distances(done, shown["divergences"]),
            _limits(done),
        ],
        figures={name: figure for name, figure, _ in drawn},
        headline=headline(done.totals, done.config.condition),
    )


def _figures(done: LensResult) -> Iterator[_Drawn]:
    layers, parted = told_contrasts(done.totals, done.effects, condition=done.config.condition)
    clear = done.effects["clear"].astype(bool) & done.effects["contrast"].isin(layers)
    partings = zip(done.parting["contrast"], intervals_of(done.parting), strict=True)
    parting = {str(name): interval for name, interval in partings if name in parted}
    yield (
        "effects",
        viz.lens_effects(done.effects.assign(clear=clear), parting, metric=done.config.metric),
        "What each instruction adds to its placebo. The panels have their own scales. Dashed: the "
        "layer where the runs part, its interval shaded, of a curve that is interpreted and has an "
        "effect at the output.",
    )
    yield (
        "levels",
        viz.lens_levels(done.lens),
        f"The {named(done.config.metric)} that each layer's state would give if it were the last.",
    )
    yield (
        "options",
        viz.lens_options(done.lens),
        "The two options' first differing tokens: a margin can move because one rises or because the "
        "other falls.",
    )
    yield (
        "divergences",
        viz.lens_divergences(done.lens),
        "Whole distributions over the vocabulary. Any two sentences differ: the dotted line is two "
        "placebos (none with one text a condition).",
    )


def _question(done: LensResult) -> Section:
    config = done.config
    asked = f"the instruction{by_name(config.condition)}"
    text, placebo = done.example[config.condition], done.example["placebo"]
    return Section(
        "What was done",
        paragraphs=[
            f"Every item is asked without an instruction (clean), with {asked}, with one that "
            "names the answer (revealing, the positive control), and with a placebo in place of each, "
            f"a sentence of {read_matching(done.lens.frame)}. For example, {standing(done.spec)}: "
            f"“{text}” against “{placebo}” At every layer the "
            "state of the last position is read through the model's own final norm and unembedding, as "
            "if it were the last (logit lens).",
            f"{read_sample(done.items, len(done.lens.left_out))} {count(config.texts, 'wording')} of "
            f"{asked}, each with its own placebo; the options stand in their first order.",
            f"{METRICS[config.metric]} Layer 0 is the embedding, the last the model's own output.",
            *filter(None, [wordings_caveat(config.texts)]),
        ],
    )


def _effect(done: LensResult) -> Section:
    asked = done.config.condition
    return effect_section(
        "Is there an effect at the output?",
        done.totals,
        asked,
        subject=f"The instruction{by_name(asked)}",
        difference="treated - placebo",
        shown="the curves",
        caption="Effects at the output.",
    )


def _where(done: LensResult, figure: tuple[go.Figure, str]) -> Section:
    effects = done.effects
    layers, parted = told_contrasts(done.totals, effects, condition=done.config.condition)
    rows = []
    for row, parting in zip(
        done.parting.to_dict("records"), intervals_of(done.parting), strict=True
    ):
        own = effects[effects["contrast"] == row["contrast"]]
        rows.append(
            {
                "contrast": f"{row['contrast']} - placebo",
                "parts at layer": (
                    None
                    if np.isnan(parting.estimate) or row["contrast"] not in parted
                    else _whole(parting)
                ),
                "clear layers": (
                    number_ranges(own.loc[own["clear"], "layer"])
                    if row["contrast"] in layers
                    else "not interpreted"
                ),
                "why none": parting.reason
                or ("" if row["contrast"] in parted else "no effect at the output is claimed"),
            }
        )
    table = pd.DataFrame(rows)
    if not table["why none"].any():
        table = table.drop(columns="why none")
    return Section(
        "At which layer?",
        paragraphs=read_curves(done.totals, effects, done.parting, condition=done.config.condition),
        tables=[
            (
                table,
                "Two runs part at the first layer from which their mean difference keeps its final "
                "sign and at least half its final size; 95 % intervals over texts and clusters of "
                "items. Clear layers: p < .05 with all layers corrected for (two-way max-t), and twice "
                "that, since the answer is asked about as well.",
            )
        ],
        figures=[figure],
    )


def _levels(done: LensResult, figures: list[tuple[go.Figure, str]]) -> Section:
    frame = done.settled
    table = pd.DataFrame(
        {
            "condition": _names(frame),
            "settled at layer (mean)": intervals_of(frame),
            "prompts": frame["n"],
            "items": frame["items"],
            "clusters": frame["n_clusters"],
        }
    )
    return Section(
        "When is the answer settled?",
        paragraphs=[
            "A prompt's answer is settled at the first layer from which the sign of its margin (which "
            f"of the two options is ahead) is that of the output, of {_n_layers(done)} layers. An "
            "early layer can be right by chance, so low numbers need not mean knowledge."
        ],
        tables=[(table, "95 % intervals over clusters of items, of the wordings asked.")],
        figures=figures,
    )


def _distances(done: LensResult, figure: tuple[go.Figure, str]) -> Section:
    frame = done.distances
    table = pd.DataFrame(
        {
            "prompt": _names(frame),
            "against": frame["against"],
            "Jensen-Shannon at the output (nats)": intervals_of(frame, "js"),
            "top-5 in common": intervals_of(frame, "overlap"),
            "largest at layer": frame["peak_layer"],
            "its size": frame["peak_js"],
        }
    )
    return Section(
        "How far apart are the distributions?",
        paragraphs=[read_distances(frame, condition=done.config.condition)],
        tables=[
            (
                table,
                "Means over texts and items, 95 % intervals over clusters of items. The study's "
                "reading is the overlap of the top 5 with and without the instruction (against clean); "
                "the placebo against clean holds the same change of length.",
            )
        ],
        figures=[figure],
    )


def _limits(done: LensResult) -> Section:
    return limits(
        done.card,
        [
            "The lens reads a middle state in the output's basis. Where it shows nothing, the "
            "information may still be there in another form; where it shows something, nothing has "
            "been shown to be used. Patching asks that.",
            "Layers are correlated and were looked at together: p is corrected over all of them, "
            "and, like that of the answer, for the two kinds of claims of this report. A layer "
            "chosen here has to be reported on other items.",
        ],
    )


def read_matching(frame: pd.DataFrame) -> str:
    """How long a placebo is compared with its instruction, to follow "a sentence of"."""
    rows = frame[(frame["contrast"] != "") & (frame["layer"] == 0)]
    lengths = rows.assign(treated=rows["condition"] != "placebo").pivot(
        index=["contrast", "slot", "item"], columns="treated", values="n_tokens"
    )
    mismatch = (lengths[True] - lengths[False]).abs()
    if not mismatch.any():
        return "the same number of tokens"
    return (
        "as nearly the same number of tokens as the bank allows (they differ by "
        f"{mismatch.mean():.1f} on average and by {mismatch.max():.0f} at most under this tokenizer)"
    )


def read_curves(
    totals: pd.DataFrame, effects: pd.DataFrame, parting: pd.DataFrame, *, condition: str
) -> list[str]:
    """What the curves say once the gates are passed: the control's first, then the condition's."""
    partings = dict(zip(parting["contrast"], intervals_of(parting), strict=True))
    if not control_works(claim_of(totals, CONTROL)):
        return [
            "Naming the answer shows no effect here (see above): the curves are shown but not "
            "interpreted."
        ]
    control = effects[effects["contrast"] == CONTROL]
    readings = [
        _read_curve(f"{CONTROL.capitalize()} (a curve of copying)", control, partings[CONTROL])
    ]
    if not clear_layers(control).any():
        return [*readings, "The control's curve shows nothing: no curve is interpreted."]
    own, claim = effects[effects["contrast"] == condition], claim_of(totals, condition)
    readings.append(_read_condition(condition.capitalize(), own, partings[condition], claim))
    return readings


def told_contrasts(
    totals: pd.DataFrame, effects: pd.DataFrame, *, condition: str
) -> tuple[set[str], set[str]]:
    """The contrasts whose clear layers :func:`read_curves` names, and those whose parting it names.

    Table and figure show no others.
    """
    if not control_works(claim_of(totals, CONTROL)):
        return set(), set()
    if not clear_layers(effects[effects["contrast"] == CONTROL]).any():
        return {CONTROL}, {CONTROL}
    claim = claim_of(totals, condition)
    layers = {CONTROL} if claim.verdict == "metric-dependent" else {CONTROL, condition}
    return layers, {CONTROL, condition} if claim.is_effect else {CONTROL}


def _read_condition(name: str, rows: pd.DataFrame, parting: Interval, claim: Claim) -> str:
    """The curve of the condition; its parting is told only where there is an effect at the output."""
    if claim.is_effect:
        return _read_curve(name, rows, parting)
    if claim.verdict == "metric-dependent":
        return f"{name}: its effect at the output is metric-dependent, so no layer is named."
    at_output = f"At the output the verdict is {claim.verdict}, so no layer of parting is named."
    blocked = untested(interval_of(rows.iloc[0]))
    if blocked:
        return f"{name}: no layer is named, {blocked}. {at_output}"
    if not clear_layers(rows).any():
        return (
            f"{name}: no layer differs from the placebo with all layers corrected for. {at_output}"
        )
    return f"{_read_curve(name, rows, None)} {at_output}"


def clear_layers(rows: pd.DataFrame) -> pd.Series:
    """The layers that may be named: of the family, with enough wordings and clusters."""
    return rows["clear"].astype(bool) & (not untested(interval_of(rows.iloc[0])))


def _read_curve(name: str, rows: pd.DataFrame, parting: Interval | None) -> str:
    clear = rows[clear_layers(rows)]
    if clear.empty:
        where = (
            untested(interval_of(rows.iloc[0])) or "no layer is clear with all layers corrected for"
        )
    else:
        top = clear.iloc[int(clear["estimate"].abs().argmax())]
        where = (
            f"clear at layers {number_ranges(clear['layer'])}, most at {int(top['layer'])} "
            f"({format_interval(interval_of(top))} nats)"
        )
    if parting is None or np.isnan(parting.estimate):
        return f"{name}: {where}."
    return f"{name}: {where}; the runs part at layer {_whole(parting)}."


def read_distances(frame: pd.DataFrame, *, condition: str) -> str:
    """The condition's distance from its placebo, on the scale of two placebos."""
    chosen = (frame["condition"] == condition) & (frame["against"] == "placebo")
    own = frame[chosen].iloc[0]
    said = (
        f"At the output the distribution under “{condition}” lies "
        f"{format_interval(interval_of(own, 'js'))} nats (Jensen-Shannon) from its placebo's."
    )
    excess = interval_of(own, "excess")
    if np.isnan(excess.estimate):
        return f"{said} With one text there are no two placebos to compare that with."
    numbers = f"{format_interval(excess)} nats more than two placebos from each other"
    if np.isnan(excess.low):
        return f"{said} That is {numbers}; a single cluster has no interval."
    within = "" if excess.excludes(0) else ", no more than any two sentences differ"
    return f"{said} That is {numbers}{within} (over clusters of items, of these wordings)."


def _whole(parting: Interval) -> str:
    return f"{parting.estimate:.0f} [{parting.low:.0f}, {parting.high:.0f}]"


def _names(frame: pd.DataFrame) -> list[str]:
    """Every row's condition; placebos with what they stand in for."""
    pairs = zip(frame["condition"], frame["contrast"], strict=True)
    return [f"placebo of {of}" if name == "placebo" else str(name) for name, of in pairs]


def _n_layers(done: LensResult) -> int:
    return int(done.lens.frame["layer"].max())
