"""Sections and tables that every report has: the sample, the limits, the self-checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from analyses.report.prose import count
from interp.data import ChoiceItem, CompletionItem
from interp.models import ModelCard
from interp.viz import Section

LIMITS = "What these numbers can and cannot say"
MIXED_CONTEXTS = (
    "The sample mixes ambiguous and disambiguated items, whose margins contrast other options; the "
    "table has them apart, {} together."
)


def sample_counts(items: Iterable[ChoiceItem | CompletionItem]) -> str:
    """``12 bbq, ambiguous; 12 bbq, disambiguated``."""
    kinds = pd.Series([_kind(item) for item in items]).value_counts()
    return "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))


def _kind(item: ChoiceItem | CompletionItem) -> str:
    if isinstance(item, ChoiceItem):
        return f"{item.benchmark}, {item.context_condition}"
    return f"{item.benchmark}, to complete"


def left_out(n: int) -> str:
    """How many items have no margin; empty without any."""
    if n == 0:
        return ""
    have, are = ("has", "is") if n == 1 else ("have", "are")
    return (
        f"{count(n, 'item')} {have} no margin (no two options that a token tells apart) and {are} "
        "left out."
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
        paragraphs=[f"They speak of one model: {card.one_line}.", *[p for p in paragraphs if p]],
        tables=[*tables, checks_table(card)] if card.checks else list(tables),
    )
