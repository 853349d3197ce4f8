from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.data import load_items
from interp.directions.baselines import grouped_auc
from interp.errors import InterpError
from interp.known.arms import attribute
from interp.known.task import CONTENT, CONTENTS, NOTES, OTHERS
from interp.superficiality.instrument import (
    OBSERVED,
    Statement,
    instrument_check,
    instrument_finding,
    measure_instrument,
    statements_of,
)
from tests.superficiality.toy import toy_direction, toy_pairs


def toy_statements(task: Any, n: int = 8) -> list[Statement]:
    """Contents that differ in their first attribute alone, judged."""
    yes, no = task.target
    return [
        Statement(
            task.ids((NOTES[k % 6], CONTENTS[2 * k + up], OTHERS[k % 4], "judge1")),
            CONTENT,
            attribute(CONTENTS[2 * k + up]) > 0,
            f"item{k}",
            f"item{k}",
            f"category{k % 4}",
            "neg",
            (yes, no),
        )
        for k in range(n)
        for up in (0, 1)
    ]


@pytest.mark.parametrize(("arm", "valid"), [("deep", True), ("wrong_direction", False)])
def test_a_direction_of_what_judges_read_is_an_instrument_and_another_is_not(
    arm: str, valid: bool
) -> None:
    """``wrong_direction``: its sentences are labelled by an attribute that no judge reads."""
    model, task, _, _ = toy_pairs(arm, n=1)
    v = toy_direction(model, task)
    torch.manual_seed(0)
    nulls = torch.nn.functional.normalize(torch.randn(6, v.vectors.shape[-1]), dim=-1)
    found = measure_instrument(
        model,
        toy_statements(task),
        v,
        contrasts={f"random {k}": one for k, one in enumerate(nulls)},
        n_nulls=0,
        exchanged=4,
    )
    assert tuple(found.columns) == OBSERVED
    moved = found[found["kind"] == "moved"].groupby("name")["value"].mean()
    judged = found[found["kind"] == "judgement"].groupby("fair")["value"].mean()
    row = instrument_finding(found)
    assert row.is_read == valid
    assert instrument_check(row).passed == valid
    if valid:
        # from the statement on, the coordinate is all that the judgement follows
        assert moved["direction"] == pytest.approx(judged[True] - judged[False], rel=0.15)
    else:
        assert "AUC" in row.why_not
    fair = [one for one in toy_statements(task) if one.fair]
    with pytest.raises(InterpError, match="both kinds"):
        measure_instrument(model, fair, v)


def observed(gap: float, moved: float) -> pd.DataFrame:
    """Twelve items: fair statements lie ``gap`` higher; the exchange moves judgements by ``moved``."""
    generator = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    for k in range(24):
        unit = (f"i{k}", f"c{k // 2}", f"k{k % 3}", "neg")
        for fair in (False, True):
            value = gap * fair + generator.normal()
            rows += [(*unit, fair, kind, "direction", value) for kind in ("projection", "trained")]
        names = {"direction": moved} | {f"null {j}": 0.05 * j for j in range(20)}
        rows += [(*unit, False, "moved", name, value) for name, value in names.items()]
    return pd.DataFrame(rows, columns=list(OBSERVED))


def test_both_checks_have_their_bounds() -> None:
    table = observed(3.0, 2.0)
    good = instrument_finding(table)
    assert good.is_read
    own = table[table["kind"] == "projection"]
    expected = grouped_auc(own["value"].to_numpy(), own["fair"].to_numpy(), own["cluster"].tolist())
    assert good.interval.estimate == expected.estimate
    assert good.table["beyond"].iloc[0] == 1
    assert "takes 0.70" in instrument_finding(observed(0.1, 2.0)).why_not
    assert "null directions" in instrument_finding(observed(3.0, 0.5)).why_not
    assert not instrument_finding(observed(3.0, -2.0)).is_read  # away from fair
    assert instrument_check(instrument_finding(observed(0.1, 2.0))).says == "instrument not valid"


def test_statements_state_both_answers_in_both_polarities(tiny_model: Any) -> None:
    items = [one for one in load_items("bundled") if one.cluster == "age-ticket_machine"]
    ambiguous = [one for one in items if one.context_condition == "ambiguous"]
    found = statements_of(tiny_model, ambiguous)
    assert len(found) == 2 * len(ambiguous)
    tokens = tiny_model.tokenizer.convert_ids_to_tokens
    for polarity in ("neg", "nonneg"):
        own = [one for one in found if one.polarity == polarity]
        assert sum(one.fair for one in own) * 2 == len(own)
    for biased, fair in zip(found[::2], found[1::2], strict=True):
        assert (biased.fair, fair.fair) == (False, True)
        assert biased.target == fair.target
        for one in (biased, fair):
            assert "." in tokens(int(one.ids[one.stated]))
        tails = [one.ids[one.stated :].tolist() for one in (biased, fair)]
        assert tails[0] == tails[1]
    one_polarity = [one for one in ambiguous if one.meta["polarity"] == "neg"]
    with pytest.raises(InterpError, match="both polarities"):
        statements_of(tiny_model, one_polarity)
