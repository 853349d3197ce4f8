"""Size and power of the scorecard's rows: ``python -m analyses.benchmarks.nulls.card``.

200 data sets in which nothing is asked (:mod:`.card_sets`), of the size of a card: 120 items for
behaviour, 60 that are patched, 18 in the rows that cost most, six wordings a side. Items and wordings
are drawn anew in each, without end (:mod:`.sentences`). Then the same with an effect planted on one
route, in units of the standard deviation between wordings: the rows of that route are asked for their
power, those of the other for their size where there is an effect to have a share of.

The rows of tokens, heads and the re-injected answer are measured where a share of the effect is defined.
Not asked: rows without a p (onset, shared shift), and the instrument, which no instruction enters.

Data sets are kept one by one, so that an interrupted command goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.nulls.card_rows import (
    behaviour_rows,
    further_rows,
    mediation_rows,
    route_rows,
    state_rows,
)
from analyses.benchmarks.nulls.card_sets import DataSet, Plant, Route, fit_random
from analyses.benchmarks.nulls.sentences import random_model, spread
from interp.directions import DirectionStack
from interp.runs.atomic import atomic_path
from interp.stats import ALPHA
from interp.superficiality import Finding, Scorecard
from interp.superficiality.subspaces import PlaceAxes, direction_axes

KEPT = Path(__file__).parents[3] / "docs" / "rows" / "nulls" / "card.parquet"
"""The rows behind the table of ``docs/methods.md``: one for every row of every data set's card."""

N_DRAWS = 200

SIZES = (2.0, 3.0, 4.0)
"""Of planted effects, in standard deviations between wordings."""

VERDICT = "verdict"
"""The row that holds a card's verdict."""

FILED: Route = "instruction"
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


@dataclass(frozen=True)
class Bench:
    """What data sets are measured with; ``spread``: of the model's margins, nats."""

    model: TransformerBridge
    direction: DirectionStack
    family: tuple[PlaceAxes, ...]
    spread: Mapping[str, float]

    @property
    def sd(self) -> float:
        """Between wordings, nats: the unit of planted effects."""
        return self.spread["wordings"]

    @classmethod
    def make(cls) -> Bench:
        """The tiny model and directions of random labels on it."""
        model = random_model()
        first, *others = (fit_random(model, seed) for seed in range(4))
        family = tuple(direction_axes(one)[2] for one in others)
        return cls(model, first, family, spread(model))


def card_rows(bench: Bench, data: DataSet) -> pd.DataFrame:
    """The rows of a data set's card, without and with planted effects: :data:`COLUMNS`."""
    sizes = (0.0, *SIZES)
    answers = {size: behaviour_rows(data, Plant(FILED, size * bench.sd)) for size in sizes}
    states = state_rows(data, bench.direction)
    frames = [_table(Plant(), [*answers[0.0], *states, *further_rows(data)])]
    frames += [_table(Plant(FILED, size), answers[size]) for size in SIZES]
    for plant in plants():
        routes = route_rows(data, Plant(plant.route, plant.size * bench.sd))
        verdict = Scorecard((answers[plant.size][0], *routes)).verdict.name
        frames.append(_table(plant, routes, verdict))
    return pd.concat(frames, ignore_index=True)


def exchange_rows(bench: Bench, data: DataSet) -> pd.DataFrame:
    """The rows of mediation, without a planted effect."""
    return _table(Plant(), mediation_rows(data, bench.direction, bench.family))


PARTS: Mapping[str, Callable[[Bench, DataSet], pd.DataFrame]] = {
    "card": card_rows,
    "mediation": exchange_rows,
}
"""What is measured of every data set, one part after the other."""


def _table(plant: Plant, findings: Sequence[Finding], verdict: str = "") -> pd.DataFrame:
    rows = [
        (plant.route, plant.size, one.name, one.p_value, one.interval.estimate, one.is_read, "")
        for one in findings
    ]
    nan = float("nan")
    rows += [(plant.route, plant.size, VERDICT, nan, nan, True, verdict)] if verdict else []
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"p": float, "estimate": float})


def measure(
    folder: Path, n_draws: int, parts: Sequence[str] = tuple(PARTS), *, deadline: float
) -> pd.DataFrame:
    """The rows of all data sets; those in the folder are not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        (part, k): folder / f"{part}-{k:03d}.parquet" for part in parts for k in range(n_draws)
    }
    missing = [key for key, place in places.items() if not place.is_file()]
    bench = Bench.make() if missing else None
    for part, number in tqdm(missing, desc="data sets"):
        if bench is None or time.time() >= deadline:
            break
        rows = PARTS[part](bench, DataSet.draw(bench.model, number)).assign(draw=number)
        with atomic_path(places[part, number]) as temporary:
            rows.to_parquet(temporary, index=False)
    frames = [pd.read_parquet(place) for place in places.values() if place.is_file()]
    return pd.concat(frames, ignore_index=True)


def rejections(rows: pd.DataFrame) -> pd.DataFrame:
    """Per row and plant: data sets, those in which the row is defined, those in which it rejects."""
    own = rows[rows["row"] != VERDICT]
    found = own.assign(defined=own["p"].notna(), rejected=own["p"] < ALPHA)
    by_row = found.groupby(["row", "route", "size"], sort=False)
    counts = by_row.agg({"draw": "nunique", "defined": "sum", "rejected": "sum"})
    return counts.reset_index().rename(columns={"draw": "draws"})


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
