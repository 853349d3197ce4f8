"""The one module of sentences about effects: what a claim's verdict allows to be said.

The rule is :mod:`analyses.report.claims`. "Raises", "lowers", "moves" and "works" are said of claims
whose verdict is ``effect``; everything else is a number with its verdict behind it. Numbers carry their
unit; + is the better answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from analyses.config import EQUIVALENCE_SHARE, MIN_CLUSTERS, MIN_WORDINGS
from analyses.contrast import CONTROL
from analyses.report.claims import (
    NAN,
    Claim,
    too_few_clusters,
    too_few_wordings,
    wordings_of,
)
from analyses.report.prose import count
from interp.directions import DirectionStack
from interp.stats import Interval
from interp.viz.report import format_interval


def is_finding(effect: Interval, p: float = NAN) -> bool:
    """Whether the verdict is ``effect``; ``p``: corrected over the family, NaN: the interval's own."""
    return Claim(effect, p).is_effect


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


def p_said(claim: Claim) -> str:
    """The p that decides: corrected over its family where it belongs to one."""
    if np.isnan(claim.p):
        return p_of(claim.effect.p)
    return f"{p_of(claim.p)} over its family"


def read_effect(
    subject: str,
    claim: Claim,
    *,
    of: str = "the margin",
    unit: str = " nats",
    sample: Sequence[str] = (),
) -> str:
    """What something does to a measure: raises it, lowers it, or why neither can be said.

    Args:
        subject: who acts, at the head of the sentence: ``On ambiguous items the negated prompt``.
        claim: its effect.
        of: the measure.
        unit: behind the number.
        sample: what stands in brackets behind it: items, wordings, p.
    """
    effect = claim.effect
    if np.isnan(effect.estimate):
        return f"{subject} has no effect that could be measured: {effect.reason}."
    numbers = _numbers(effect, unit, sample)
    if not claim.is_effect:
        return f"{subject}: a difference of {numbers} in {of}; {claim.why}."
    small = ", less than what counts as an effect here" if claim.is_small else ""
    return f"{subject} {'raises' if effect.estimate > 0 else 'lowers'} {of} by {numbers}{small}."


def read_headline(
    subject: str,
    claim: Claim,
    *,
    of: str = "the margin",
    unit: str = " nats",
    sample: Sequence[str] = (),
) -> str:
    """One line for the end of a command: the effect with its interval, and its verdict whatever it is.

    Arguments: as :func:`read_effect`.
    """
    effect = claim.effect
    if np.isnan(effect.estimate):
        return f"{subject}: not measured, {effect.reason}."
    verdict = claim.why or (
        "an effect, smaller than what counts" if claim.is_small else "an effect"
    )
    return f"{subject}: {_numbers(effect, unit, sample)} in {of}; {verdict}."


def counted(effect: Interval) -> list[str]:
    """What an interval is of: ``24 items in 12 clusters``, ``6 x 6 wordings``."""
    items = f"{count(effect.n, 'item')} in {count(int(effect.n_clusters), 'cluster')}"
    return [items, f"{effect.texts[0]} x {effect.texts[1]} wordings" if effect.texts else ""]


def control_works(claim: Claim) -> bool:
    """Whether naming the answer raises the margin: an effect, and the right way."""
    return claim.is_effect and bool(claim.effect.estimate > 0)


def read_control(
    claim: Claim,
    *,
    where: str = "",
    of: str = "the margin",
    unit: str = " nats",
    sample: Sequence[str] = (),
) -> str:
    """Whether naming the answer raises the metric; without that, no map or layer is interpreted.

    ``where`` follows the number: `` on ambiguous items``.
    """
    if np.isnan(claim.effect.estimate):
        return f"The positive control (naming the answer) was not measured: {claim.effect.reason}."
    numbers = _numbers(claim.effect, f"{unit}{where}", sample)
    if control_works(claim):
        return f"The positive control works: naming the answer raises {of} by {numbers}."
    rest = f"so nothing{where} is localised, and a null says nothing"
    if claim.is_effect:
        return f"The positive control fails: naming the answer lowers {of} by {numbers}, {rest}."
    return (
        f"The positive control (naming the answer) is not judged: {numbers}; {claim.why}, {rest}."
    )


