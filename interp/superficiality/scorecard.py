"""The scorecard: its rows, corrected over all of them, and the verdict they give.

Example:
    >>> card = Scorecard((behaviour_finding(readings), *content_findings(runs)))   # doctest: +SKIP
    >>> print(card.verdict)                                                         # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError, did_you_mean
from interp.stats import Family
from interp.superficiality.direction_rows import DirectionTables, direction_findings
from interp.superficiality.finding import Finding
from interp.superficiality.further_rows import further_findings, with_health
from interp.superficiality.routes import PLACEBO, high_half
from interp.superficiality.rows import (
    BEHAVIOUR,
    BEHAVIOUR_AFTER,
    behaviour_finding,
    content_findings,
    edge_findings,
    onset_finding,
)
from interp.superficiality.verdict import CardVerdict, direction_verdict, route_verdict

NO_DIRECTION = "direction: none was given, so representation, coupling and mediation are not asked"


@dataclass(frozen=True, eq=False)
class Scorecard:
    """Findings in their order, by name; ``title`` says of which model, items and condition.

    Raises:
        InterpError: two rows of one name, or no row of behaviour, without which there is nothing to
            explain.
    """

    findings: tuple[Finding, ...]
    title: str = ""
    family: Family = field(init=False, repr=False)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        names = [finding.name for finding in self.findings]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InterpError(f"Scorecard: two rows are called {twice[0]!r}: give each once")
        if BEHAVIOUR not in names:
            raise InterpError(
                f"Scorecard: no row {BEHAVIOUR!r}: give behaviour_finding(...), the effect to explain"
            )
        claims = {finding.name: finding.p_value for finding in self.findings}
        object.__setattr__(self, "family", Family.of("rows of the card", claims))

    def __getitem__(self, name: str) -> Finding:
        """A row by its name.

        Raises:
            InterpError: no such row.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        known = [finding.name for finding in self.findings]
        raise InterpError(f"no row {name!r}: {did_you_mean(name, known)}")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def verdict(self) -> CardVerdict:
        """On the route, which needs no direction (:mod:`interp.superficiality.verdict`)."""
        return route_verdict(
            {finding.name: finding for finding in self.findings}, self.family.p_holm
        )

    @property
    def direction_verdict(self) -> CardVerdict | None:
        """On the direction; it stands beside :attr:`verdict` and may disagree. None without one."""
        return direction_verdict(
            {finding.name: finding for finding in self.findings}, self.family.p_holm
        )

    @property
    def verdict_lines(self) -> tuple[str, str]:
        """Both verdicts as they are shown; without a direction the second says what is left out."""
        found = self.direction_verdict
        return f"verdict: {self.verdict}", (
            NO_DIRECTION if found is None else f"direction: {found}"
        )

    def to_dataframe(self) -> pd.DataFrame:
        """A row per finding: the columns of its interval, its p corrected over the card (Holm)."""
        rows = [one.columns() | {"p_holm": self.family.p_holm[one.name]} for one in self.findings]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [self.title] if self.title else []
        for one in self.findings:
            read = "" if one.is_read else f"  (not read: {one.why_not})"
            lines.append(f"{one.name:32} {one.interval}  n {one.n}{read}")
        return "\n".join([*lines, *self.verdict_lines])

    def _repr_html_(self) -> str:
        frame = pd.DataFrame(
            {
                "row": [one.name for one in self.findings],
                "number": [str(one.interval) for one in self.findings],
                "of": [one.statistic for one in self.findings],
                "p (Holm)": [self.family.p_holm[one.name] for one in self.findings],
                "n": [one.n for one in self.findings],
                "reading": [
                    one.reading if one.is_read else f"not read: {one.why_not}"
                    for one in self.findings
                ],
            }
        )
        title = html_paragraph(self.title, bold=True) if self.title else ""
        verdicts = "".join(html_paragraph(line) for line in self.verdict_lines)
        return title + html_table(frame, decimals=3) + verdicts


def card_of(
    readings: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    after: pd.DataFrame | None = None,
    untrained: pd.DataFrame | None = None,
    further: Mapping[str, pd.DataFrame] | None = None,
    seed: int = 0,
    direction: DirectionTables | None = None,
    title: str = "",
) -> Scorecard:
    """The card of saved tables: every row that they allow.

    Args:
        readings: behaviour with the instruction first
            (:func:`interp.superficiality.behaviour.measure_behaviour`).
        runs: :func:`interp.superficiality.routes.measure_routes`.
        after: behaviour with the instruction last, a row of its own that no rule reads.
        untrained: ``runs`` of an untrained copy.
        further: tables of :mod:`interp.superficiality.further`, by name.
        seed: of draws that findings make.
        direction: the tables of the rows that need a direction
            (:func:`interp.superficiality.direction_rows.measure_direction_rows`).
        title: of the card.

    Raises:
        InterpError: a table without what its rows need.
    """
    findings = [behaviour_finding(readings)]
    if after is not None:
        findings.append(behaviour_finding(after, name=BEHAVIOUR_AFTER))
    low = low_items(readings, runs["item"])
    findings += content_findings(runs, low=low, untrained=untrained)
    findings += [*edge_findings(runs), onset_finding(runs)]
    if further is not None:
        findings = with_health(findings, further)
        findings += further_findings(readings, further, seed=seed)
    if direction is not None:
        findings += direction_findings(direction, readings)
    return Scorecard(tuple(findings), title)


def low_items(readings: pd.DataFrame, among: Iterable[str]) -> frozenset[str]:
    """Of some items those in the lower half of the placebo's first metric, mean over wordings."""
    first = readings[readings["metric"] == readings["metric"].iloc[0]]
    first = first[first["item"].isin(set(among))]
    levels = first[first["side"] == PLACEBO].groupby("item", sort=False)["value"].mean()
    high = high_half(levels.tolist())
    return frozenset(str(item) for item, up in zip(levels.index, high, strict=True) if not up)
