"""Scorecards of models whose way to follow an instruction is known, and the truth beside them.

    python -m analyses.benchmarks.known.scorecards             # every program and arm, ten models each
    python -m analyses.benchmarks.known.scorecards --seeds 1   # a tenth

Cards are computed by :mod:`analyses.benchmarks.known.cards`, from the model and its task alone;
:func:`scored` opens the truth afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analyses.benchmarks.known.cards import compiled_cards, trained_cards
from analyses.benchmarks.known.suite import confusion, run_suite
from interp.known import open_truth, trained_names
from interp.known.arms import ARMS, NOT_VALID, TrainedArm
from interp.known.asked import ASKED
from interp.known.asked_truth import NO_EFFECT, asked_truth
from interp.known.registry import program_of
from interp.known.task import ASKS, CONTENTS, JUDGES, NOTES, OTHERS
from interp.known.trained import N_SEEDS
from interp.superficiality import Scorecard
from interp.superficiality.rows import CHANGED, CONTENT_IN, CONTENT_OUT, INTERACTION
from interp.superficiality.verdict import BACKFIRES, DEEP_CONTENT

ROWS = "scorecards.parquet"
"""The file of the rows."""

CARD_SHARES = (CONTENT_IN, CONTENT_OUT, INTERACTION, CHANGED)
"""Rows whose estimates are kept."""

COMPILED, TRAINED = "compiled", "trained"

Cards = Mapping[tuple[int, str], Scorecard]
"""By seed and question."""


def suite_names() -> tuple[str, ...]:
    """Compiled programs, those of others first, then trained arms."""
    return (*ASKED, *trained_names())


def cards_of(name: str, seeds: Sequence[int] = range(N_SEEDS)) -> dict[tuple[int, str], Scorecard]:
    """The cards of every model of a program or arm and every question; no truth is opened."""
    of = compiled_cards if name in ASKED else trained_cards
    return {(seed, question): card for seed in seeds for question, card in of(name, seed).items()}


def scored(name: str, cards: Cards) -> pd.DataFrame:
    """A row per card: its verdict and shares, then the truth.

    ``truth``: what the program does; empty where it says nothing (judges that were not trained under
    instructions, negations that name answers). ``alpha``: the content share. ``localised``: the model is
    compiled, or was held to the program's places; if not, its own way may be another. ``published``: the
    program follows a task that others published.
    """
    truth = _compiled_truth if name in ASKED else _trained_truth
    rows = []
    for (seed, question), card in cards.items():
        found = {one.name: one.interval.estimate for one in card}
        rows.append(
            {
                "kind": COMPILED if name in ASKED else TRAINED,
                "arm": name,
                "seed": seed,
                "question": question,
                "verdict": card.verdict.name,
                "rule": card.verdict.rule,
                "because": card.verdict.because,
                **{share: found.get(share, float("nan")) for share in CARD_SHARES},
                **truth(name, seed, question),
            }
        )
    return pd.DataFrame(rows)


def _compiled_truth(name: str, seed: int, question: str) -> dict[str, object]:
    truth = asked_truth(name, reverse=question == "reversed")
    return {
        "truth": truth.verdict,
        "alpha": truth.share if question == "asked" else float("nan"),
        "localised": True,
        "backup": truth.backup,
        "published": program_of(name).published,
    }


def _trained_truth(name: str, seed: int, question: str) -> dict[str, object]:
    truth, arm = open_truth(name, seed), ARMS[name]
    # the labels of sentences decide on directions, not on routes
    said = DEEP_CONTENT if truth.verdict == NOT_VALID else truth.verdict
    alpha = None if truth.shares is None else truth.shares["content"]
    if question == "negated":
        said, alpha = ("" if name == "copying_instruction" else BACKFIRES), None
    elif question == "judged":
        said, alpha = _truth_of_judges(arm), None
    return {
        "truth": said,
        "alpha": float("nan") if alpha is None else alpha,
        "localised": truth.localised,
        "backup": bool(truth.backups),
        "published": False,
    }


def _truth_of_judges(arm: TrainedArm) -> str:
    """Nothing, where judges were trained and the program does not move them; else it is not scored."""
    if not arm.judged:
        return ""
    moved = [
        arm.program.run(("BOS", ASKS[0], content, OTHERS[0], JUDGES[0])).values["answer"][-1]
        != arm.program.run(("BOS", NOTES[0], content, OTHERS[0], JUDGES[0])).values["answer"][-1]
        for content in CONTENTS
    ]
    return "" if any(moved) else NO_EFFECT


def share_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Per kind of model and planted share: mean estimates, and mean |estimate - alpha| both ways."""
    own = rows[rows["localised"] & rows["alpha"].notna() & (rows["question"] == "asked")]
    errors = {
        f"error, {name}": (own[name] - own["alpha"]).abs() for name in (CONTENT_IN, CONTENT_OUT)
    }
    by_alpha = own.assign(**errors, alpha=own["alpha"].round(6)).groupby(["kind", "alpha"])
    table = by_alpha[[CONTENT_IN, CONTENT_OUT, CHANGED, *errors]].mean()
    return table.assign(models=by_alpha.size())


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute all cards, open the truths, write the rows as they come, and print the tables."""
    rows = run_suite(
        "scorecards of models of known truth",
        ROWS,
        suite_names(),
        lambda name, seeds: scored(name, cards_of(name, seeds)),
        arguments,
    )
    by_arm = pd.crosstab([rows["question"], rows["arm"], rows["truth"]], rows["verdict"])
    for table in (by_arm, confusion(rows[rows["localised"]]), share_errors(rows).round(3)):
        print(table.to_string(), end="\n\n")


if __name__ == "__main__":
    main()
