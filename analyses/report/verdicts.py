"""The one place where a report says that something has an effect, and the one rule for it.

A finding needs an interval that excludes 0, at least :data:`~analyses.contrast.MIN_CLUSTERS` clusters
of items, and p < :data:`~interp.stats.ALPHA` where a test could be made (corrected over its family,
where it belongs to one). "Raises" and "lowers" are said of findings alone; everything else is reported
with the reason why it supports no claim. Numbers carry their unit; + is the better answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analyses.config import CLAIM_TEXTS
from analyses.contrast import MIN_CLUSTERS
from analyses.report.prose import count
from interp.directions import DirectionStack
from interp.stats import ALPHA, Interval
from interp.viz.report import format_interval

NAN = float("nan")


def doubt(
    effect: Interval,
    p: float = NAN,
    *,
    null: str = "no effect is shown",
    untested: str = "the test does not bear it out",
) -> str:
    """Why an interval is no finding; empty for a finding.

    Args:
        effect: an estimate with its interval; 0 is no effect.
        p: of the test beside it, corrected over its family; NaN where none could be made.
        null: what is then not shown.
        untested: what p >= .05 means here.
    """
    if np.isnan(effect.low):
        return f"{effect.reason or 'there is no interval'}, so this is no finding"
    if not effect.excludes(0):
        return f"the interval contains 0, so {null}"
    if effect.n_clusters < MIN_CLUSTERS:
        return f"{too_few(effect)} for a finding"
    return f"the interval excludes 0, but {untested}, so {null}" if p >= ALPHA else ""


def is_finding(effect: Interval, p: float = NAN) -> bool:
    """Whether the rule above is met."""
    return not doubt(effect, p)


def too_few(effect: Interval) -> str:
    """``4 clusters of items are too few``."""
    n = int(effect.n_clusters)
    return f"{count(n, 'cluster')} of items {'is' if n == 1 else 'are'} too few"


def bare(interval: Interval) -> str:
    """The interval without its reason, for places that give the reason themselves."""
    return "not measured" if np.isnan(interval.estimate) else format_interval(interval)


def _numbers(effect: Interval, unit: str, sample: Sequence[str]) -> str:
    """The interval with its unit, and in brackets what there is to say of the sample."""
    said = ", ".join(part for part in sample if part)
    return f"{format_interval(effect)}{unit}" + (f" ({said})" if said else "")


def p_of(p: float) -> str:
    """``p = 0.031``, ``p < 0.001``; empty without a test."""
    if np.isnan(p):
        return ""
    return "p < 0.001" if p < 5e-4 else f"p = {p:.3f}"


def read_effect(
    subject: str,
    effect: Interval,
    p: float = NAN,
    *,
    of: str = "the margin",
    unit: str = " nats",
    sample: Sequence[str] = (),
    untested: str = "wordings with their labels permuted differ as much",
) -> str:
    """What something does to a measure: raises it, lowers it, or why neither can be said.

    Args:
        subject: who acts, at the head of the sentence: ``On ambiguous items the negated prompt``.
        effect: its effect.
        p: see :func:`doubt`.
        of: the measure.
        unit: behind the number.
        sample: what stands in brackets behind it: items, wordings, p.
        untested: see :func:`doubt`.
    """
    if np.isnan(effect.estimate):
        return f"{subject} has no effect that could be measured: {effect.reason}."
    numbers = _numbers(effect, unit, sample)
    why = doubt(effect, p, untested=untested)
    if why:
        return f"{subject} changes {of} by {numbers}: {why}."
    return f"{subject} {'raises' if effect.estimate > 0 else 'lowers'} {of} by {numbers}."


def control_works(effect: Interval) -> bool:
    """Whether naming the answer raises the margin: a finding, and the right way."""
    return is_finding(effect) and bool(effect.estimate > 0)


def read_control(effect: Interval, *, where: str = "", sample: Sequence[str] = ()) -> str:
    """Whether naming the answer raises the margin; without that, nulls say nothing.

    ``where`` follows the number: `` on ambiguous items``.
    """
    rest = f"so a null{where} says nothing about the instruction"
    if np.isnan(effect.low) or effect.n_clusters < MIN_CLUSTERS:
        why = effect.reason or too_few(effect)
        return (
            f"The positive control (naming the answer) cannot be judged{where}: {bare(effect)} nats, "
            f"{why}, {rest}."
        )
    numbers = _numbers(effect, f" nats{where}", sample)
    if control_works(effect):
        return f"The positive control works: naming the answer raises the margin by {numbers}."
    return f"The positive control fails: naming the answer moves the margin by {numbers}, {rest}."


def wordings_caveat(n_texts: int) -> str:
    """What fewer wordings than a claim takes allow to say; empty where there are enough."""
    if n_texts >= CLAIM_TEXTS:
        return ""
    these = "this sentence" if n_texts == 1 else "these sentences"
    return (
        f"With {count(n_texts, 'wording')} a side the numbers speak of {these}; a claim about "
        f"instructions takes at least {CLAIM_TEXTS}."
    )


def read_auc(auc: Interval, layer: int, n_layers: int) -> str:
    """Whether a direction separates held-out sentences at its best layer."""
    reading = (
        "Its interval, which does not count that choice, excludes chance."
        if auc.low > 0.5
        else "Its interval contains chance, so no shift along it can be read as moral."
    )
    return (
        f"Held-out AUC is highest at layer {layer}: {format_interval(auc)}, the best of "
        f"{count(n_layers, 'layer')} and so biased upward by selection. {reading}"
    )


def read_direction(stack: DirectionStack) -> str:
    """What a direction was learned from, and whether it separates held-out sentences."""
    facts = stack.facts
    return (
        f"A direction was learned from {facts.n_texts} sentences ({facts.source}, "
        f"{facts.method.replace('_', ' ')}, {stack.site} of the last token); + is its positive, moral "
        f"class. {read_auc(stack.auc.at(stack.best_row), stack.best_layer, len(stack.layers))}"
    )


def read_gated(
    subject: str,
    effect: Interval,
    gates: Sequence[str],
    *,
    of: str = "the margin",
    unit: str = " nats",
    sample: Sequence[str] = (),
) -> str:
    """What would be a finding, were it not for ``gates``: why it is shown but not interpreted."""
    numbers = _numbers(effect, unit, sample)
    return (
        f"{subject} changes {of} by {numbers}: shown but not interpreted, because "
        f"{' and '.join(gates)}."
    )


def untested(effect: Interval) -> str:
    """Why a family of tests cannot be read at all: too few clusters; empty where it can."""
    return f"{too_few(effect)} for a finding" if effect.n_clusters < MIN_CLUSTERS else ""


def read_no_finding(subject: str, n: int, unit: str) -> str:
    """What is said where none of a family of ``n`` layers (or heads, ...) is a finding."""
    return (
        f"{subject}: no effect is shown. It differs from zero at none of {count(n, unit)}, with all "
        f"{unit}s corrected for."
    )


def above_chance(auc: Interval, p: float = NAN) -> bool:
    """Whether an AUC is a finding above .5, by the rule above; ``p`` is that of shuffled labels."""
    shift = replace(auc, estimate=auc.estimate - 0.5, low=auc.low - 0.5, high=auc.high - 0.5)
    return is_finding(shift, p) and bool(auc.estimate > 0.5)


def compare_levels(one: Interval, other: Interval, *, than: str = "the placebo") -> str:
    """Two levels without a test of their difference: overlapping intervals show none.

    That is stricter than a test. ``than`` names the other.
    """
    if np.isnan(one.low) or np.isnan(other.low):
        return "cannot be compared: an interval is missing"
    fewer = min(one, other, key=lambda interval: interval.n_clusters)
    if fewer.n_clusters < MIN_CLUSTERS:
        return f"not compared: {too_few(fewer)}"
    if one.low <= other.high and other.low <= one.high:
        return "the intervals overlap, so no difference is shown"
    return f"{'higher' if one.estimate > other.estimate else 'lower'} than {than}"


def judge(effect: Interval, p: float = NAN, *, above: str, below: str, **said: str) -> str:
    """What a finding is called by its sign, or why it is none (``said``: see :func:`doubt`)."""
    return doubt(effect, p, **said) or (above if effect.estimate > 0 else below)
