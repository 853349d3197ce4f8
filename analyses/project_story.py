"""The report of a projection run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does the direction separate held-out sentences, does the positive control move
the projection, does the instruction's contrast differ from zero and from the null directions'? A
position that causality fixes is said to be fixed and not tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analyses.conditions import by_name, standing
from analyses.page import write_page
from analyses.patch_tables import CONTROL
from analyses.readings import MIN_CLUSTERS, count, read_auc
from interp import viz
from interp.prompts import TokenizedPrompt
from interp.runs import Run
from interp.stats import Interval
from interp.viz import Section
from interp.viz.report import format_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from analyses.project import ProjectRun

_KINDS = {
    "covariance": "drawn with the covariance of the states",
    "contrast": "of non-moral contrasts fitted the same way",
    "placebo": "between the placebo texts themselves",
}
_MOST_NAMED = 6
_TEXTS_FOR_A_CLAIM = 6
_HEADINGS = {"class_units": "class units", "p_texts": "p, texts", "p_null": "p, nulls"}


def write_story(folder: Run, done: ProjectRun) -> None:
    """Write ``report.html``, every figure as HTML, and as PNG where that was asked for."""
    figures: dict[str, go.Figure] = {}
    sections = [_question(done)]
    for position in done.config.positions:
        sections.append(_projection(done, position, figures))
        if not _fixed(done, position):
            sections.append(_components(done, position, figures))
    sections.append(_limits(done))
    title = f"Does the instruction{by_name(done.config.condition)} move the projection?"
    write_page(folder, sections, figures, title=title, card=done.card, png=done.config.png)


def _question(done: ProjectRun) -> Section:
    config, stack = done.config, done.direction
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in done.items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    row = stack.layers.index(stack.best_layer)
    clusters = len({item.cluster for item in done.items})
    source, placebo = (_instruction(done.example[name]) for name in (config.condition, "placebo"))
    return Section(
        "What was done",
        paragraphs=[
            f"A direction was learned from {stack.facts.n_texts} sentences ({stack.facts.source}, "
            f"{stack.facts.method.replace('_', ' ')}, {stack.site} of the last token); + is its "
            "positive, moral class. "
            + read_auc(stack.auc.at(row), stack.best_layer, len(stack.layers)),
            f"The sample: {count(len(done.items), 'item')} ({counts}) in "
            f"{count(clusters, 'cluster')}, each under {count(config.texts, 'wording')} of the "
            f"instruction{by_name(config.condition)} and as many placebos of matched length, "
            f"{standing(done.asked, config.placement)}: "
            f"{source} against {placebo} A revealing instruction, which names the answer, is the "
            "positive control.",
            f"A contrast is {config.condition} minus placebo, in standard deviations of the placebo "
            "prompts' projections at the same layer. It is compared with the same contrast along null "
            "directions at the same place: what any two sets of texts do to states that are spread "
            "as these are.",
        ],
    )


def _projection(done: ProjectRun, position: str, figures: dict[str, go.Figure]) -> Section:
    site = done.direction.site
    title = f"The projection at “{position}”"
    rows = _rows(done.contrasts, position, site)
    if _fixed(done, position):
        return Section(title, paragraphs=[read_fixed(rows)])
    nulls = done.nulls[done.nulls["position"] == position]
    asked = done.config.condition
    treated, control = (rows[rows["condition"] == name] for name in (asked, CONTROL))
    layer = done.direction.best_layer
    row = done.direction.layers.index(layer)
    usable = bool(done.direction.auc.at(row).low > 0.5)
    figure = viz.projection_contrast(rows, nulls, title=f"{site} at “{position}”")
    figures[f"contrast-{_file(position)}"] = figure
    table = treated[["layer", "class_units", "p", "p_texts", "p_null"]].rename(columns=_HEADINGS)
    table.insert(1, "contrast", _intervals(treated, "estimate", ""))
    table["cosine"] = _intervals(treated, "cosine")
    table["standardised"] = _intervals(treated, "standardised")
    return Section(
        title,
        paragraphs=[
            read_control(control),
            *read_instruction(treated, control, condition=asked, usable=usable),
            *read_best(treated[treated["layer"] == layer].iloc[0], nulls, usable=usable),
        ],
        tables=[
            (
                table,
                f"{asked.capitalize()} minus placebo per layer, 95 % intervals over texts x clusters of "
                "items. Class units: the two classes of sentences lie 2 apart. p: against zero, signs "
                "of clusters flipped, family-wise over layers; texts: their labels permuted, per "
                "layer; nulls: against directions drawn with the states' covariance, family-wise over "
                "layers. Cosine: raw, as in the study; standardised: every dimension centred and "
                "scaled by its spread over placebo prompts, because a few large dimensions decide raw "
                "cosines.",
            )
        ],
        figures=[
            (
                figure,
                "A shift inside the grey band is what directions without a meaning show as well. "
                "Green: the positive control, one wording.",
            )
        ],
    )


def _components(done: ProjectRun, position: str, figures: dict[str, go.Figure]) -> Section:
    stack = done.direction
    rows = done.contrasts[done.contrasts["position"] == position]
    parts = done.contributors[done.contributors["position"] == position]
    asked = done.config.condition
    treated = parts[parts["condition"] == asked]
    drawn = {
        f"map-{_file(position)}": viz.projection_map(
            rows[rows["condition"] == asked],
            title=f"{asked.capitalize()} − placebo per component at “{position}”",
        ),
        f"contributors-{_file(position)}": viz.top_contributors(
            treated, title=f"Who writes the contrast at layer {stack.best_layer}"
        ),
    }
    figures.update(drawn)
    captions = (
        "Every layer's component on that layer's own direction, in SDs of that component's own "
        "projections over placebo prompts.",
        f"The exact parts of the projection at layer {stack.best_layer}: embedding, heads, attention "
        "biases and MLPs up to there, with intervals over texts x clusters. The largest were picked "
        "for their size and are a little flattered.",
    )
    return Section(
        f"Which components, at “{position}”",
        paragraphs=[read_parts(treated, stack.best_layer)],
        figures=list(zip(drawn.values(), captions, strict=True)),
    )


def _limits(done: ProjectRun) -> Section:
    texts = done.config.texts
    few = (
        f" Here there are {count(texts, 'wording')} a side, so the numbers speak of these texts."
        if texts < _TEXTS_FOR_A_CLAIM
        else ""
    )
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in done.card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model: {done.card.one_line}.",
            "A shift along a direction is a correlation. Whether the direction, learned on plain "
            "sentences, means the same in these prompts and whether it causes the answer needs "
            "interventions. At positions after the instruction a shift may be the mere wording of "
            "the instruction, carried along.",
            "Positions before the instruction cannot change, whatever the instruction does: what is "
            "stored about the content can only be asked with the instruction first.",
            "A part of the decomposition says which component wrote along the direction in these "
            "runs, not what would happen without it." + few,
        ],
        tables=[(checks, "Self-checks at load.")],
    )


def read_fixed(rows: pd.DataFrame) -> str:
    """What is said of a position that causality fixes."""
    largest = float(np.nan_to_num(rows["dot"].abs()).max())
    measured = f"at most {largest:.0e}, rounding" if largest else "none"
    return (
        "Here nothing can change: the instruction comes later, and a state depends on earlier "
        f"tokens alone (measured difference: {measured}). Ask with the instruction before the "
        "question."
    )


def read_control(control: pd.DataFrame) -> str:
    """Whether naming the answer moves the projection anywhere."""
    blocked = _untestable(control)
    if blocked:
        return f"The positive control cannot be judged: {blocked}."
    found = control[control["sure"]]
    if found.empty:
        return (
            "The positive control moves the projection at no layer, with all layers corrected for: "
            "the absence of a shift under the instruction would mean little."
        )
    return (
        f"The positive control moves the projection at {len(found)} of "
        f"{count(len(control), 'layer')}, most at layer {_largest(found)}."
    )


def read_instruction(
    rows: pd.DataFrame, control: pd.DataFrame, *, condition: str, usable: bool
) -> list[str]:
    """Where the condition's contrast differs from zero and from the nulls, or that it does not."""
    asked = f"The instruction{by_name(condition)}"
    blocked = _untestable(rows)
    if blocked:
        return [f"{asked}'s shift cannot be tested: {blocked}."]
    n = count(len(rows), "layer")
    moved = rows[rows["sure"]]
    if moved.empty:
        return [
            f"{asked}: no effect is shown. Its shift differs from zero at none of {n}, with "
            "all layers corrected for."
        ]
    beyond = moved[moved["beyond"]]
    differs = f"{asked}'s shift differs from zero at {len(moved)} of {n}"
    if beyond.empty:
        return [
            f"{differs}, but at none of them is it larger than along directions without a meaning: "
            "the texts differ, and this direction is not special."
        ]
    named = beyond.loc[beyond["estimate"].abs().sort_values(ascending=False, kind="stable").index]
    layers = "; ".join(
        f"layer {row.layer} {row.estimate:+.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in named.head(_MOST_NAMED).itertuples()
    )
    reading = (
        f"{differs}, and at {len(beyond)} it exceeds both those along nulls drawn with the states' "
        f"covariance and those along every non-moral contrast: {layers}."
    )
    texts = int(rows["texts"].iloc[0])
    if texts < _TEXTS_FOR_A_CLAIM:
        reading += f" With {count(texts, 'wording')} a side this speaks of these texts alone."
    gates = []
    if not usable:
        gates.append("the direction does not separate held-out sentences")
    if not _untestable(control) and not control["sure"].any():
        gates.append("the positive control shows nothing")
    return [reading, f"It is not read: {' and '.join(gates)}."] if gates else [reading]


