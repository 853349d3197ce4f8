"""The findings of the rows behind the route, and what an untrained copy of the model makes of them.

In the untrained copy the same patches and questions have to read null; what they read there is made by
prompts, tokenizer and arithmetic. Some rows are not asked of it, and say why: :data:`NOT_ASKED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from interp.stats import Interval
from interp.superficiality.append import APPENDED, append_finding
from interp.superficiality.concentration import CONSTANT, TOP_TOKEN, token_findings, top_token_part
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.further import UNTRAINED
from interp.superficiality.heads import TOP_HEADS, head_finding
from interp.superficiality.health import add_health
from interp.superficiality.manifold import manifold_check
from interp.superficiality.paired import PairedRuns, reads_null
from interp.superficiality.polarity import (
    NEGATED_TEXTS,
    POLARITY,
    SHARED,
    VOCABULARY,
    VOCABULARY_TEXTS,
    polarity_findings,
    shared_finding,
    side_effect,
)
from interp.superficiality.rank import RANK, rank_finding
from interp.superficiality.residue import (
    DISTINGUISHED,
    PROBE,
    REINJECTED,
    distinguish_finding,
    probe_finding,
    reinjected_part,
    reinjection_finding,
)
from interp.superficiality.rows import CONTENT_IN, behaviour_finding

NOT_ASKED = {
    SHARED: "states move alike where words are alike, also in a model that has learned nothing",
    PROBE: "an untrained answer is read from its state as well",
    APPENDED: "its replies are no sentences",
    RANK: "behaviour alone",
}
"""Why a row is not asked of an untrained copy."""


def further_findings(
    readings: pd.DataFrame, tables: Mapping[str, pd.DataFrame], *, seed: int = 0
) -> list[Finding]:
    """The rows of the tables that are there; those without a row of data are left out.

    Args:
        readings: behaviour, the instruction first.
        tables: by name, those of :data:`interp.superficiality.further.FURTHER_TABLES`.
        seed: of the halves whose top heads are compared.

    Raises:
        InterpError: a table without what its rows need.
    """
    there = {name: table for name, table in tables.items() if len(table)}
    if not there:
        return []
    found: list[Finding] = []
    if "tokens" in there:
        found += token_findings(there["tokens"])
    if "top_heads" in there:
        found.append(head_finding(there["top_heads"], there.get("heads"), seed=seed))
    if "polarity" in there:
        found += polarity_findings(readings, there["polarity"])
    for name, finding in _ONE_ROW.items():
        if name in there:
            found.append(finding(there[name]))
    checks = untrained_checks(readings, there)
    return [replace(row, health=(*row.health, *checks.get(row.name, ()))) for row in found]


_ONE_ROW: Mapping[str, Callable[[pd.DataFrame], Finding]] = {
    "shared_shift": shared_finding,
    "probes": probe_finding,
    "reinjection": reinjection_finding,
    "distinguish": distinguish_finding,
    "edits": append_finding,
    "ranks": rank_finding,
}


def with_health(findings: Sequence[Finding], tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """The content's rows with the checks that the tables ``health`` and ``manifold`` allow."""
    health, manifold = (tables.get(name) for name in ("health", "manifold"))
    found = list(findings) if health is None or health.empty else add_health(findings, health)
    if manifold is None or manifold.empty:
        return found
    near = manifold_check(manifold)
    return [
        replace(row, health=(*row.health, near)) if row.name == CONTENT_IN else row for row in found
    ]


def untrained_checks(
    readings: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> dict[str, tuple[HealthCheck, ...]]:
    """Of every row what the untrained copy makes of it, or why it is not asked; by the row's name.

    Nothing where no table is of an untrained copy. The bound is a tenth of the model's own effect.
    """
    of_copy = {
        name.removeprefix(UNTRAINED): table
        for name, table in tables.items()
        if name.startswith(UNTRAINED)
    }
    if not of_copy:
        return {}
    found: dict[str, Interval] = {}
    if "tokens" in of_copy:
        own = PairedRuns.of(of_copy["tokens"], None)
        part = top_token_part(PairedRuns.of(tables["tokens"], None), own)
        found[TOP_TOKEN] = own.mean(part)
        if "constant" in own.values:
            found[CONSTANT] = own.mean(own.step("constant"))
    if "top_heads" in of_copy:
        own = PairedRuns.of(of_copy["top_heads"], None)
        found[TOP_HEADS] = own.mean(own.step("top heads"))
    if "reinjection" in of_copy:
        own = PairedRuns.of(of_copy["reinjection"], None)
        found[REINJECTED] = own.mean(reinjected_part(own))
    for row, side in ((POLARITY, NEGATED_TEXTS), (VOCABULARY, VOCABULARY_TEXTS)):
        asked = of_copy.get("polarity")
        if asked is not None and (asked["side"] == side).any():
            found[row] = side_effect(asked, side)
    if "distinguish" in of_copy:
        found[DISTINGUISHED] = distinguish_finding(of_copy["distinguish"]).interval
    total = float(behaviour_finding(readings).interval.estimate)
    none = float("nan")
    checks = {name: reads_null(moved, total) for name, moved in found.items()} | {
        name: HealthCheck(f"untrained copy not asked ({why})", none, True, why)
        for name, why in NOT_ASKED.items()
    }
    return {name: (check,) for name, check in checks.items()}
