"""Run the simulations and print their table; a whole run is written into ``docs/methods.md``.

``--seed``, ``--share`` and ``--only`` look at other or more samples, or at some rows, and write nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analyses.benchmarks.simulations.rows import Row, rows

DOCUMENT = Path(__file__).parents[3] / "docs" / "methods.md"
SEED = 1
"""Of the table in the document: samples on which no rule was chosen (those of seed 0 were looked at)."""
BEGIN, END = "<!-- simulations: begin -->", "<!-- simulations: end -->"


@dataclass(frozen=True)
class Result:
    """A row of the table with its share, Monte Carlo standard error and samples."""

    row: int
    share: float
    error: float
    n: int

    def within(self, band: tuple[float, float], errors: float = 2.0) -> bool:
        """Whether the share lies in the band, up to so many Monte Carlo standard errors."""
        return band[0] - errors * self.error <= self.share <= band[1] + errors * self.error


def measure(index: int, share: float = 1.0, seed: int = SEED) -> Result:
    """Simulate one row with this share of its samples."""
    row = list(rows())[index]
    events = row.run(max(20, round(share * row.n)), seed)
    return Result(
        index, float(events.mean()), float(events.std() / len(events) ** 0.5), len(events)
    )


def table(results: Iterable[Result]) -> str:
    """The results as a table in Markdown."""
    known = list(rows())
    lines = [
        "| statistic | sample | measure | band | simulated | +- | samples | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines.append(_line(known[result.row], result))
    return "\n".join(lines)


def _line(row: Row, result: Result) -> str:
    band = f"{row.band[0]:.2f} to {row.band[1]:.2f}"
    verdict = (
        ""
        if result.within(row.band, 0)
        else "at the edge"
        if result.within(row.band)
        else "**outside**"
    )
    return (
        f"| `{row.statistic}` | {row.sample} | {row.measure} | {band} | {result.share:.3f} "
        f"| {result.error:.3f} | {result.n} | {verdict} |"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m analyses.benchmarks.simulations")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--share", type=float, default=1.0, help="share of the samples")
    parser.add_argument("--only", default="", help="rows whose statistic or sample contains this")
    parser.add_argument("--seed", type=int, default=SEED, help="other samples of the same laws")
    options = parser.parse_args()
    chosen = [
        k for k, row in enumerate(rows()) if options.only in f"{row.statistic} | {row.sample}"
    ]
    of = partial(measure, share=options.share, seed=options.seed)
    start, results = time.monotonic(), []
    with ProcessPoolExecutor(options.jobs) as pool:
        for result in pool.map(of, chosen):
            results.append(result)
            print(_line(list(rows())[result.row], result), flush=True)
    missed = sum(not result.within(list(rows())[result.row].band) for result in results)
    print(f"{len(results)} rows in {time.monotonic() - start:.0f} s; outside their band: {missed}")
    if (options.share, options.only, options.seed) == (1.0, "", SEED):
        text = DOCUMENT.read_text()
        head, rest = text.split(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
