"""Numbers and frames as markdown, the way README and docs print them: ``.29 [.11, .46]``."""

from __future__ import annotations

import math

import pandas as pd

from interp.stats import Interval


def number(value: float, decimals: int = 2) -> str:
    """``-.05``: without a leading zero; a dash for what is missing."""
    if math.isnan(value):
        return "-"
    return (
        f"{value:z.{decimals}f}".replace("0.", ".", 1)
        if abs(value) < 1
        else f"{value:.{decimals}f}"
    )


def interval(value: Interval, decimals: int = 2) -> str:
    """``.29 [.11, .46]``; bold where it excludes 0 is the caller's affair."""
    estimate = number(float(value.estimate), decimals)
    if math.isnan(float(value.low)):
        return estimate
    low, high = (number(float(bound), decimals) for bound in (value.low, value.high))
    return f"{estimate} [{low}, {high}]"


def p_value(p: float) -> str:
    """``.017``; ``< .001`` below that."""
    return "< .001" if p < 0.001 else number(p, 3)


def table(frame: pd.DataFrame) -> str:
    """A frame of text as a markdown table."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
