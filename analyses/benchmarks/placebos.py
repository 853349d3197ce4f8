"""The two kinds of placebo on the default model: ``python -m analyses.benchmarks.placebos``.

The control of an instruction should be of its speech act: a *request about the reply*. How much that
matters is measured by asking the same ambiguous BBQ items with moral wordings, with requests and with
statements of equal token counts, all drawn at random: instructed - requests, instructed - statements,
requests - statements, in nats, with intervals over wordings and clusters of items. The wordings that
papers report are a row of their own.

Rows are one number per item and wording, all wordings of an item in one cyclic order of its options,
items in the three orders in turn; they are committed in :data:`ROWS`, and ``--make`` computes them
anew (about five minutes on one core).

    python -m analyses.benchmarks.placebos            # prints the table of the committed rows
    python -m analyses.benchmarks.placebos --make     # computes them first
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour import score_variants
from interp.data import ChoiceItem, load_items
from interp.models import DEFAULT_MODEL, load_model
from interp.prompts import Condition, TextBank
from interp.stats import FloatArray, Interval, effect

ROWS = Path(__file__).parents[2] / "docs" / "rows" / "placebo-kinds" / "rows.parquet"
"""The committed rows of the default model."""

N_ITEMS, N_TEXTS, SEED = 24, 12, 0
METRICS = ("option_margin", "margin")
CONTRASTS = (
    ("instructed", "placebo"),
    ("instructed", "statement"),
    ("placebo", "statement"),
    ("reported", "placebo"),
    ("reported", "statement"),
)
"""Treated and control; ``placebo`` are the requests."""

KEYS = ["item", "cluster", "condition", "text_id", "source", "n_tokens"]


def main() -> None:
    """Print the table, after computing the rows where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--make", action="store_true", help="compute the rows and save them")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where the rows are kept")
    arguments = parser.parse_args()
    if arguments.make:
        model = load_model(arguments.model)
        rows = placebo_rows(model, ambiguous_items(N_ITEMS), n_texts=N_TEXTS)
        arguments.rows.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(arguments.rows, index=False)
    rows = pd.read_parquet(arguments.rows)
    print(placebo_effects(rows).to_string(index=False, float_format="{:.3f}".format))


def ambiguous_items(limit: int, *, seed: int = SEED) -> list[ChoiceItem]:
    """Ambiguous BBQ items of all categories, one a cluster."""
    of_cluster: dict[str, ChoiceItem] = {}
    for item in load_items("bbq", limit=6 * limit, seed=seed):
        if item.context_condition == "ambiguous":
            of_cluster.setdefault(item.cluster, item)
    return list(of_cluster.values())[:limit]


def drawn_texts(bank: TextBank, item: ChoiceItem, n_texts: int) -> list[Condition]:
    """Moral wordings, requests and statements matched with them, and the reported wordings."""
    moral = bank.texts("instructed", item, n_texts)
    return [
        *moral,
        *bank.placebos(moral),
        *bank.placebos(moral, kind="statement"),
        *bank.texts("reported", item, bank.n_texts("reported")),
    ]


def placebo_rows(
    model: TransformerBridge, items: Sequence[ChoiceItem], *, n_texts: int, seed: int = SEED
) -> pd.DataFrame:
    """One row per item and wording: ``option_margin`` and ``margin`` in nats, + is the abstention."""
    bank = TextBank(model.tokenizer, seed=seed)
    frames = []
    for number, item in enumerate(tqdm(items, desc="scoring items")):
        texts = drawn_texts(bank, item, n_texts)
        facts = pd.DataFrame(
            {
                "condition": [text.name for text in texts],
                "text_id": [text.text_id for text in texts],
                "source": [text.source for text in texts],
                "n_tokens": [bank.count(text.text or "") for text in texts],
            }
        )
        scores = score_variants(model, item, texts, orders=[number % len(item.choices)])
        scores = scores[["condition", "text_id", *METRICS]]
        own = facts.merge(scores, on=["condition", "text_id"], validate="one_to_one")
        frames.append(own.assign(item=item.id, cluster=item.cluster))
    return pd.concat(frames, ignore_index=True)[[*KEYS, *METRICS]]


def placebo_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Every contrast of :data:`CONTRASTS` in both metrics: estimate, interval and p, in nats."""
    return pd.DataFrame(
        {
            "metric": metric,
            "contrast": f"{treated} - {control}",
            "estimate": found.estimate,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "n_items": found.n,
            "n_texts": " x ".join(map(str, found.texts or ())),
            "token_mismatch": _mismatch(rows, treated, control),
        }
        for metric in METRICS
        for treated, control in CONTRASTS
        for found in [placebo_effect(rows, treated, control, metric=metric)]
    )


def placebo_effect(
    rows: pd.DataFrame, treated: str, control: str, *, metric: str = "option_margin"
) -> Interval:
    """Mean of one kind of wording minus that of another, over wordings and clusters of items."""
    clusters = rows.drop_duplicates("item").sort_values("item")["cluster"].tolist()
    return effect(_arm(rows, treated, metric), _arm(rows, control, metric), clusters)


def _arm(rows: pd.DataFrame, condition: str, metric: str) -> FloatArray:
    """``[texts, items]``."""
    here = rows[rows["condition"] == condition]
    return here.pivot(index="text_id", columns="item", values=metric).to_numpy(dtype=np.float64)


def _mismatch(rows: pd.DataFrame, treated: str, control: str) -> float:
    """Difference of the mean token counts."""
    counts = rows.groupby("condition")["n_tokens"].mean()
    return float(counts[treated] - counts[control])


if __name__ == "__main__":
    main()