def read_best(row: pd.Series, nulls: pd.DataFrame, *, usable: bool) -> list[str]:
    """The layer chosen on the sentences, beside every kind of null there."""
    if np.isnan(row["estimate"]):
        return [f"At layer {row['layer']} the placebo prompts' projections do not vary."]
    interval = Interval(row["estimate"], row["low"], row["high"], 0, int(row["clusters"]))
    here = nulls[nulls["layer"] == row["layer"]]
    beside = "; ".join(
        f"{int((group['estimate'].abs() < abs(row['estimate'])).sum())} of {len(group)} directions "
        f"{_KINDS[kind]}"
        for kind, group in here.groupby("kind", sort=False)
    )
    way = "towards" if row["estimate"] > 0 else "away from"
    claim = interval.excludes(0) and row["clusters"] >= MIN_CLUSTERS and usable
    return [
        f"At layer {row['layer']}, chosen on the sentences alone, the contrast is "
        f"{format_interval(interval)} placebo SDs ({row['class_units']:+.2f} class units"
        + (f", {way} the moral class" if claim else "")
        + (f"; texts' labels permuted: p = {row['p_texts']:.3f}). " if row["texts"] > 1 else "). ")
        + f"In absolute size that is more than along {beside}."
    ]


def read_parts(parts: pd.DataFrame, layer: int) -> str:
    """Which parts of the projection differ from zero."""
    total = float(parts["estimate"].sum())
    opening = f"The parts of the contrast at layer {layer} add up to {total:+.2f} placebo SDs."
    blocked = _untestable(parts)
    if blocked:
        return f"{opening} They cannot be tested: {blocked}."
    sure = parts[parts["sure"].astype(bool)]
    if sure.empty:
        return f"{opening} No part differs from zero with all {len(parts)} corrected for."
    named = sure.loc[sure["estimate"].abs().sort_values(ascending=False, kind="stable").index]
    listed = "; ".join(
        f"{row.label} {row.estimate:+.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in named.head(_MOST_NAMED).itertuples()
    )
    some = "the largest are " if len(sure) > _MOST_NAMED else ""
    return f"{opening} {len(sure)} of {len(parts)} differ from zero, all corrected for: {some}{listed}."


