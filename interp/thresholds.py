"""The levels that every report shares, fixed before anything is measured."""

ALPHA = 0.05
"""The level of every test."""

MIN_WORDINGS = 6
"""Wordings each arm needs before a report claims anything of wordings in general."""

MIN_CLUSTERS = 6
"""Clusters of items a claim needs."""

EQUIVALENCE_SHARE = 0.10
"""Delta of an equivalence test, as a share of the effect of naming the answer (positive control)."""
