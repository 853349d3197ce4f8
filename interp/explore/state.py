"""What is chosen in an explorer: one frozen value, of which every view is a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp.patching.sites import Cells, MetricName, SweepSite

Blocked = Literal["nothing", "span", "head"]
"""What is knocked out: nothing, all attention to a span, or that of one head."""


@dataclass(frozen=True)
class ExplorerState:
    """The choices.

    Attributes:
        item: which item, of those given.
        condition: the source's condition.
        against: the destination's.
        wording: which text of the condition.
        order: which cyclic order of the options.
        round: which round of the conversation.
        swapped: patch the other way round.
        site: what the map copies.
        cells: the map's axes.
        metric: what the map reads.
        cell: (layer, column) of the map that is looked into; None is none.
        layer: the layer whose head, projections and steering are looked at.
        head: the head.
        query: the position of the destination whose attention is shown; -1 is the last.
        blocked: what is knocked out.
        span: the span that is no longer read.
        dose: how far states are moved along the direction, in class units.
    """

    item: int = 0
    condition: str = "instructed"
    against: str = "placebo"
    wording: int = 0
    order: int = 0
    round: int = 1
    swapped: bool = False
    site: SweepSite = "resid_pre"
    cells: Cells = "layer_pos"
    metric: MetricName = "margin"
    cell: tuple[int, int] | None = None
    layer: int = 0
    head: int = 0
    query: int = -1
    blocked: Blocked = "nothing"
    span: str = "instruction"
    dose: float = 0.0


PAIR = ("item", "condition", "against", "wording", "order", "round", "swapped")
"""The fields that decide the pair."""

MAP = (*PAIR, "site", "cells", "metric")
"""The fields that decide the map; another one has other cells."""
