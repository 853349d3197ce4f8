"""Sections and tables that reports share: the sample, the effect, the limits, the self-checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from analyses.contrast import CONTROL
from analyses.report.prose import count
from analyses.report.verdicts import (
    counted,
    p_said,
    read_control_arms,
    read_effect,
    read_headline,
    rule_of_nulls,
)
from analyses.totals import claim_of, control_claims, verdict_table
from interp.data import ChoiceItem, CompletionItem
from interp.models import ModelCard
from interp.viz import Section

LIMITS = "What these numbers can and cannot say"


MARGIN = (
    "The margin, in nats, is the logit difference: how much the better answer's logit exceeds the "
    "worse one's where their texts first differ."
)

OPTION_MARGIN = (
    "The option margin, in nats per token, is the mean log-probability of the better answer's full text "
    "minus that of the worse one's; where both are one token it is the margin (logit difference)."
)
METRICS = {"margin": MARGIN, "option_margin": OPTION_MARGIN}
"""What each metric of a study is."""

UNITS = {"margin": " nats", "option_margin": " nats per token"}


def named(metric: str) -> str:
    """A metric in a sentence."""
    return metric.replace("_", " ")


def read_sample(items: Sequence[ChoiceItem | CompletionItem], n_left_out: int = 0) -> str:
    """How many items of which kind were asked, and how many of them are left out."""
    said = f"The sample: {count(len(items), 'item')} ({sample_counts(items)})."
    return f"{said} {left_out(n_left_out)}".strip()


def sample_counts(items: Iterable[ChoiceItem | CompletionItem]) -> str:
    """``12 bbq, ambiguous; 12 bbq, disambiguated``."""
    kinds = pd.Series([_kind(item) for item in items]).value_counts()
    return "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))


def _kind(item: ChoiceItem | CompletionItem) -> str:
    if isinstance(item, ChoiceItem):
        plain = item.context_condition == "plain"
        return item.benchmark if plain else f"{item.benchmark}, {item.context_condition}"
    return f"{item.benchmark}, to complete"


_CONTRASTS = {
    "ambiguous": "On ambiguous items it is the abstention over the stereotyped answer",
    "disambiguated": "On disambiguated items it is the right answer over the other group's",
    "plain": "It is the right answer over the other",
}


def say_contrasts(items: Iterable[ChoiceItem | CompletionItem]) -> str:
    """Which two options a margin contrasts, of the kinds of items that are there; + is better."""
    there = {item.context_condition for item in items if isinstance(item, ChoiceItem)}
    return " ".join(f"{said}." for kind, said in _CONTRASTS.items() if kind in there)


def left_out(n: int) -> str:
    """How many items have no margin; empty without any."""
    if n == 0:
        return ""
    have, are = ("has", "is") if n == 1 else ("have", "are")
    return (
        f"{count(n, 'item')} {have} no margin (no two options that a token tells apart) and {are} "
        "left out."
    )


def effect_section(
    title: str,
    totals: pd.DataFrame,
    condition: str,
    *,
    subject: str,
    rest: str = "",
    difference: str,
    shown: str,
    caption: str,
) -> Section:
    """Whether there is an effect to look into: the control's arms, the condition's claim, the table.

    Args:
        title: of the section.
        totals: see :func:`analyses.totals.totals_of`; the control is read where it is there and not what
            is asked about.
        condition: what is asked about.
        subject: who acts, in a sentence about the condition: ``The instruction``.
        rest: what follows from its claim.
        difference: heads the columns of effects: ``treated - placebo``.
        shown: what the report shows of all items together: ``the maps``.
        caption: of the table, its first sentence.
    """
    claim, arms = claim_of(totals, condition), control_claims(totals)
    metric = str(totals["metric"].iloc[0])
    of, unit = f"the {named(metric)}", UNITS[metric]
    kinds = [name for name in dict.fromkeys(totals["context"]) if name != "all"]
    mixed = (
        f"The sample mixes {' and '.join(kinds)} items, whose margins contrast other options; "
        f"the table has them apart, {shown} together."
    )
    paragraphs = [
        *(read_control_arms(arms, of=of, unit=unit) if condition != CONTROL else []),
        f"{read_effect(subject, claim, of=of, unit=unit, sample=(p_said(claim),))}{rest}",
        mixed if len(kinds) > 1 else "",
    ]
    table = (
        verdict_table(totals, difference),
        f"{caption} 95 % intervals; wordings and clusters of items are random (CGM-t). Margin: the "
        "logit difference, nats; option margin: the same contrast in the options' full texts, nats per "
        f"token; P(a): the score of the better option. The report looks into {of}.",
    )
    return Section(title, paragraphs=[text for text in paragraphs if text], tables=[table])


def headline(totals: pd.DataFrame, condition: str, *, against: str = "placebo") -> str:
    """The condition's whole effect on the answer, in one line.

    ``totals``: see :func:`analyses.totals.totals_of`.
    """
    claim, metric = claim_of(totals, condition), str(totals["metric"].iloc[0])
    return read_headline(
        f"“{condition}” against “{against}”",
        claim,
        of=f"the {named(metric)}",
        unit=UNITS[metric],
        sample=(*counted(claim.effect), p_said(claim)),
    )


def checks_table(card: ModelCard) -> tuple[pd.DataFrame, str]:
    """The model's self-checks, and their caption."""
    rows = [(check.name, check.deviation, check.tolerance) for check in card.checks]
    columns = ["self-check of the model", "relative deviation", "tolerance"]
    return pd.DataFrame(rows, columns=columns), "Self-checks at load."


def limits(
    card: ModelCard,
    paragraphs: Sequence[str],
    *,
    tables: Sequence[tuple[pd.DataFrame, str]] = (),
) -> Section:
    """The last section: whom the numbers speak of, what they cannot say, and the self-checks."""
    return Section(
        LIMITS,
        paragraphs=[
            f"They speak of one model: {card.one_line}.",
            *[p for p in paragraphs if p],
            rule_of_nulls(),
        ],
        tables=[*tables, checks_table(card)] if card.checks else list(tables),
    )
