"""The report of a lens run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does naming the answer move the output, does its curve show any layer, is there an
effect of the condition at the output. A curve that fails a gate is shown and not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.conditions import by_name, standing
from analyses.config import CLAIM_TEXTS
from analyses.page import write_page
from analyses.patch_tables import CONTROL
from analyses.readings import ALPHA, MIN_CLUSTERS, count
from interp import viz
from interp.runs import Run
from interp.stats import Interval, interval_of, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

if TYPE_CHECKING:
    from analyses.lens import LensRun

_Drawn: TypeAlias = tuple[str, go.Figure, str]
"""Name, figure, caption."""


def write_story(folder: Run, done: LensRun) -> None:
    """Write ``report.html``, every figure as HTML, and as PNG where that was asked for."""
    drawn = list(_figures(done))
    shown = {name: (figure, caption) for name, figure, caption in drawn}
    sections = [
        _question(done),
        _effect(done),
        _where(done, shown["effects"]),
        _levels(done, [shown["levels"], shown["options"]]),
        _distances(done, shown["divergences"]),
        _limits(done),
    ]
    figures = {name: figure for name, figure, _ in drawn}
    title = f"When does the instruction{by_name(done.config.condition)} change the answer?"
    write_page(folder, sections, figures, title=title, card=done.card, png=done.config.png)


def _figures(done: LensRun) -> Iterator[_Drawn]:
    seed = done.config.seed
    yield (
        "effects",
        viz.lens_effects(done.effects, done.parting),
        "What each instruction adds to its placebo. The panels have their own scales. Dashed: the "
        "layer where the runs part, its interval shaded.",
    )
    yield (
        "levels",
        viz.lens_levels(done.lens, seed=seed),
        "The margin that each layer's state would give if it were the last.",
    )
    yield (
        "options",
        viz.lens_options(done.lens, seed=seed),
        "The two options' first differing tokens: a margin can move because one rises or because the "
        "other falls.",
    )
    yield (
        "divergences",
        viz.lens_divergences(done.lens, seed=seed),
        "Whole distributions over the vocabulary. Any two sentences differ: the dotted line is two "
        "placebos (none with one text a condition).",
    )


def _question(done: LensRun) -> Section:
    config, dropped = done.config, len(done.lens.left_out)
    asked, (text, placebo) = f"the instruction{by_name(config.condition)}", done.example
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in done.items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    have, are = ("has", "is") if dropped == 1 else ("have", "are")
    left_out = (
        f" {count(dropped, 'item')} {have} no margin (no two options that a token tells apart) and "
        f"{are} left out."
        if dropped
        else ""
    )
    return Section(
        "What was done",
        paragraphs=[
            f"Every item is asked without an instruction (clean), with {asked}, with one that "
            "names the answer (revealing, the positive control), and with a placebo in place of each, "
            f"a sentence of {read_matching(done.lens.frame)}. For example, {standing(text)}: "
            f"“{text.text}” against “{placebo.text}” At every layer the "
            "state of the last position is read through the model's own final norm and unembedding, as "
            "if it were the last (logit lens).",
            f"The sample: {count(len(done.items), 'item')} ({counts}).{left_out} "
            f"{count(config.texts, 'wording')} of {asked}, each beside its own placebo; the "
            "options stand in their first order.",
            "The margin, in nats, is how much the better answer's logit exceeds the worse one's where "
            "their texts first differ. Layer 0 is the embedding, the last the model's own output.",
        ],
    )


def _effect(done: LensRun) -> Section:
    totals, asked = done.totals, done.config.condition
    paragraphs = [
        read_control_output(_total(totals, CONTROL)),
        read_output(_total(totals, asked), _p_texts(totals, asked), condition=asked),
    ]
    if done.config.texts < CLAIM_TEXTS:
        paragraphs.append(
            f"With {count(done.config.texts, 'wording')} the numbers speak of these sentences; a claim "
            f"about instructions takes at least {CLAIM_TEXTS}."
        )
    if totals["context"].nunique() > 1:
        paragraphs.append(
            "The sample mixes ambiguous and disambiguated items, whose margins contrast other "
            "options; the table has them apart, the curves together."
        )
    intervals = _intervals(totals, "effect", "low", "high")
    table = totals.drop(columns=["effect", "low", "high", "reason"])
    table = table.rename(columns={"p_texts": "p (texts permuted)"}).dropna(axis=1, how="all")
    table.insert(2, "treated - placebo (nats)", intervals)
    over = "texts and clusters of items" if done.config.texts > 1 else "clusters of items"
    return Section(
        "Is there an effect at the output?",
        paragraphs=paragraphs,
        tables=[(table, f"Effects on the output's margin, 95 % intervals over {over}.")],
    )


def _where(done: LensRun, figure: tuple[go.Figure, str]) -> Section:
    effects = done.effects
    rows = [
        {
            "contrast": f"{name} - placebo",
            "parts at layer": None if np.isnan(parting.estimate) else _whole(parting),
            "clear layers": layer_ranges(effects[effects["contrast"] == name]),
            "why none": parting.reason,
        }
        for name, parting in done.parting.items()
    ]
    table = pd.DataFrame(rows)
    if not table["why none"].any():
        table = table.drop(columns="why none")
    return Section(
        "At which layer?",
        paragraphs=read_curves(
            done.totals, done.effects, done.parting, condition=done.config.condition
        ),
        tables=[
            (
                table,
                "Two runs part at the first layer from which their mean difference keeps its final "
                "sign and at least half its final size; 95 % intervals over texts and clusters of "
                "items. Clear layers: family-wise p < .05 over layers (sign-flip max-T over "
                "clusters), and an interval over texts and clusters that excludes 0.",
            )
        ],
        figures=[figure],
    )


def _levels(done: LensRun, figures: list[tuple[go.Figure, str]]) -> Section:
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
        tables=[(table, "95 % intervals over clusters of items, texts fixed.")],
        figures=figures,
    )


def _distances(done: LensRun, figure: tuple[go.Figure, str]) -> Section:
    frame = done.distances
    table = pd.DataFrame(
        {
            "prompt": _names(frame),
            "against": frame["against"],
            "Jensen-Shannon at the output (nats)": _intervals(frame, "js", "js_low", "js_high"),
            "top-5 in common": _intervals(frame, "overlap", "overlap_low", "overlap_high"),
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


def _limits(done: LensRun) -> Section:
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in done.card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model: {done.card.one_line}.",
            "The lens reads a middle state in the output's basis. Where it shows nothing, the "
            "information may still be there in another form; where it shows something, nothing has "
            "been shown to be used. Patching asks that.",
            "Layers are correlated and were looked at together: p is corrected over all of them. A "
            "layer chosen here has to be reported on other items.",
        ],
        tables=[(checks, "Self-checks at load.")],
    )


def read_matching(frame: pd.DataFrame) -> str:
    """How long a placebo is beside its instruction, to follow "a sentence of"."""
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


def read_control_output(total: Interval) -> str:
    """Whether naming the answer moves the output."""
    numbers = f"{format_interval(total)} nats"
    if np.isnan(total.low) or total.n_clusters < MIN_CLUSTERS:
        why = total.reason or f"{count(total.n_clusters, 'cluster')} of items are too few"
        return f"The positive control (naming the answer) cannot be judged: {numbers}, {why}."
    if _works(total):
        return f"The positive control works: naming the answer raises the margin by {numbers}."
    return f"The positive control fails: naming the answer moves the margin by {numbers}."


def read_output(total: Interval, p_texts: float, *, condition: str) -> str:
    """Whether the condition moves the output; ``p_texts`` is NaN with too few texts to permute."""
    numbers = f"{format_interval(total)} nats"
    what = f"The instruction{by_name(condition)} changes the output's margin by {numbers}"
    if np.isnan(total.low):
        return f"{what}: {total.reason}, so nothing is claimed."
    if not total.excludes(0):
        return f"{what}: the interval contains 0, so no effect at the output is shown."
    if total.n_clusters < MIN_CLUSTERS:
        return f"{what}: {count(total.n_clusters, 'cluster')} of items are too few for a finding."
    if p_texts >= ALPHA:
        return (
            f"{what}: the interval excludes 0, but wordings with their labels permuted differ as much "
            f"(p = {p_texts:.2f})."
        )
    return f"{what}: it {'raises' if total.estimate > 0 else 'lowers'} it."


def read_curves(
    totals: pd.DataFrame, effects: pd.DataFrame, parting: dict[str, Interval], *, condition: str
) -> list[str]:
    """What the curves say once the gates are passed: the control's first, then the condition's."""
    control = _total(totals, CONTROL)
    if not (_works(control) and control.n_clusters >= MIN_CLUSTERS):
        return [
            "The positive control shows no effect here (see above): the curves are shown and not read."
        ]
    readings = [_read_curve(CONTROL, effects, parting[CONTROL])]
    if not effects.loc[effects["contrast"] == CONTROL, "clear"].any():
        return [*readings, "The positive control's curve shows nothing: no curve is read."]
    total = _total(totals, condition)
    clear = effects.loc[effects["contrast"] == condition, "clear"].any()
    if not total.excludes(0) and not clear:
        return [
            *readings,
            f"{condition.capitalize()}: at no layer does the margin differ clearly from the "
            "placebo's, and not at the output. The lens finds nothing here that the control's curve "
            "would have shown.",
        ]
    readings.append(_read_curve(condition, effects, parting[condition]))
    if not total.excludes(0):
        readings.append(
            "At the output no effect is shown, so no layer is named where the runs part."
        )
    return readings


def _read_curve(contrast: str, effects: pd.DataFrame, parting: Interval) -> str:
    rows = effects[effects["contrast"] == contrast]
    if not rows["clear"].any():
        where = "no layer is clear with all layers corrected for"
    else:
        top = rows.loc[rows.loc[rows["clear"], "estimate"].abs().idxmax()]
        size = interval_of(top)
        where = (
            f"clear at layers {layer_ranges(rows)}, most at {int(top['layer'])} "
            f"({format_interval(size)} nats)"
        )
    if np.isnan(parting.estimate):
        return f"{contrast.capitalize()}: {where}."
    return f"{contrast.capitalize()}: {where}; the runs part at layer {_whole(parting)}."


def read_distances(frame: pd.DataFrame, *, condition: str) -> str:
    """The condition's distance from its placebo, on the scale of two placebos."""
    chosen = (frame["condition"] == condition) & (frame["against"] == "placebo")
    own = frame[chosen].iloc[0]
    size = _interval(own["js"], own["js_low"], own["js_high"])
    said = (
        f"At the output the distribution under “{condition}” lies "
        f"{format_interval(size)} nats (Jensen-Shannon) from its placebo's."
    )
    if np.isnan(own["excess"]):
        return f"{said} With one text there are no two placebos to compare that with."
    excess = _interval(own["excess"], own["excess_low"], own["excess_high"])
    numbers = f"{format_interval(excess)} nats more than two placebos from each other"
    if np.isnan(excess.low):
        return f"{said} That is {numbers}; a single cluster has no interval."
    if excess.excludes(0):
        further = "further from its placebo than" if excess.estimate > 0 else "nearer to it than"
        return f"{said} That is {numbers}: it lies {further} another placebo does."
    return (
        f"{said} That is {numbers}: the interval contains 0, so no more is shown than that two "
        "sentences differ."
    )


