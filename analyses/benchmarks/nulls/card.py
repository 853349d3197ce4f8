"""How often a row of the scorecard rejects a null that is true: ``python -m analyses.benchmarks.nulls.card``.

200 data sets in which no instruction is given (:mod:`.card_sets`), of the size of a card: 120 items for
behaviour, 60 that are patched, 18 in the rows that cost most, six wordings a side. Items and wordings are
drawn anew in each, without end (:mod:`.sentences`). Then the same with an effect planted on one route, in
units of the standard deviation between wordings: the rows of that route are asked for their power, those
of the other for their size where there is an effect to have a share of.

Not asked: rows without a p (onset, shared shift), and those that speak of a direction's exchange or of
statements, not of an instruction (mediation, instrument).

Data sets are kept one by one, so that an interrupted command goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.nulls.card_sets import (
    DataSet,
    Plant,
    Route,
    behaviour_rows,
    fit_random,
    further_rows,
    route_rows,
    state_rows,
)
from analyses.benchmarks.nulls.sentences import random_model, spread
from interp.directions import DirectionStack
from interp.stats import ALPHA
from interp.superficiality import Finding, Scorecard

KEPT = Path(__file__).parents[3] / "docs" / "rows" / "nulls" / "card.parquet"
"""The rows behind the table of ``docs/methods.md``: one for every row of every data set's card."""

N_DRAWS = 200

SIZES = (2.0, 3.0, 4.0)
"""Of planted effects, in standard deviations between wordings."""

VERDICT = "verdict"
"""The row that holds a card's verdict."""

BEHAVIOUR_ROUTE: Route = "instruction"
"""Under which planted behaviour is filed: it is the same on either route."""

COLUMNS = ("route", "size", "row", "p", "estimate", "is_read", "verdict")
"""Of the rows of a data set, and ``draw``, its number; ``size`` in standard deviations between
wordings, ``p`` NaN where the row is not defined."""


def plants() -> tuple[Plant, ...]:
    """No effect, and every size on either route; sizes in standard deviations between wordings."""
    return (
        Plant(),
        *(Plant("instruction", size) for size in SIZES),
        *(Plant("content", size) for size in SIZES),
    )


def draw_rows(
    model: TransformerBridge,
    direction: DirectionStack,
    number: int,
    sd: float,
    **options: int,
) -> pd.DataFrame:
    """The rows of one data set, without and with planted effects: :data:`COLUMNS`.

    Args:
        model: of :func:`.sentences.random_model`.
        direction: of :func:`.card_sets.fit_random`.
        number: of the data set, which seeds it.
        sd: between wordings, nats.
        options: of :meth:`.card_sets.DataSet.draw`.
    """
    data = DataSet.draw(model, number, **options)
    answers = {
        size: behaviour_rows(data, Plant(BEHAVIOUR_ROUTE, size * sd)) for size in (0.0, *SIZES)
    }
    frames = [_table(Plant(), [*answers[0.0], *state_rows(data, direction), *further_rows(data)])]
    frames += [_table(Plant(BEHAVIOUR_ROUTE, size), answers[size]) for size in SIZES]
    for plant in plants():
        routes = route_rows(data, Plant(plant.route, plant.size * sd))
        verdict = Scorecard((answers[plant.size][0], *routes)).verdict.name
        frames.append(_table(plant, routes, verdict))
    return pd.concat(frames, ignore_index=True).assign(draw=number)


def _table(plant: Plant, findings: Sequence[Finding], verdict: str = "") -> pd.DataFrame:
    rows = [
        (plant.route, plant.size, one.name, one.p_value, one.interval.estimate, one.is_read, "")
        for one in findings
    ]
    nan = float("nan")
    rows += [(plant.route, plant.size, VERDICT, nan, nan, True, verdict)] if verdict else []
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"p": float, "estimate": float})


def measure(folder: Path, n_draws: int, *, deadline: float) -> pd.DataFrame:
    """The rows of all data sets; those in the folder are not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{number:03d}.parquet" for number in range(n_draws)]
    missing = [number for number, place in enumerate(places) if not place.is_file()]
    if missing:
        model = random_model()
        direction, sd = fit_random(model), spread(model)["wordings"]
        for number in tqdm(missing, desc="data sets"):
            if time.time() >= deadline:
                break
            temporary = folder / ".part"
            draw_rows(model, direction, number, sd).to_parquet(temporary, index=False)
            temporary.replace(places[number])
    frames = [pd.read_parquet(place) for place in places if place.is_file()]
    return pd.concat(frames, ignore_index=True)


def rejections(rows: pd.DataFrame) -> pd.DataFrame:
    """Per row and plant: data sets, in how many the row is defined, and in how many it rejects at 5 %."""
    own = rows[rows["row"] != VERDICT]
    n = own.groupby(["route", "size"])["draw"].nunique()
    found = own.assign(defined=own["p"].notna(), rejected=own["p"] < ALPHA)
    counts = found.groupby(["row", "route", "size"], sort=False)[["defined", "rejected"]].sum()
    table = counts.reset_index()
    return table.assign(
        draws=[int(n[route, size]) for route, size in table[["route", "size"]].to_numpy()]
    )


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict is given, per plant."""
    own = rows[rows["row"] == VERDICT]
    return pd.crosstab([own["route"], own["size"]], own["verdict"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what is missing, print the counts, write the rows."""
    parser = argparse.ArgumentParser(description="size and power of the scorecard's rows")
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument("--out", type=Path, default=Path("runs/nulls/card"))
    parser.add_argument("--into", type=Path, default=KEPT, help="the file of the rows")
    parser.add_argument(
        "--limit-seconds", type=float, default=float("inf"), help="begin nothing after so many"
    )
    asked = parser.parse_args(arguments)
    rows = measure(asked.out, asked.draws, deadline=time.time() + asked.limit_seconds)
    asked.into.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(asked.into, index=False)
    print(rejections(rows).to_string(index=False), end="\n\n")
    print(verdicts(rows).to_string())


if __name__ == "__main__":
    main()