def _untestable(rows: pd.DataFrame) -> str:
    """Why no p can be read here; empty where one can."""
    clusters = int(rows["clusters"].iloc[0])
    if clusters < MIN_CLUSTERS:
        return f"{count(clusters, 'cluster')} of items are too few for a finding"
    return ""


def _largest(rows: pd.DataFrame) -> str:
    row = rows.iloc[int(rows["estimate"].abs().argmax())]
    return f"{row['layer']} ({row['estimate']:+.2f} placebo SDs)"


def _rows(table: pd.DataFrame, position: str, component: str) -> pd.DataFrame:
    return table[(table["position"] == position) & (table["component"] == component)]


def _fixed(done: ProjectRun, position: str) -> bool:
    table = done.contrasts
    return bool(table.loc[table["position"] == position, "fixed"].all())


def _intervals(rows: pd.DataFrame, name: str, bounds: str | None = None) -> pd.Series:
    """A column with its bounds (``<name>_low`` and ``_high``) as intervals."""
    prefix = f"{name}_" if bounds is None else bounds
    columns = (rows[c].tolist() for c in (name, f"{prefix}low", f"{prefix}high"))
    values = [Interval(e, low, high, 0, 0) for e, low, high in zip(*columns, strict=True)]
    return pd.Series(values, index=rows.index, dtype=object)


def _file(position: str) -> str:
    return position.replace(":", "-")


def _instruction(prompt: TokenizedPrompt) -> str:
    return f"“{''.join(prompt.str_tokens[prompt.span('instruction')]).strip()}”"
