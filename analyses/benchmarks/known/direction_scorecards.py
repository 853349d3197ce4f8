"""Rule 5 on trained models: verdicts on a direction learned from labelled sentences, and the truth.

    python -m analyses.benchmarks.known.direction_scorecards --names deep wrong_direction --seeds 3

Rows are computed by :mod:`analyses.benchmarks.known.card_directions` from the model and its task alone;
:func:`scored` opens the truth afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analyses.benchmarks.known.card_directions import measure_direction
from analyses.benchmarks.known.cards import ask_trained, asked_behaviour
from analyses.benchmarks.known.suite import confusion, run_suite
from interp.known import load_trained, open_truth, trained_names
from interp.known.arms import ARMS, DEEP, NOT_VALID, SUPERFICIAL
from interp.known.trained import N_SEEDS
from interp.superficiality import Scorecard
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import BEYOND, R_IN, R_OUT, SPANS
from interp.superficiality.verdict import DEEP_DIRECTION, MIXED, SUPERFICIAL_DIRECTION

ROWS = "direction_scorecards.parquet"
"""The file of the rows."""

SHOWN = (INSTRUMENT, R_IN, R_OUT, SPANS, BEYOND)
"""Rows whose estimates are kept."""

Cards = Mapping[int, tuple[Scorecard, Scorecard]]
"""By seed: with all null directions, and with the contrasts alone."""


def cards_of(name: str, seeds: Sequence[int] = range(N_SEEDS)) -> Cards:
    """The cards of an arm's models; no truth is opened."""
    found = {}
    for seed in seeds:
        asked = ask_trained(*load_trained(name, seed))
        behaviour, measured = asked_behaviour(asked), measure_direction(asked)
        every, contrasts = (
            Scorecard((behaviour, *measured.findings(covariance=own)), f"{name}, seed {seed}")
            for own in (True, False)
        )
        found[seed] = (every, contrasts)
    return found


def scored(name: str, cards: Cards) -> pd.DataFrame:
    """A row per model: verdicts by rule 5 and estimates, then the truth."""
    rows = []
    for seed, (card, contrasts) in cards.items():
        verdict, alone = card.direction_verdict, contrasts.direction_verdict
        assert verdict is not None  # a direction was given
        assert alone is not None
        rows.append(
            {
                "arm": name,
                "seed": seed,
                "verdict": verdict.name,
                "because": verdict.because,
                "by_contrasts": alone.name,
                "because_by_contrasts": alone.because,
                **{row: card[row].interval.estimate for row in SHOWN},
                "truth": direction_truth(name),
                "localised": open_truth(name, seed).localised,
            }
        )
    return pd.DataFrame(rows)


def direction_truth(name: str) -> str:
    """What rule 5 ought to say of an arm.

    A direction carries the whole effect where all of it goes through one stored variable at a place, and
    nothing where none does; a part of it where the rest goes another way, or through further variables.
    """
    arm = ARMS[name]
    if arm.verdict == NOT_VALID:
        return NOT_VALID
    one = len(arm.sites[0].variables) == 1
    if arm.verdict == DEEP and one:
        return DEEP_DIRECTION
    return SUPERFICIAL_DIRECTION if arm.verdict == SUPERFICIAL else MIXED


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute all cards, open the truths, write the rows as they come, and print the matrix."""
    rows = run_suite(
        "rule 5 on trained models of known truth",
        ROWS,
        trained_names(),
        lambda name, seeds: scored(name, cards_of(name, seeds)),
        arguments,
    )
    print(pd.crosstab([rows["arm"], rows["truth"]], rows["verdict"]).to_string(), end="\n\n")
    print(confusion(rows[rows["localised"]]).to_string())


if __name__ == "__main__":
    main()