def layer_ranges(rows: pd.DataFrame) -> str:
    """``12, 20-30``: the clear layers, ``none`` where there are none."""
    layers = sorted(int(layer) for layer in rows.loc[rows["clear"].astype(bool), "layer"])
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    spelt = [f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs]
    return ", ".join(spelt) or "none"


def _works(total: Interval) -> bool:
    return bool(total.excludes(0) and total.estimate > 0)


def _total(totals: pd.DataFrame, contrast: str) -> Interval:
    """The effect at the output over all items; its row is the first of the contrast."""
    row = totals[totals["contrast"] == contrast].iloc[0]
    effect, low, high = (float(row[name]) for name in ("effect", "low", "high"))
    return Interval(
        effect, low, high, int(row["items"]), int(row["clusters"]), reason=row["reason"]
    )


def _p_texts(totals: pd.DataFrame, contrast: str) -> float:
    return float(totals.loc[totals["contrast"] == contrast, "p_texts"].iloc[0])


def _interval(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate, low, high, 0, 0)


def _whole(parting: Interval) -> str:
    return f"{parting.estimate:.0f} [{parting.low:.0f}, {parting.high:.0f}]"


def _intervals(frame: pd.DataFrame, *columns: str) -> list[Interval]:
    return [_interval(*row) for row in frame[list(columns)].to_numpy(float)]


def _names(frame: pd.DataFrame) -> list[str]:
    """Every row's condition; placebos with what they stand in for."""
    pairs = zip(frame["condition"], frame["contrast"], strict=True)
    return [f"placebo of {of}" if name == "placebo" else str(name) for name, of in pairs]


def _n_layers(done: LensRun) -> int:
    return int(done.lens.frame["layer"].max())
