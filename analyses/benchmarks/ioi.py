"""Indirect-object pairs: the faithfulness curve of a model's own circuit beside random ones.

``python -m analyses.benchmarks.ioi`` scores the nodes of the 0.5B model on half of the names, runs
circuits on the other half, prints the curve, and writes the rows that the notebook shows.

Prompts after Wang et al. 2022 (arXiv 2211.00593): "When Mary and John went to the park, John gave a book
to" should go on with Mary. The placebo has three other names, so that nothing is to be told apart. The
margin is that of the indirect object over the subject; names are single tokens.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits import (
    CircuitRuns,
    FaithfulnessCurve,
    RandomCircuits,
    faithfulness_curve,
    node_scores,
    random_circuits,
    top_units,
)
from interp.errors import InterpError
from interp.models import load_model
from interp.prompts import PromptPair, make_pair
from interp.stats import rng

KEPT = Path(__file__).parents[2] / "docs" / "rows" / "ioi"

MODEL = "qwen2.5-coder-0.5b-instruct"

SIZES = (0, 4, 9, 18, 36, 72, 180, 360)
"""Circuits of the 360 nodes of the 0.5B model: MIB's shares but for the smallest."""

NAMES = (
    "Mary", "John", "Tom", "Anna", "James", "Sarah", "Paul", "Laura", "Mark", "Emma", "Peter", "Alice",
    "David", "Lisa", "Kevin", "Julia", "Robert", "Karen", "Daniel", "Rachel",
)  # fmt: skip

TEMPLATES = (
    "When {0} and {1} went to the {place}, {2} gave a {thing} to",
    "Then {0} and {1} had a long talk at the {place}, and {2} handed a {thing} to",
    "After {0} and {1} met at the {place}, {2} lent a {thing} to",
    "While {0} and {1} were working at the {place}, {2} passed a {thing} to",
)

PLACES = ("park", "school", "office", "store", "station", "garden")

THINGS = ("book", "drink", "letter", "ring", "ticket", "basket")


def ioi_pairs(model: TransformerBridge, n: int, *, seed: int = 0) -> list[PromptPair]:
    """``n`` pairs; every name in both orders, templates, places and things in turn.

    Raises:
        InterpError: fewer than five names are single tokens of this model.
    """
    generator = rng(seed, "indirect objects")
    known = [name for name in NAMES if len(_ids(model, f" {name}")) == 1]
    if len(known) < 5:
        raise InterpError(
            "fewer than five of the names are single tokens of this model's tokenizer"
        )
    pairs = []
    for k in range(n):
        io, subject, *others = generator.permutation(known)[:5]
        words = {"place": PLACES[k % len(PLACES)], "thing": THINGS[(k // 2) % len(THINGS)]}
        template = TEMPLATES[k % len(TEMPLATES)]
        both = (io, subject) if (k // len(TEMPLATES)) % 2 else (subject, io)
        texts = (template.format(*both, subject, **words), template.format(*others, **words))
        source, destination = (torch.tensor(_ids(model, text)) for text in texts)
        target = _ids(model, f" {io}")[0], _ids(model, f" {subject}")[0]
        pairs.append(make_pair(model, source, destination, target=target))
    return pairs


def measure(
    model: TransformerBridge, *, n_pairs: int, draws: int, sizes: Sequence[int] = SIZES
) -> tuple[pd.DataFrame, FaithfulnessCurve, RandomCircuits]:
    """Scores of nodes on half of the pairs; the curve of these and of random circuits on the other."""
    pairs = ioi_pairs(model, n_pairs)
    first, second = pairs[: n_pairs // 2], pairs[n_pairs // 2 :]
    scores = node_scores(model, first)
    curve = faithfulness_curve(model, second, scores, sizes=sizes)
    return scores, curve, random_circuits(model, second, sizes=sizes, draws=draws)


def save(
    folder: Path, scores: pd.DataFrame, curve: FaithfulnessCurve, random: RandomCircuits
) -> None:
    """The scores; the metric of every size on every pair, of both ends too; the random curves."""
    runs = curve.runs
    folder.mkdir(parents=True, exist_ok=True)
    names = [*map(str, curve.sizes), "full", "empty"]
    values = np.vstack([runs.values, runs.full, runs.empty])
    tables = {
        "scores": scores,
        "runs": pd.DataFrame(values.T, columns=names).assign(pair=list(runs.pair_labels)),
        "random": pd.DataFrame(random.faithfulness, columns=list(map(str, random.sizes))),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


def load(folder: str | Path = KEPT) -> tuple[pd.DataFrame, FaithfulnessCurve, RandomCircuits]:
    """What :func:`save` wrote, as :func:`measure` gave it."""
    scores, runs, random = (
        pd.read_parquet(Path(folder) / f"{name}.parquet") for name in ("scores", "runs", "random")
    )
    sizes, pairs = tuple(map(int, random.columns)), tuple(runs["pair"])
    found = CircuitRuns(
        values=runs[list(random.columns)].to_numpy(float).T,
        full=runs["full"].to_numpy(float),
        empty=runs["empty"].to_numpy(float),
        pair_labels=pairs,
        clusters=tuple(str(k) for k in range(len(pairs))),
        wordings=("",) * len(pairs),
    )
    curve = FaithfulnessCurve(top_units(scores, len(scores)), sizes, found)
    return scores, curve, RandomCircuits(sizes, len(scores), random.to_numpy(float))


def _ids(model: TransformerBridge, text: str) -> list[int]:
    assert model.tokenizer is not None
    ids: list[int] = model.tokenizer.encode(text, add_special_tokens=False)
    return ids


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the curve, and write the rows."""
    parser = argparse.ArgumentParser(prog="python -m analyses.benchmarks.ioi", description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--pairs", type=int, default=24, help="half of them to score nodes on")
    parser.add_argument("--draws", type=int, default=6, help="random circuits of each size")
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    scores, curve, random = measure(load_model(asked.model), n_pairs=asked.pairs, draws=asked.draws)
    save(asked.into, scores, curve, random)
    print(curve.to_dataframe().round(3).to_string(index=False))
    for name, found, by_chance in (
        ("CPR", curve.cpr_interval(), random.cpr()),
        ("CMD", curve.cmd_interval(), random.cmd()),
    ):
        print(f"{name}: {found}; random circuits {by_chance}")


if __name__ == "__main__":
    main()
