"""The report of a projection run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does the direction separate held-out sentences, does the positive control move
the projection, does the instruction's contrast differ from zero and from the null directions'? A
position that causality fixes is said to be fixed and not tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.contrast import CONTROL, by_name, standing
from analyses.project.tables import ProjectResult
from analyses.report.prose import count
from analyses.report.sections import effect_section, headline, limits, sample_counts
from analyses.report.verdicts import (
    above_chance,
    p_of,
    read_direction,
    read_no_finding,
    untested,
    wordings_caveat,
)
from analyses.study import Story
from interp import viz
from interp.stats import interval_of, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

_KINDS = {
    "covariance": "drawn with the covariance of the states",
    "contrast": "of non-moral contrasts fitted the same way",
    "placebo": "between the placebo texts themselves",
}
_MOST_NAMED = 6
_HEADINGS = {"class_units": "class units", "p_corrected": "p, family", "p_null": "p, nulls"}


def tell(done: ProjectResult) -> Story:
    """Sections and figures."""
    figures: dict[str, go.Figure] = {}
    sections = [_question(done), _effect(done)]
    for position in done.config.positions:
        sections.append(_projection(done, position, figures))
        if not _fixed(done, position):
            sections.append(_components(done, position, figures))
    sections.append(_limits(done))
    title = f"Does the instruction{by_name(done.config.condition)} move the projection?"
    found = headline(done.totals, done.config.condition)
    return Story(title, sections, figures, headline=found)


def _question(done: ProjectResult) -> Section:
    config, stack = done.config, done.direction
    shuffled = p_of(stack.shuffled.p[stack.best_row])
    clusters = len({item.cluster for item in done.items})
    text, placebo = (done.example[name].strip() for name in (config.condition, "placebo"))
    return Section(
        "What was done",
        paragraphs=[
            read_direction(stack)
            + (f" Labels shuffled: {shuffled}, family-wise over layers." if shuffled else ""),
            f"The sample: {count(len(done.items), 'item')} ({sample_counts(done.items)}) in "
            f"{count(clusters, 'cluster')}, each under {count(config.texts, 'wording')} of the "
            f"instruction{by_name(config.condition)} and as many placebos of matched length, "
            f"{standing(done.spec, config.placement)}: “{text}” against “{placebo}” A revealing "
            "instruction, which names the answer, is the positive control.",
            f"A contrast is {config.condition} minus placebo, in standard deviations of the placebo "
            "prompts' projections at the same layer. It is compared with the same contrast along null "
            "directions at the same place: what any two sets of texts do to states that are spread "
            "as these are.",
            *filter(None, [wordings_caveat(config.texts)]),
        ],
    )


def _effect(done: ProjectResult) -> Section:
    asked = done.config.condition
    return effect_section(
        "Does it change the answer?",
        done.totals,
        asked,
        subject=f"The instruction{by_name(asked)}",
        difference="treated - placebo",
        shown="the projections",
        caption="Effects on the answer, beside which the projection is read.",
    )


def _projection(done: ProjectResult, position: str, figures: dict[str, go.Figure]) -> Section:
    site = done.direction.site
    title = f"The projection at “{position}”"
    rows = _rows(done.contrasts, position, site)
    if _fixed(done, position):
        return Section(title, paragraphs=[read_fixed(rows)])
    nulls = done.nulls[done.nulls["position"] == position]
    asked = done.config.condition
    treated, control = (rows[rows["condition"] == name] for name in (asked, CONTROL))
    layer, row = done.direction.best_layer, done.direction.best_row
    usable = above_chance(done.direction.auc.at(row), done.direction.shuffled.p[row])
    at_chance = done.direction.layers_at_chance
    figure = viz.projection_contrast(
        rows, nulls, title=f"{site} at “{position}”", at_chance=at_chance
    )
    figures[f"contrast-{position}"] = figure
    table = treated[["layer", "class_units", "p_corrected", "p_null"]].rename(columns=_HEADINGS)
    table.insert(1, "contrast", pd.Series(intervals_of(treated), index=treated.index))
    for name in ("cosine", "standardised"):
        table[name] = pd.Series(intervals_of(treated, name), index=treated.index)
    return Section(
        title,
        paragraphs=[
            read_control(control),
            *read_instruction(
                treated, control, condition=asked, usable=usable, at_chance=at_chance
            ),
            *read_best(treated[treated["layer"] == layer].iloc[0], nulls, usable=usable),
        ],
        tables=[
            (
                table,
                f"{asked.capitalize()} minus placebo per layer, 95 % intervals with wordings and "
                "clusters of items as random, each for itself. Class units: the two classes of "
                "sentences lie 2 apart. p, family: against zero, two-way max-t over all layers, "
                "components and positions, corrected for the three kinds of claims here (the answer, "
                "layers, parts); nulls: against directions drawn with the states' covariance, "
                "family-wise over layers. Cosine: raw, as in the study; standardised: every "
                "dimension centred and scaled by its spread over placebo prompts, because a few "
                "large dimensions decide raw cosines.",
            )
        ],
        figures=[
            (
                figure,
                "A shift inside the grey band is what null directions show as well; at a greyed layer "
                "the direction is at chance. Green: the positive control, which names the answer.",
            )
        ],
    )


def _components(done: ProjectResult, position: str, figures: dict[str, go.Figure]) -> Section:
    stack = done.direction
    rows = done.contrasts[done.contrasts["position"] == position]
    parts = done.contributors[done.contributors["position"] == position]
    asked = done.config.condition
    treated = parts[parts["condition"] == asked]
    drawn = {
        f"map-{position}": viz.projection_map(
            rows[rows["condition"] == asked],
            title=f"{asked.capitalize()} − placebo per component at “{position}”",
            at_chance=stack.layers_at_chance,
        ),
        f"contributors-{position}": viz.top_contributors(
            treated, title=f"Who writes the contrast at layer {stack.best_layer}"
        ),
    }
    figures.update(drawn)
    captions = (
        "Every layer's component on that layer's own direction, in SDs of that component's own "
        "projections over placebo prompts.",
        f"The exact parts of the projection at layer {stack.best_layer}: embedding, heads, attention "
        "biases and MLPs up to there, with 95 % intervals, each for itself. The largest were picked "
        "for their size and are biased upward by selection.",
    )
    return Section(
        f"Which components, at “{position}”",
        paragraphs=[read_parts(treated, stack.best_layer)],
        figures=list(zip(drawn.values(), captions, strict=True)),
    )


def _limits(done: ProjectResult) -> Section:
    return limits(
        done.card,
        [
            "A shift along a direction is a correlation. Whether the direction, learned on plain "
            "sentences, means the same in these prompts and whether it causes the answer needs "
            "interventions. At positions after the instruction a shift may be the mere wording of "
            "the instruction, carried along.",
            "Positions before the instruction cannot change, whatever the instruction does: what is "
            "stored about the content can only be asked with the instruction first.",
            "A part of the decomposition says which component wrote along the direction in these "
            "runs, not what would happen without it.",
        ],
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
    blocked = _untested(control)
    if blocked:
        return f"The positive control cannot be judged: {blocked}."
    found = control[control["sure"]]
    if found.empty:
        return (
            f"{read_no_finding('Naming the answer', len(control), 'layer')} The absence of a shift "
            "under the instruction would mean little."
        )
    return (
        f"Naming the answer moves the projection at {len(found)} of {count(len(control), 'layer')} "
        f"({_wordings(control)}), most at layer {_largest(found)}."
    )


def read_instruction(
    rows: pd.DataFrame,
    control: pd.DataFrame,
    *,
    condition: str,
    usable: bool,
    at_chance: Sequence[int] = (),
) -> list[str]:
    """Where the condition's contrast differs from zero and from the nulls, or that it does not.

    Layers whose direction is ``at_chance`` are none of those that are named.
    """
    asked = f"The instruction{by_name(condition)}"
    blocked = _untested(rows)
    if blocked:
        return [f"{asked}'s shift cannot be tested: {blocked}."]
    moved = rows[rows["sure"]]
    if moved.empty:
        return [read_no_finding(asked, len(rows), "layer")]
    chance = moved["layer"].isin(at_chance)
    beyond = moved[moved["beyond"] & ~chance]
    differs = f"{asked}'s shift differs from zero at {len(moved)} of {count(len(rows), 'layer')}"
    if beyond.empty and (moved["beyond"] & chance).any():
        return [
            f"{differs}, and exceeds the nulls only where the direction does not separate held-out "
            "sentences (greyed): shown but not interpreted."
        ]
    if beyond.empty:
        return [
            f"{differs}, but at none of them is it larger than along null directions: the texts "
            "differ, and this direction is not special."
        ]
    reading = (
        f"{differs}, and at {len(beyond)} it exceeds both those along nulls drawn with the states' "
        f"covariance and those along every non-moral contrast: "
        f"{_named(beyond, 'layer ' + beyond['layer'].astype(str))}."
    )
    gates = []
    if not usable:
        gates.append("the direction does not separate held-out sentences")
    if not _untested(control) and not control["sure"].any():
        gates.append("the positive control shows nothing")
    held = f"It is shown but not interpreted: {' and '.join(gates)}." if gates else ""
    return [reading, *([held] if held else [])]


def read_best(row: pd.Series, nulls: pd.DataFrame, *, usable: bool) -> list[str]:
    """The layer chosen on the sentences, beside every kind of null there."""
    interval = interval_of(row)
    if np.isnan(interval.estimate):
        return [f"At layer {row['layer']} the placebo prompts' projections do not vary."]
    here = nulls[nulls["layer"] == row["layer"]]
    beside = "; ".join(
        f"{int((group['estimate'].abs() < abs(interval.estimate)).sum())} of {len(group)} directions "
        f"{_KINDS[kind]} (largest {group['estimate'].abs().max():.2f})"
        for kind, group in here.groupby("kind", sort=False)
    )
    way = "towards" if interval.estimate > 0 else "away from"
    floor = 1 / (1 + int((here["kind"] == "covariance").sum()))
    return [
        f"At layer {row['layer']}, chosen on the sentences alone, the contrast is "
        f"{format_interval(interval)} placebo SDs ({row['class_units']:+.2f} class units"
        + (f", {way} the moral class" if row["sure"] and usable else "")
        + f"; {p_of(row['p_corrected'])} over its family). "
        + f"In absolute size that is more than along {beside}. With so many nulls p cannot be below "
        f"{floor:.3f}."
    ]


def read_parts(parts: pd.DataFrame, layer: int) -> str:
    """Which parts of the projection differ from zero."""
    total = float(parts["estimate"].sum())
    opening = f"The parts of the contrast at layer {layer} add up to {total:+.2f} placebo SDs."
    blocked = _untested(parts)
    if blocked:
        return f"{opening} They cannot be tested: {blocked}."
    sure = parts[parts["sure"].astype(bool)]
    if sure.empty:
        return f"{opening} No part differs from zero with all {len(parts)} corrected for."
    some = "the largest are " if len(sure) > _MOST_NAMED else ""
    return (
        f"{opening} {len(sure)} of {len(parts)} differ from zero, all corrected for: {some}"
        f"{_named(sure, sure['label'])}."
    )


def _named(rows: pd.DataFrame, names: pd.Series) -> str:
    """The largest of some rows with their intervals: ``layer 3 +2.00 [1.00, 3.00]; ...``."""
    order = rows["estimate"].abs().sort_values(ascending=False, kind="stable").index[:_MOST_NAMED]
    shown = zip(names[order], intervals_of(rows.loc[order]), strict=True)
    return "; ".join(f"{name} {i.estimate:+.2f} [{i.low:.2f}, {i.high:.2f}]" for name, i in shown)


def _untested(rows: pd.DataFrame) -> str:
    """Why no p can be read here; empty where one can."""
    return untested(interval_of(rows.iloc[0]))


def _wordings(rows: pd.DataFrame) -> str:
    """``6 wordings``."""
    texts = interval_of(rows.iloc[0]).texts
    return count(texts[0] if texts else 1, "wording")


def _largest(rows: pd.DataFrame) -> str:
    row = rows.iloc[int(rows["estimate"].abs().argmax())]
    return f"{row['layer']} ({row['estimate']:+.2f} placebo SDs)"


def _rows(table: pd.DataFrame, position: str, component: str) -> pd.DataFrame:
    return table[(table["position"] == position) & (table["component"] == component)]


def _fixed(done: ProjectResult, position: str) -> bool:
    table = done.contrasts
    return bool(table.loc[table["position"] == position, "fixed"].all())