def read_control_arms(
    arms: Mapping[str, Claim],
    *,
    where: str = "",
    of: str = "the margin",
    unit: str = " nats",
) -> list[str]:
    """The control's three arms: names the answer, mentions its words, paraphrases it without them.

    ``arms``: those that were run, by condition; ``where`` and ``unit``: see :func:`read_control`. What
    naming does is mostly copying, and only a request without the option's words says whether the model
    follows requests of this kind.
    """
    if not arms:
        return []
    said = []
    if CONTROL in arms:
        said.append(
            read_control(
                arms[CONTROL], where=where, of=of, unit=unit, sample=(p_said(arms[CONTROL]),)
            )
        )
    if "mentions" in arms:
        subject = "Mentioning the option's words without asking for it"
        said.append(_read_arm(subject, arms["mentions"], of, f"{unit}{where}"))
    if "paraphrases" not in arms:
        said.append(
            "The control's paraphrase, which asks for the answer without its words, was not run on "
            "these prompts: how much of the control is copying is not known from them, and "
            "neither is whether a null is one of moral instructions in particular."
        )
        return said
    paraphrase = arms["paraphrases"]
    said.append(
        _read_arm("Asking for the answer without its words", paraphrase, of, f"{unit}{where}")
    )
    if control_works(paraphrase):
        said.append(
            "So the model follows a request that cannot be copied, and a null of the instruction speaks "
            "of the instruction."
        )
    else:
        said.append(
            "So it is not shown that the model follows any request of this kind: what naming the answer "
            "does may be copying, and a null of the instruction says nothing about moral "
            "instructions in particular."
        )
    return said


def _read_arm(subject: str, claim: Claim, of: str, unit: str) -> str:
    return read_effect(subject, claim, of=of, unit=unit, sample=(p_said(claim),))


def wordings_caveat(n_texts: int) -> str:
    """What fewer wordings than a claim takes allow to say; empty where there are enough."""
    if n_texts >= MIN_WORDINGS:
        return ""
    these = "this sentence" if n_texts == 1 else "these sentences"
    return (
        f"With {count(n_texts, 'wording')} a side the numbers speak of {these}; a claim about "
        f"instructions takes at least {MIN_WORDINGS}."
    )


def rule_of_nulls() -> str:
    """How effects and nulls are told apart, for the limits of a report."""
    share = f"{EQUIVALENCE_SHARE:.0%}".replace("%", " %")
    return (
        f"An effect is said of at least {MIN_WORDINGS} wordings a side and {MIN_CLUSTERS} clusters of "
        "items, where the interval excludes 0 and p, corrected over all claims of its kind, is below "
        f".05. “No effect” is said where the 90 % interval lies inside ±{share} of what naming the "
        "answer does (two one-sided tests; fixed before the run), “undetermined” of everything else."
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
    """What would be an effect, were it not for ``gates``: why it is shown but not interpreted."""
    numbers = _numbers(effect, unit, sample)
    return (
        f"{subject}: a difference of {numbers} in {of}; shown but not interpreted, because "
        f"{' and '.join(gates)}."
    )


def untested(effect: Interval) -> str:
    """Why a family of tests supports no claim whatever it finds; empty where it can."""
    if too_few_clusters(effect):
        n = int(effect.n_clusters)
        few = f"{count(n, 'cluster')} of items {'is' if n == 1 else 'are'} too few"
        return f"{few} for a claim, {MIN_CLUSTERS} are needed"
    if too_few_wordings(effect):
        n = int(wordings_of(effect))
        few = f"{count(n, 'wording')} a side {'is' if n == 1 else 'are'} too few"
        return f"{few} for a claim, {MIN_WORDINGS} are needed"
    return ""


def read_no_finding(subject: str, n: int, unit: str) -> str:
    """What is said where none of a family of ``n`` layers (or heads, ...) differs from zero."""
    return (
        f"{subject}: undetermined. It differs from zero at none of {count(n, unit)}, with all "
        f"{unit}s corrected for."
    )


def above_chance(auc: Interval, p: float = NAN) -> bool:
    """Whether an AUC lies above .5, by the rule above; ``p`` is that of shuffled labels."""
    return is_finding(shifted(auc), p) and bool(auc.estimate > 0.5)


def shifted(auc: Interval) -> Interval:
    """An AUC less .5, so that 0 is chance; its p is of chance already."""
    return replace(auc, estimate=auc.estimate - 0.5, low=auc.low - 0.5, high=auc.high - 0.5)


def compare_levels(one: Interval, other: Interval) -> str:
    """Two levels of given wordings, beside each other without a test: no claim."""
    if np.isnan(one.low) or np.isnan(other.low):
        return "cannot be compared: an interval is missing"
    if too_few_clusters(one) or too_few_clusters(other):
        return "not compared: too few clusters"
    if one.low <= other.high and other.low <= one.high:
        return "the intervals overlap"
    return "the intervals lie apart (these wordings, no test)"


def judge(claim: Claim, *, above: str, below: str) -> str:
    """What an effect is called by its sign, or why it is none."""
    return claim.why or (above if claim.effect.estimate > 0 else below)
