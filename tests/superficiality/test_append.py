from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.data import load_items
from interp.prompts import TextBank
from interp.superficiality.append import EDITS, append_finding, measure_edits


def test_what_is_kept_is_compared_with_what_another_placebo_keeps() -> None:
    rows = [
        (f"i{k}", f"c{k}", str(k % 2), against, 0.1, kept, 0.3, 10, 12, "edited", "a", "b")
        for k in range(6)
        for against, kept in (("instruction", 0.4), ("placebo", 0.9 + 0.01 * k))
    ]
    found = append_finding(pd.DataFrame(rows, columns=list(EDITS)))
    assert found.interval.estimate == pytest.approx(0.4 - 0.925)
    assert "keeps 40 % (another placebo 93 %)" in found.reading
    assert len(found.table) == 9


def test_replies_are_generated_and_compared(tiny_model: Any) -> None:
    item = load_items("bundled", limit=1, seed=0)[0]
    bank = TextBank(tiny_model.tokenizer, require_match=0)
    (text,) = bank.texts("instructed", item, 1)
    first, other = bank.placebos([text] * 2)
    found = measure_edits(tiny_model, item, text, [first, other], max_new_tokens=4)
    assert found["against"].tolist() == ["instruction", "placebo"]
    assert (found["n_before"] <= 4).all()
    same = measure_edits(tiny_model, item, first, [first, first], max_new_tokens=4)
    assert same["kept_prefix"].tolist() == [1, 1]
    assert same["appended"].tolist() == [0, 0]
