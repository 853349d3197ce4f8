"""A suite of scorecards as a command: the models of one program or arm after the other.

The rows of each are written when its last model is done, those of others in the file are kept: a suite
that was cut short goes on with ``--names``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from analyses.benchmarks.known.measure import KEPT
from interp.known.trained import N_SEEDS
from interp.runs.atomic import atomic_path


def run_suite(
    description: str,
    file: str,
    names: Sequence[str],
    rows_of: Callable[[str, Sequence[int]], pd.DataFrame],
    arguments: Sequence[str] | None,
) -> pd.DataFrame:
    """Compute what the command line asks for; all rows of the file.

    Args:
        description: of the command.
        file: the rows' name.
        names: of all programs and arms, in the order of the rows.
        rows_of: the rows of one of them, of the models of some seeds.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--names", nargs="*", default=names, help="all by default")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="models of each")
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    asked.into.mkdir(parents=True, exist_ok=True)
    for name in tqdm(asked.names, desc=description):
        write_rows(asked.into / file, rows_of(name, range(asked.seeds)), names)
    return pd.read_parquet(asked.into / file)


def write_rows(path: Path, rows: pd.DataFrame, order: Sequence[str]) -> None:
    """Put rows of some arms in the place of those that the file has of them."""
    if path.is_file():
        kept = pd.read_parquet(path)
        rows = pd.concat([kept[~kept["arm"].isin(rows["arm"])], rows])
    place = rows["arm"].map({name: k for k, name in enumerate(order)})
    rows = rows.assign(place=place).sort_values("place", kind="stable").drop(columns="place")
    with atomic_path(path) as temporary:
        rows.to_parquet(temporary, index=False)


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Truths down, verdicts across, numbers of cards."""
    own = rows[rows["truth"] != ""]
    return pd.crosstab(own["truth"], own["verdict"])
