"""The reports of a fitted direction and of a transfer matrix: plain sentences and figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.direction.tables import DirectionResult, TransferResult, transfer_matrix_table
from analyses.report.sections import limits
from analyses.report.verdicts import above_chance, is_finding, p_of, shifted
from analyses.study import Story
from interp import viz
from interp.directions import DirectionFits, DirectionStack, Transfer
from interp.stats import Family, interval_of, intervals_of
from interp.viz import Section
from interp.viz.directions import METHOD_NAMES

_Drawn: TypeAlias = tuple[str, go.Figure, str]
"""Name, figure, caption."""

_PRINTED = (
    "method", "site", "layer", "auc", "auc_low", "auc_high", "shuffled", "shuffled_low",
    "shuffled_high", "p",
)  # fmt: skip


def tell_fit(done: DirectionResult) -> Story:
    """Sections and figures of a fit; the best layers are printed."""
    stack = selected(done.fits)
    figures = list(_fit_figures(done.fits, stack))
    facts = stack.facts
    sections = [
        Section(
            "What was done",
            paragraphs=[
                f"{facts.n_texts} labelled sentences of {facts.source} were read at their last token, "
                "which is the same full stop for all. At every layer each method looks for the axis "
                "that tells the two labels apart; + is label 1. Each sentence is then scored by axes "
                f"fitted without its group (pairs and quadruples stay together), in "
                f"{done.config.folds} folds, twice; the AUC, a mean over folds, says how often a "
                "sentence of label 1 scores above one of label 0.",
            ],
        ),
        Section(
            "How well do the directions separate?",
            paragraphs=list(read_fit(done.fits, stack)),
            tables=[(_best_table(done.fits), "Each method and site at its best layer.")],
            figures=[(figure, caption) for _, figure, caption in figures],
        ),
        limits(
            done.card,
            [
                "A direction that separates sentences need not be what the model uses: ask "
                "“interp direction steer”. One that separates these sentences need not separate "
                "others: ask “interp direction transfer”.",
                "The best layer was picked for its AUC, which is biased upward by selection; its p is "
                "family-wise over the layers that were shuffled. Intervals are those of repeated "
                "cross-validation: the axes are fitted anew in every fold, and what the folds "
                "share is corrected for (Nadeau and Bengio).",
            ],
        ),
    ]
    return Story(
        "A direction, and what it has to beat",
        sections,
        {name: figure for name, figure, _ in figures},
        printed=done.fits.best[list(_PRINTED)],
        headline=_read_selected(stack),
    )


def selected(fits: DirectionFits) -> DirectionStack:
    """The difference of means (or the first method) at its best site."""
    methods = list(dict.fromkeys(method for method, _ in fits.stacks))
    method = "mean_difference" if "mean_difference" in methods else methods[0]
    return fits[method, fits.best_site(method)]


def read_fit(fits: DirectionFits, stack: DirectionStack) -> Iterator[str]:
    """The best of all, then the plain difference of means beside its nulls."""
    top = fits.best.iloc[0]
    words = fits.baselines["bag of words"]
    best = interval_of(top, "auc")
    yield (
        f"Highest held-out AUC: {METHOD_NAMES[top.method]} at {top.site}, layer {top.layer}: {best}. "
        f"A bag of words reaches {words}, the length {fits.baselines['length']}."
    )
    yield _read_selected(stack)
    yield read_nulls(fits, stack)


def _read_selected(stack: DirectionStack) -> str:
    """A stack at its best layer, beside shuffled labels."""
    row = stack.best_row
    auc, null = stack.auc.at(row), stack.shuffled
    name = METHOD_NAMES[stack.facts.method]
    verdict = "above" if above_chance(auc, null.p[row]) else "not above"
    return (
        f"{name[:1].upper()}{name[1:]} at {stack.site}, layer {stack.best_layer}: held-out AUC {auc}. "
        f"Under shuffled labels {null.mean[row]:.3f} [{null.low[row]:.3f}, {null.high[row]:.3f}] "
        f"({p_of(null.p[row])}, family-wise over layers): {verdict} chance."
    )


def read_nulls(fits: DirectionFits, stack: DirectionStack) -> str:
    """How the null directions do at the stack's best layer."""
    rows = fits.nulls[
        (fits.nulls["site"] == stack.site) & (fits.nulls["layer"] == stack.best_layer)
    ]
    random = rows.loc[rows["null"] == "covariance", "auc"]
    contrasts = rows[(rows["null"] == "contrast") & (rows["method"] == stack.facts.method)]
    strength = dict(zip(contrasts["name"], (contrasts["auc"] - 0.5).abs() + 0.5, strict=True))
    strongest = max(strength, key=strength.__getitem__)
    own = float(np.max(stack.auc.estimate))
    ranks = sum(auc >= own for auc in strength.values())
    less = "none of them does as well" if ranks == 0 else f"{ranks} of them do as well or better"
    return (
        f"At that layer 95 % of {len(random)} random directions with the states' covariance lie "
        f"between {random.quantile(0.025):.3f} and {random.quantile(0.975):.3f}. Of "
        f"{len(contrasts)} directions of non-moral contrasts the strongest is "
        f"{strongest} ({strength[strongest]:.3f}); {less}."
    )


