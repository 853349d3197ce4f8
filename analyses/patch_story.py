"""The report of a patching run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: is there an effect to localise, does the positive control's map show something,
which cells survive the correction over all cells. A map that fails a gate is shown and not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.conditions import by_name, standing
from analyses.page import write_page
from analyses.patch_tables import CONTROL, total_of
from analyses.readings import ALPHA, MIN_CLUSTERS, count
from interp import viz
from interp.patching import SweepResult
from interp.prompts import TokenizedPrompt
from interp.runs import Run
from interp.stats import Interval, MaxT
from interp.viz import Section
from interp.viz.grids import cell_name
from interp.viz.report import format_interval
from interp.viz.sweeps import is_ceiling

if TYPE_CHECKING:
    from analyses.patch import PatchRun

_MOST_NAMED = 6
_Drawn: TypeAlias = tuple[str, go.Figure, str]
"""Name, figure, caption."""

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


def write_story(folder: Run, done: PatchRun) -> None:
    """Write ``report.html``, every figure as HTML, and as PNG where that was asked for."""
    figures = {site: list(_figures(done, site)) for site in done.config.site}
    sections = [_question(done), _effect(done)]
    sections += [_where(done, site, drawn) for site, drawn in figures.items()]
    sections.append(_limits(done))
    drawn = {name: figure for site in figures.values() for name, figure, _ in site}
    title = f"Where does the instruction{by_name(done.config.asked)} act?"
    write_page(folder, sections, drawn, title=title, card=done.card, png=done.config.png)


def _question(done: PatchRun) -> Section:
    config, used = done.config, len(done.items) - done.dropped
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in done.items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    total = total_of(done.totals, config.condition)
    pairs = len(done.results[config.condition, config.site[0]].pair_labels)
    dropped = f" {_left_out(done.dropped)}" if done.dropped else ""
    source, destination = (_instruction(p) for p in (done.example.source, done.example.destination))
    return Section(
        "What was done",
        paragraphs=[
            f"Two prompts of the same item are run: under “{config.condition}” and under "
            f"“{config.against}”. Then the second is run again and again, each time with some of its "
            "activations replaced by those of the first. What moves its answer is sufficient for "
            "the difference between the two prompts.",
            f"The sample: {count(len(done.items), 'item')} ({counts}).{dropped} "
            f"{count(used, 'item')} x {count(config.texts, 'text')} a condition give "
            f"{count(pairs, 'pair')} in {count(total.n_clusters, 'cluster')} of items. The "
            f"instruction{by_name(config.asked)} stands {standing(done.asked, config.placement)}. For "
            f"example: {source} against {destination}",
            "The metric is the margin, in nats: how much the better answer's logit exceeds the "
            "worse one's where their texts first differ. A cell's effect is the margin with the "
            "patch minus the margin without; its share is that effect over the whole one.",
        ],
    )


def _left_out(n: int) -> str:
    if n == 1:
        return "1 item has no margin (no two options that a token tells apart) and is left out."
    return f"{n} items have no margin (no two options that a token tells apart) and are left out."


def _effect(done: PatchRun) -> Section:
    config = done.config
    paragraphs = []
    if CONTROL in done.totals["condition"].to_numpy() and config.condition != CONTROL:
        paragraphs.append(read_control_total(total_of(done.totals, CONTROL)))
    total = total_of(done.totals, config.condition)
    paragraphs.append(read_total(config.condition, config.against, total))
    if config.texts == 1:
        paragraphs.append(
            "Each condition had one text: the numbers speak of these two sentences, not of "
            "instructions in general."
        )
    if done.totals["context"].nunique() > 1:
        paragraphs.append(
            "The sample mixes ambiguous and disambiguated items, whose margins contrast other "
            "options; the table has them apart, the maps together."
        )
    table = done.totals.drop(columns=["effect", "low", "high", "reason"])
    table.insert(2, "source - destination (nats)", [_interval(r) for r in done.totals.itertuples()])
    texts = (
        "over clusters of items and over texts" if config.texts > 1 else "over clusters of items"
    )
    maps = " Those of the maps are over clusters alone." if config.texts > 1 else ""
    return Section(
        "Is there an effect to localise?",
        paragraphs=paragraphs,
        tables=[(table, f"The whole effect, with 95 % intervals {texts}.{maps}")],
    )


def _where(done: PatchRun, site: str, figures: Sequence[_Drawn]) -> Section:
    config = done.config
    result = done.results[config.condition, site]
    summary = done.summary[done.summary["site"] == site]
    intervals = [_interval(row) for row in summary.itertuples()]
    shares = [
        Interval(r.share, r.share_low, r.share_high, 0, 0, reason=r.reason)
        for r in summary.itertuples()
    ]
    table = pd.DataFrame(
        {
            "condition": summary["condition"],
            "span": summary["span"],
            "cells": summary["cells"],
            "mean effect (nats)": intervals,
            "share": _shares(shares),
            "largest cell": summary["largest_cell"],
            "its effect": summary["largest_effect"],
        }
    )
    undefined = " Shares are undefined where the whole effect's interval contains 0 (a dash)."
    window = f", {config.window} layers together" if config.window > 1 else ""
    reading = read_site(
        config.condition,
        result,
        total_of(done.totals, config.condition),
        done.results.get((CONTROL, site)),
        total_of(done.totals, CONTROL) if (CONTROL, site) in done.results else None,
    )
    what = f"Patched: {_SITES[site]} ({site}), {_UNITS[config.cells_at(result.site)]} at a time"
    return Section(
        f"Where: {site}",
        paragraphs=[f"{what}{window}.", *reading],
        tables=[
            (
                table,
                "Means over the cells of a span (its layers, positions, heads), 95 % intervals over "
                "clusters of items." + (undefined if summary["share"].isna().any() else ""),
            )
        ],
        figures=[(figure, caption) for _, figure, caption in figures],
    )


def _figures(done: PatchRun, site: str) -> Iterator[_Drawn]:
    """The condition's figures first, then its control's."""
    for condition in dict.fromkeys([done.config.condition, CONTROL]):
        result = done.results.get((condition, site))
        if result is None:
            continue
        is_control = condition == CONTROL and done.config.condition != CONTROL
        who = "the positive control" if is_control else f"the {condition} prompt"
        caption = f"The map of {who}. Blue: the patch brings the better answer."
        yield f"map-{condition}-{site}", viz.heatmap(result), caption
        if "span" in result.axis_names:
            caption = f"The same for {who}: each span's mean effect over layers."
            yield f"profile-{condition}-{site}", viz.layer_profile(result), caption
        if not is_control:
            caption = (
                "The largest cells. They were picked for their size and are a little flattered."
            )
            yield f"top-{condition}-{site}", viz.top_cells(result), caption


def _limits(done: PatchRun) -> Section:
    card = done.card
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    against = (
        ""
        if done.config.against == "placebo"
        else f" Against “{done.config.against}” the effect holds that of another length and position "
        "as well: compare it with the placebo against the same prompt."
    )
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model: {card.one_line}.",
            "A cell says that copying those activations is sufficient for a change of the margin in "
            "these prompts, not that they are necessary, and nothing about what they mean.",
            "Cells are correlated and were looked at together: p is corrected over all cells of a "
            "map. A layer or head chosen here has to be reported on other items. Claims about "
            "instructions, not about one sentence, take at least six texts a side." + against,
        ],
        tables=[(checks, "Self-checks at load.")],
    )


def read_total(condition: str, against: str, total: Interval) -> str:
    """Whether there is an effect to localise."""
    numbers = f"{format_interval(total)} nats"
    what = f"The whole effect of “{condition}” against “{against}” is {numbers}"
    if np.isnan(total.low):
        return f"{what}: {total.reason}, so nothing is claimed."
    if not total.excludes(0):
        return f"{what}: the interval contains 0. No effect is shown, so there is none to localise."
    if total.n_clusters < MIN_CLUSTERS:
        few = count(total.n_clusters, "cluster")
        return f"{what}: {few} of items are too few for a finding."
    moves = "raises" if total.estimate > 0 else "lowers"
    return f"{what}: it {moves} the margin, and that is what the maps divide up."


def read_control_total(total: Interval) -> str:
    """Whether naming the answer moves the margin at all."""
    numbers = f"{format_interval(total)} nats"
    if np.isnan(total.low) or total.n_clusters < MIN_CLUSTERS:
        why = total.reason or f"{count(total.n_clusters, 'cluster')} of items are too few"
        return f"The positive control (naming the answer) cannot be judged: {numbers}, {why}."
    if total.excludes(0) and total.estimate > 0:
        return f"The positive control works: naming the answer raises the margin by {numbers}."
    return f"The positive control fails: naming the answer moves the margin by {numbers}."


def read_site(
    condition: str,
    result: SweepResult,
    total: Interval,
    control: SweepResult | None,
    control_total: Interval | None,
) -> list[str]:
    """What one site's map says, once the gates are passed, and the notes of its result.

    ``control`` and its total: the positive control's at this site, also where it is the condition
    itself; None where none was run.
    """
    readings = []
    if control is not None and condition != CONTROL:
        readings.append(f"Positive control: {_surviving(control)}.")
    if control is None or control_total is None:
        readings.append("No positive control was run, so the map is shown and not read.")
    elif not (control_total.excludes(0) and control_total.estimate > 0):
        readings.append(
            "The positive control shows no effect here (see above): the map is shown and not read."
        )
    elif not _shows_something(control):
        readings.append("The positive control's map shows nothing: no map is read.")
    elif not (total.excludes(0) and total.n_clusters >= MIN_CLUSTERS):
        readings.append("Without an effect to localise, the map is shown and not read.")
    else:
        readings.append(f"{condition.capitalize()}: {_surviving(result)}.")
    noted = [f"{note[:1].upper()}{note[1:]}." for note in result.notes]
    return readings + noted


def _shows_something(result: SweepResult) -> bool:
    return bool((_p(result.max_t())[~is_ceiling(result)] < ALPHA).any())


def _surviving(result: SweepResult) -> str:
    """The cells that differ from zero with all cells corrected for, the largest by name."""
    test = result.max_t()
    if test.n_clusters < 2:
        return "a single cluster allows no test of the cells"
    if test.exact and 2 / 2**test.n_clusters >= ALPHA:
        few = count(test.n_clusters, "cluster")
        return f"{few} are too few for any cell to reach family-wise p < .05"
    free = ~is_ceiling(result)
    kept = np.flatnonzero(free & (_p(test) < ALPHA))
    if not len(kept):
        return "no cell differs from zero with all cells corrected for"
    interval = result.effect_interval()
    effect, low, high = (
        np.asarray(v, dtype=float).reshape(-1)
        for v in (interval.estimate, interval.low, interval.high)
    )
    order = kept[np.argsort(-np.abs(effect[kept]), kind="stable")][:_MOST_NAMED]
    rows = result.index_df.to_dict("records")
    cells = "; ".join(
        f"{cell_name(rows[k])} {effect[k]:+.3f} [{low[k]:.3f}, {high[k]:.3f}]" for k in order
    )
    some = "the largest are " if len(kept) > len(order) else ""
    ceiling = ", the ceiling column aside," if not free.all() else ""
    return (
        f"{len(kept)} of {int(free.sum())} cells{ceiling} differ from zero with all cells corrected "
        f"for: {some}{cells}"
    )


def _p(test: MaxT) -> np.ndarray:
    return np.asarray(test.p_corrected, dtype=float).reshape(-1)


def _interval(row: Any) -> Interval:
    return Interval(row.effect, row.low, row.high, 0, 0)


def _shares(shares: list[Interval]) -> list[Interval | None]:
    """Undefined shares as dashes; the caption gives the reason."""
    return [None if np.isnan(share.estimate) else share for share in shares]


def _instruction(prompt: TokenizedPrompt) -> str:
    if "instruction" not in prompt.spans:
        return "no instruction"
    return f"“{''.join(prompt.str_tokens[prompt.span('instruction')]).strip()}”"
