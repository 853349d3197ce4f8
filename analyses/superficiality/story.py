"""The report of a scorecard: the verdict first, then what it rests on, row by row."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from analyses.contrast import by_name
from analyses.report.prose import count
from analyses.report.sections import limits, read_sample, say_contrasts
from analyses.study import Story
from analyses.superficiality.tables import SuperficialityResult
from interp import viz
from interp.stats import intervals_of
from interp.superficiality import CardVerdict
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import R_IN
from interp.superficiality.rows import BEHAVIOUR, BEHAVIOUR_AFTER, metric_name
from interp.viz import Section

_ASKED = (
    "Does the instruction change what is stored of the context and the question, or only the way to the "
    "answer? The instruction stands first, so that it can do either. B is its effect against placebos "
    "of equal length."
)
_ROWS = (
    "Shares are of B, in the same pairs: 0 is the placebo run, 1 the corrected one; 95 % intervals "
    "(Fieller), wordings and clusters of items random. p is corrected over the rows (Holm)."
)
_CHECKED = (
    "What was measured of each row beside its interval. A check that fails forbids the reading, but for "
    "those that are stated only (a dose, the sum of spans, what goes straight to the logits, the "
    "overlap of two halves' top heads from too few items)."
)
_LIMITS = (
    "Content is the context's and the question's tokens; the options, the template and the answer "
    "prefix read it. What is stored in the options' own states counts as the way to the answer.",
    "A content share says through which positions the effect runs, not that what changed is moral.",
    "Polarity, residue and the rows behind them are read beside the verdict; no rule of it reads them.",
    "The bounds of the verdict were fixed before any card was computed. Changed content is read on the "
    "items in the lower half of the placebo's metric, and speaks of them alone.",
)

_NO_DIRECTION = (
    "No direction was given (--direction): whether the change lies along one is not asked, and there is "
    "no verdict on it."
)
_ALONG = (
    "Coordinates along the direction are exchanged between the two runs of a pair, on the current "
    "state, layer after layer. R compares what it carries with what the oracle carries: the leading "
    "directions of the very shift, fitted on other items and other wordings. These rows are read only "
    "where the direction is a valid instrument: it tells fair from biased statements that share their "
    "words, and the model's judgement of them follows it."
)


def tell(done: SuperficialityResult) -> Story:
    """Sections and the figure."""
    card, verdict = done.scorecard, done.scorecard.verdict
    figure = viz.scorecard(card)
    rows = _rows(done)
    return Story(
        title=f"Is the effect of the instruction{by_name(done.config.condition)} superficial?",
        sections=[
            Section(
                "The verdict",
                paragraphs=[_ASKED, *_verdicts(done)],
                figures=[
                    (
                        figure,
                        "B, the shares of it by route, in parts and along a direction, and the depth at "
                        "which it is reached.",
                    )
                ],
            ),
            Section(
                "Is there an effect to explain?",
                paragraphs=[
                    card[BEHAVIOUR].reading,
                    f"With the instruction last: {card[BEHAVIOUR_AFTER].reading} (Content that comes "
                    "before an instruction cannot change, so no rule reads this row.)",
                    say_contrasts(done.items),
                ],
                tables=[(_effects(done), "B in every metric and placement (CGM-t).")],
            ),
            Section(
                "Row by row",
                paragraphs=[
                    f"Patched: {count(done.n_patched, 'pair')} of prompts, each item with one of the "
                    "wordings in turn.",
                    *_readings(done),
                ],
                tables=[(rows, _ROWS)],
            ),
            *_along(done),
            Section("What the rows rest on", tables=[(_checks(done), _CHECKED)]),
            limits(done.card, [_sample(done), *_LIMITS]),
        ],
        figures={"scorecard": figure},
        printed=rows,
        headline=f"“{done.config.condition}”: {verdict.name}. {verdict.because[:1].upper()}"
        f"{verdict.because[1:]}.",
    )


def _verdicts(done: SuperficialityResult) -> list[str]:
    """On the route, and on the direction or that none was given."""
    found = done.scorecard.direction_verdict
    said = [_say_verdict("Verdict", done.scorecard.verdict)]
    return [*said, _NO_DIRECTION if found is None else _say_verdict("Along the direction", found)]


def _say_verdict(of: str, found: CardVerdict) -> str:
    because = f"{found.because[:1].upper()}{found.because[1:]}"
    return f"{of}: {found.name} (rule {found.rule}). {because}. {found.otherwise}"


def _along(done: SuperficialityResult) -> list[Section]:
    """What the direction carries in every setting, and what makes it an instrument."""
    if done.scorecard.direction_verdict is None:
        return []
    instrument, exchanged = (done.scorecard[name].table for name in (INSTRUMENT, R_IN))
    checks = pd.DataFrame(
        {
            "measured": instrument["measured"],
            "number": intervals_of(instrument),
            "null directions below": instrument["beyond"].where(
                instrument["measured"].str.startswith("judgement")
            ),
        }
    )
    shares = exchanged[["space", "k", "way", "rows", "places"]].rename(
        columns={"rows": "positions", "places": "layers"}
    )
    return [
        Section(
            "Along the direction",
            paragraphs=[_ALONG, done.scorecard[INSTRUMENT].reading],
            tables=[
                (checks, "The instrument check."),
                (
                    shares.assign(share=pd.Series(intervals_of(exchanged), dtype=object)),
                    "Share of B by exchange: whole is along and orthogonal together, own the "
                    "direction's own layer, behind the positions behind the instruction. Readable and "
                    "unread are the parts of the direction that later layers read and do not, "
                    "interaction what it carries beyond both; immediate goes straight to the logits.",
                ),
            ],
        )
    ]


def _sample(done: SuperficialityResult) -> str:
    quoted = f"“{done.example['corrected']}” against “{done.example['placebo']}”"
    return f"{read_sample(done.items)} For example: {quoted}"


def _readings(done: SuperficialityResult) -> list[str]:
    """The sentence of every row that is read, then those that are not, by their reason."""
    said, silent = [], defaultdict[str, list[str]](list)
    for row in done.scorecard:
        if row.name in (BEHAVIOUR, BEHAVIOUR_AFTER):
            continue
        if row.is_read:
            said.append(row.reading)
        else:
            silent[row.why_not].append(row.name)
    return said + [
        f"Shown but not interpreted ({why}): {'; '.join(names)}." for why, names in silent.items()
    ]


def _effects(done: SuperficialityResult) -> pd.DataFrame:
    table = done.effects
    return pd.DataFrame(
        {
            "instruction": table["placement"].map({"before": "first", "after": "last"}),
            "metric": table["metric"].map(metric_name),
            "B": intervals_of(table),
            "p": table["p_raw"],
            "items": table["n"],
            "clusters": table["n_clusters"],
            "wordings": table["texts"],
        }
    )


def _checks(done: SuperficialityResult) -> pd.DataFrame:
    rows = [(row.name, row.checks, row.why_not) for row in done.scorecard if row.health]
    return pd.DataFrame(rows, columns=["row", "measured", "why it is not read"])


def _rows(done: SuperficialityResult) -> pd.DataFrame:
    card = done.scorecard
    return pd.DataFrame(
        {
            "row": [row.name for row in card],
            "number": [row.interval for row in card],
            "of": [row.statistic for row in card],
            "p (Holm)": [card.family.p_holm[row.name] for row in card],
            "n": [row.n for row in card],
            "read": ["yes" if row.is_read else "no" for row in card],
            "null hypothesis": [row.null for row in card],
        }
    )