def _fit_figures(fits: DirectionFits, stack: DirectionStack) -> Iterator[_Drawn]:
    yield "auc", viz.direction_scores(fits), "Held-out AUC of every method at every layer and site."
    method = stack.facts.method
    figure = viz.direction_nulls(fits, method, stack.site)
    yield (
        f"nulls-{method}-{stack.site}",
        figure,
        "The same for one of them, beside null directions.",
    )
    if len(fits.stacks) > 1:
        figure = viz.direction_cosines(fits, stack.site, stack.best_layer)
        caption = "Methods that find the same thing have cosines near 1, and so do neighbours."
        yield f"cosines-{stack.site}", figure, caption


def _best_table(fits: DirectionFits) -> pd.DataFrame:
    best = fits.best
    bounds = best[["shuffled", "shuffled_low", "shuffled_high"]].to_numpy(float)
    null = [
        None if np.isnan(mean) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        for mean, low, high in bounds
    ]
    return pd.DataFrame(
        {
            "method": [METHOD_NAMES[m] for m in best["method"]],
            "site": best["site"],
            "layer": best["layer"],
            "held-out AUC": intervals_of(best, "auc"),
            "shuffled labels": null,
            "p": best["p"],
        }
    )


def tell_transfer(done: TransferResult) -> Story:
    """Sections and the figure of a transfer matrix, which is printed."""
    figure = viz.transfer_heatmap(done.transfer)
    frame = done.transfer.frame
    table = frame[["trained_on", "tested_on", "reader", "layer"]].copy()
    table.insert(4, "AUC", intervals_of(frame, "auc"))
    table[["n_texts", "n_groups"]] = frame[["auc_n", "auc_n_clusters"]]
    sections = [
        Section(
            "Does it transfer?",
            paragraphs=[
                f"A direction ({METHOD_NAMES[done.config.method]}, {done.config.site}) is learned on "
                "each set, at the layer that separates its own held-out sentences best, and tested on "
                "every other set. + is label 1: moral, fair, less stereotyping, acceptable.",
                read_transfer(done.transfer),
            ],
            tables=[
                (
                    table,
                    "All pairs of sets; 95 % intervals: of repeated cross-validation on the diagonal, "
                    "of a jackknife over the tested set's groups elsewhere.",
                )
            ],
            figures=[(figure, "Blue is above chance, red below it.")],
        ),
        limits(
            done.card,
            [
                "Sets differ in what their labels mean, in length and in topic. An AUC near .5 off the "
                "diagonal says that what was learned here is not what is asked there, not that the "
                "model lacks it.",
            ],
        ),
    ]
    return Story(
        "Does a direction transfer?",
        sections,
        {"transfer": figure},
        printed=transfer_matrix_table(done.transfer),
        headline=read_transfer(done.transfer),
    )


def read_transfer(transfer: Transfer) -> str:
    """How many cells off the diagonal lie above chance, and where words do as well."""
    frame = transfer.frame
    off = frame[(frame["trained_on"] != frame["tested_on"]) & (frame["reader"] == "direction")]
    aucs = dict(zip(off.index, intervals_of(off, "auc"), strict=True))
    p = Family.of("transfer", aucs).p_holm
    is_above = [above_chance(auc, p[k]) for k, auc in aucs.items()]
    is_below = [is_finding(shifted(auc), p[k]) and auc.estimate < 0.5 for k, auc in aucs.items()]
    above, below = off[is_above], off[is_below]
    if above.empty:
        found = "None of them lies above chance"
    else:
        named = "; ".join(
            f"{r.trained_on} -> {r.tested_on} {r.auc:.2f} [{r.auc_low:.2f}, {r.auc_high:.2f}]"
            for r in above.sort_values("auc", ascending=False).itertuples()
        )
        found = f"{len(above)} of {len(off)} lie above chance: {named}"
    against = f"; {len(below)} lie below it, the wrong way round" if len(below) else ""
    return (
        f"Off the diagonal there are {len(off)} tests, whose p is corrected together (Holm). "
        f"{found}{against}."
    )
