"""The ordered rule that turns rows into a verdict, and says what would have changed it.

1. ``metric-dependent``: the metrics disagree about the sign of B.
2. ``no effect to explain``: the 90 % interval of B lies inside +-delta; ``undetermined``: its interval
   contains 0 and it does not, or wordings or clusters are too few for a claim.
3. ``backfires``: B < 0. All rows are shown.
4. ``superficial (route)``: the content share is below .20 both ways and the effect is late or read off
   the instruction by everything but the content; or the content carries it and other items' change
   brings it as well, a relayed flag. ``deep (content)``: the content share is above .50 both ways, and
   so is the changed content.
5. where a direction was given: ``instrument not valid`` where it is none; ``superficial (direction)``: R
   is below .20 both ways and spans of up to 16 fits below .35; ``deep (direction)``: R is above .50 both
   ways, beyond the null directions, and the negated instruction moves the states the other way (what
   every request does is removed from the instruction's shift first).
6. ``mixed``, or ``not identified`` where the rows do not tell.

Rules 4 and 5 give a verdict each, on the route and on the direction; they stand beside each other and
may disagree. Bounds are compared with the ends of intervals, never with estimates:
:mod:`interp.superficiality.thresholds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.stats import ALPHA, MIN_CLUSTERS, MIN_WORDINGS, Interval, equivalence, intervals_of
from interp.superficiality.finding import Finding
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import BEYOND, R_IN, R_OUT, SPANS
from interp.superficiality.removed import REMOVED
from interp.superficiality.representation import NEGATED, REPRESENTATION
from interp.superficiality.rows import (
    BEHAVIOUR,
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    INTERACTION,
    ONSET,
    OTHER_EDGES,
    metric_name,
)
from interp.superficiality.thresholds import (
    DEEP_SHARE,
    INTERACTION_SHARE,
    LATE_ONSET,
    MAX_RANK,
    SPAN_SHARE,
    SUPERFICIAL_SHARE,
)

METRIC_DEPENDENT, UNDETERMINED = "metric-dependent", "undetermined"
NO_EFFECT, BACKFIRES = "no effect to explain", "backfires"
SUPERFICIAL_ROUTE, DEEP_CONTENT = "superficial (route)", "deep (content)"
SUPERFICIAL_DIRECTION, DEEP_DIRECTION = "superficial (direction)", "deep (direction)"
NOT_VALID = "instrument not valid"
MIXED, NOT_IDENTIFIED = "mixed", "not identified"

CardRows = Mapping[str, Finding]


@dataclass(frozen=True)
class CardVerdict:
    """What a card says, the rule that fired, the numbers it fired on, and what would have changed it."""

    name: str
    rule: int
    because: str
    otherwise: str

    def __str__(self) -> str:
        return f"{self.name} (rule {self.rule}): {self.because}. {self.otherwise}"


def route_verdict(rows: CardRows, p_holm: Mapping[str, float]) -> CardVerdict:
    """The verdict on the route, by rules 1 to 4 and 6.

    Args:
        rows: findings by name; behaviour at least.
        p_holm: their p-values, corrected over the card's rows.
    """
    return _of_behaviour(rows[BEHAVIOUR], p_holm[BEHAVIOUR]) or _of_content(rows)


def direction_verdict(rows: CardRows, p_holm: Mapping[str, float]) -> CardVerdict | None:
    """The verdict on the direction, by rules 1 to 3, 5 and 6; None where no direction was given.

    Args:
        rows: findings by name; behaviour at least.
        p_holm: their p-values, corrected over the card's rows.
    """
    if INSTRUMENT not in rows:
        return None
    return _of_behaviour(rows[BEHAVIOUR], p_holm[BEHAVIOUR]) or _of_direction(rows)


def _of_behaviour(row: Finding, p: float) -> CardVerdict | None:
    """Rules 1 to 3; None where there is a positive effect to explain."""
    table = row.table
    first, *others = intervals_of(table)
    names = [metric_name(str(name)) for name in table["metric"]]
    few = _too_few(first)
    if few:
        return CardVerdict(UNDETERMINED, 2, few, "More wordings and items would tell.")
    claimed = bool(first.excludes(0)) and not p >= ALPHA
    against = [
        f"{name} {one}"
        for name, one in zip(names[1:], others, strict=True)
        if (one.estimate * first.estimate <= 0 if claimed else one.excludes(0))
    ]
    if against:
        return CardVerdict(
            METRIC_DEPENDENT,
            1,
            f"B in {names[0]} is {first}, but {'; '.join(against)}",
            "One sign in all metrics, with an interval of the primary one that excludes 0, would have "
            "left an effect to explain.",
        )
    delta = float(table["delta"].iloc[0])
    if delta > 0 and equivalence(first, delta).p < ALPHA:  # also where it excludes 0
        return CardVerdict(
            NO_EFFECT,
            2,
            f"the 90 % interval of B, {first.estimate:.3f} nats, lies inside ±{delta:.3f}",
            "A B beyond that, whose interval excludes 0, would have been an effect.",
        )
    if not claimed:
        return _undetermined(first, delta, p)
    if first.estimate < 0:
        return CardVerdict(
            BACKFIRES,
            3,
            f"B in {names[0]} is {first}, below 0",
            "The rows say by which route; a positive B would have been judged by them.",
        )
    return None


def _too_few(effect: Interval) -> str:
    if effect.n_clusters < MIN_CLUSTERS:
        return f"{effect.n_clusters} clusters of items, and a claim takes {MIN_CLUSTERS}"
    fewest = min(effect.texts or (MIN_WORDINGS,))
    if fewest < MIN_WORDINGS:
        return f"{fewest} wordings a side, and a claim takes {MIN_WORDINGS}"
    return ""


def _undetermined(effect: Interval, delta: float, p: float) -> CardVerdict:
    half = (effect.high - effect.low) / 2
    said = (
        f"B is {effect}, which contains 0"
        if not effect.excludes(0)
        else f"B is {effect}, and its p corrected over the rows is {p:.3f}"
    )
    needed = f"inside ±{delta:.3f}" if delta > 0 else "inside ±delta, which was not measured"
    return CardVerdict(
        UNDETERMINED,
        2,
        f"{said} (half-width {half:.3f})",
        f"An interval that excludes 0 would have been an effect, a 90 % interval {needed} none.",
    )


def _of_content(rows: CardRows) -> CardVerdict:
    """Rules 4 and 6."""
    unread = _first_unread(rows, (CONTENT_IN, CONTENT_OUT))
    if unread is not None:
        return unread
    into, out = rows[CONTENT_IN], rows[CONTENT_OUT]
    shares = f"content share {_of(into)} into placebo, {_of(out)} out of corrected"
    changed = rows.get(CHANGED)
    if _below(into) and _below(out):
        return _superficial(rows, shares)
    if _above(into) and _above(out):
        if changed is not None and changed.is_read and _below(changed):
            return CardVerdict(
                SUPERFICIAL_ROUTE,
                4,
                f"{shares}, but of it {_of(changed)} is changed content: a relayed flag",
                f"A changed content above {DEEP_SHARE:.2f} would have been deep.",
            )
        if changed is not None and changed.is_read and _above(changed):
            return CardVerdict(
                DEEP_CONTENT,
                4,
                f"{shares}, changed content {_of(changed)}",
                f"A lower bound of any of the three at or below {DEEP_SHARE:.2f} would have been mixed.",
            )
    return _open(rows, shares)


def _superficial(rows: CardRows, shares: str) -> CardVerdict:
    onset, content, other = (rows.get(name) for name in (ONSET, CONTENT_EDGES, OTHER_EDGES))
    said = []
    if onset is not None and onset.is_read and onset.interval.low >= LATE_ONSET:
        said.append(f"late onset, l50 at {_of(onset)} of the layers")
    read = [row is not None and row.is_read for row in (content, other)]
    if (
        content is not None
        and other is not None
        and all(read)
        and _below(content)
        and _above(other)
    ):
        said.append(
            f"read off the instruction: {_of(other)} is lost where all but the content cannot read it"
        )
    if said:
        return CardVerdict(
            SUPERFICIAL_ROUTE,
            4,
            f"{shares}; {' and '.join(said)}",
            f"A content share with an upper bound of {SUPERFICIAL_SHARE:.2f} or more would have been "
            "mixed.",
        )
    return CardVerdict(
        MIXED,
        6,
        f"{shares}, below {SUPERFICIAL_SHARE:.2f}, but neither late nor shown to be read off the "
        "instruction by all but the content",
        f"An l50 of at least {LATE_ONSET:.2f} of the layers, or edges of everything else that carry "
        f"more than {DEEP_SHARE:.2f} where those of the content carry less than "
        f"{SUPERFICIAL_SHARE:.2f}, would have been superficial.",
    )


def _open(rows: CardRows, shares: str) -> CardVerdict:
    """Neither end: mixed where the shares tell, not identified where they do not."""
    into, out, both = rows[CONTENT_IN], rows[CONTENT_OUT], rows.get(INTERACTION)
    if both is not None and both.is_read and both.interval.low > INTERACTION_SHARE:
        return CardVerdict(
            MIXED,
            6,
            f"{shares}: the routes back each other up, {_of(both)} more than the effect together",
            "Shares that agree both ways would have been judged by their bounds.",
        )
    wide = [
        row.name
        for row in (into, out)
        if np.isnan(row.interval.low)
        or (row.interval.low < SUPERFICIAL_SHARE and row.interval.high > DEEP_SHARE)
    ]
    if wide:
        return CardVerdict(
            NOT_IDENTIFIED,
            6,
            f"{shares}: too wide to tell ({', '.join(wide)})",
            "More items would tell.",
        )
    changed = rows.get(CHANGED)
    of = "" if changed is None else f", changed content {_of(changed)}"
    return CardVerdict(
        MIXED,
        6,
        f"{shares}{of}",
        f"Upper bounds below {SUPERFICIAL_SHARE:.2f} would have been superficial, lower bounds above "
        f"{DEEP_SHARE:.2f} of all three deep.",
    )


def _of_direction(rows: CardRows) -> CardVerdict:
    """Rules 5 and 6."""
    if not rows[INSTRUMENT].is_read:
        return CardVerdict(
            NOT_VALID,
            5,
            rows[INSTRUMENT].why_not,
            "A direction that tells fair from biased statements, and that the judgement follows, would "
            "have been read.",
        )
    unread = _first_unread(rows, (R_IN, R_OUT))
    if unread is not None:
        return unread
    into, out = rows[R_IN], rows[R_OUT]
    ratios = f"R {_of(into)} into placebo, {_of(out)} out of corrected"
    if _below(into) and _below(out):
        return _first_unread(rows, (SPANS,)) or _little(rows[SPANS], ratios)
    if _above(into) and _above(out):
        return _much(rows, ratios)
    if any(
        row.interval.low < SUPERFICIAL_SHARE < DEEP_SHARE < row.interval.high for row in (into, out)
    ):
        return CardVerdict(
            NOT_IDENTIFIED, 6, f"{ratios}: too wide to tell", "More items would tell."
        )
    return CardVerdict(
        MIXED,
        6,
        ratios,
        f"Upper bounds below {SUPERFICIAL_SHARE:.2f} would have been superficial, lower bounds above "
        f"{DEEP_SHARE:.2f} deep.",
    )


def _first_unread(rows: CardRows, names: Sequence[str]) -> CardVerdict | None:
    for name in names:
        row = rows.get(name)
        if row is None or not row.is_read:
            why = "was not measured" if row is None else f"is not read: {row.why_not}"
            return CardVerdict(NOT_IDENTIFIED, 6, f"{name} {why}", "A row that is read would tell.")
    return None


def _little(spans: Finding, ratios: str) -> CardVerdict:
    """R is small: also that of several fits together?"""
    said = f"{ratios}; spans of up to {MAX_RANK} fits at most {_of(spans)}"
    if spans.interval.high < SPAN_SHARE:
        return CardVerdict(
            SUPERFICIAL_DIRECTION,
            5,
            said,
            f"An R with an upper bound of {SUPERFICIAL_SHARE:.2f} or more would have been mixed.",
        )
    return CardVerdict(MIXED, 6, said, f"Spans below {SPAN_SHARE:.2f} would have been superficial.")


def _much(rows: CardRows, ratios: str) -> CardVerdict:
    """R is large: beyond null directions, and does the opposite instruction go the other way?"""
    missing = []
    beyond = rows.get(BEYOND)
    if beyond is None or not beyond.interval.low > 0:
        shown = "not measured" if beyond is None else _of(beyond)
        missing.append(f"its lead over null directions is {shown}")
    # without what every request does, where that was measured
    ways = [rows.get(REMOVED, rows.get(REPRESENTATION)), rows.get(NEGATED)]
    signs = [
        0.0
        if row is None or not row.interval.excludes(0)
        else float(np.sign(row.interval.estimate))
        for row in ways
    ]
    if signs[0] * signs[1] >= 0:
        shown = ", ".join("not measured" if row is None else _of(row) for row in ways)
        missing.append(
            f"instruction and negated instruction are not shown to move the states apart ({shown})"
        )
    if missing:
        return CardVerdict(
            MIXED,
            6,
            f"{ratios}, but {' and '.join(missing)}",
            "Without that it would have been deep.",
        )
    return CardVerdict(
        DEEP_DIRECTION,
        5,
        f"{ratios}, beyond null directions, and the negated instruction moves the states the other way",
        f"A lower bound of R at or below {DEEP_SHARE:.2f} would have been mixed.",
    )


def _below(row: Finding) -> bool:
    return bool(row.interval.high < SUPERFICIAL_SHARE)


def _above(row: Finding) -> bool:
    return bool(row.interval.low > DEEP_SHARE)


def _of(row: Finding) -> str:
    one = row.interval
    if pd.isna(one.estimate):
        return "not measured"
    return f"{one.estimate:.2f} [{one.low:.2f}, {one.high:.2f}]"
