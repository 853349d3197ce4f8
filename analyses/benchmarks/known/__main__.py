"""``python -m analyses.benchmarks.known``: see :mod:`analyses.benchmarks.known`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.benchmarks.known.measure import DIRECTIONS, KEPT, mean_over_programs, measure
from analyses.benchmarks.known.trained import DIRECTIONS as TRAINED_DIRECTIONS
from analyses.benchmarks.known.trained import FIDELITY, measure_trained
from interp.known import names, trained_names
from interp.known.trained import N_SEEDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print all tables, and write the rows."""
    parser = argparse.ArgumentParser(description="methods on models of known truth")
    parser.add_argument("--programs", nargs="*", default=names(), help="all by default")
    parser.add_argument("--arms", nargs="*", default=trained_names(), help="all by default")
    parser.add_argument("--arm-pairs", type=int, default=8, help="of prompts, per trained model")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="models of each arm")
    parser.add_argument("--pairs", type=int, default=20, help="of inputs, per program")
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    asked.into.mkdir(parents=True, exist_ok=True)
    trained = measure_trained(asked.arms, seeds=asked.seeds, n_pairs=asked.arm_pairs)
    for name, rows in trained.items():
        rows.to_parquet(asked.into / name, index=False)
        by = ["localised", "valid"] if name == TRAINED_DIRECTIONS else ["arm"]
        by += [] if name == FIDELITY else ["method"]
        numbers = rows.drop(columns=["seed"]).select_dtypes("number").columns
        if len(rows):
            print(rows.groupby(by, sort=False)[list(numbers)].mean().round(3).to_string())
    for name, rows in measure(asked.programs, n_pairs=asked.pairs).items():
        rows.to_parquet(asked.into / name, index=False)
        columns = ["cosine", "agreement"] if name == DIRECTIONS else ["auroc", "found"]
        print(mean_over_programs(rows, columns).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
