from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.data import load_items
from interp.prompts import TextBank
from interp.superficiality.rank import RANKS_OF, measure_ranks, rank_finding


def ranks_of(gains: dict[int, float]) -> pd.DataFrame:
    """Twelve items, ranks in turn; the instruction is worth what their rank says."""
    rows = []
    for k in range(12):
        rank = list(gains)[k % len(gains)]
        own = (f"i{k:02}", f"c{k // 2}")
        rows.append((*own, "clean", "", 0, 0, rank, 0.0, rank == 1))
        for order in (1, 2):
            rows.append((*own, "placebo", "instructed", k % 6, order, 2, 1.0 + k, False))
            rows.append((*own, "instructed", "", k % 6, order, 2, 1.0 + k + gains[rank], True))
    return pd.DataFrame(rows, columns=list(RANKS_OF))


def test_the_gain_at_the_top_is_compared_with_the_rest() -> None:
    found = rank_finding(ranks_of({1: 0.5, 2: 0.1, 3: 0.3}))
    assert found.interval.estimate == pytest.approx(0.5 - 0.2)
    gains = found.table[found.table["measure"] == "gain"].set_index("rank")["estimate"]
    assert gains.to_dict() == pytest.approx({"1": 0.5, "2": 0.1, "3": 0.3, "top - rest": 0.3})
    assert found.n == 12
    none = rank_finding(ranks_of({1: 0.5}))
    assert np.isnan(none.interval.estimate)
    assert "rank 1 and at others" in none.why_not


def test_ranks_are_read_in_the_first_order_and_gains_in_the_others(tiny_model: Any) -> None:
    item = load_items("bundled", limit=1, seed=0)[0]
    bank = TextBank(tiny_model.tokenizer, require_match=0)
    texts = bank.texts("instructed", item, 1)
    found = measure_ranks(tiny_model, item, texts[0], bank.placebos(texts)[0])
    by_order = found.groupby("order")["condition"].apply(list).to_dict()
    assert by_order == {0: ["clean"], 1: ["instructed", "placebo"], 2: ["instructed", "placebo"]}
