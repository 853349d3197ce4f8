"""Top tokens, chosen on other items, on tables whose truth is written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.superficiality.concentration import (
    CONSTANT,
    TOP_TOKEN,
    measure_tokens,
    other_clusters,
    token_findings,
)
from tests.superficiality.test_rows import runs_of
from tests.superficiality.toy import item_pairs


def test_the_top_token_is_that_of_other_clusters_of_its_wording() -> None:
    own = np.where(np.arange(12) == 0, 9.0, 0.0)  # one pair's own top is not that of the others
    runs = runs_of(
        {"placebo": 0.0, "corrected": 4.0, "token 0": own, "token 1": 1.0, "token 2": -3.0,
         "constant": 2.0}
    )  # fmt: skip
    found = {row.name: row for row in token_findings(runs.assign(token="w"))}
    # of the other pair of its wording it is chosen too, where it brings nothing
    assert found[TOP_TOKEN].interval.estimate == pytest.approx(11 / 48)
    assert found[CONSTANT].interval.estimate == pytest.approx(1 / 2)
    table = found[TOP_TOKEN].table.set_index(["slot", "position"])
    assert table.loc[("0", 0), "mean"] == pytest.approx(4.5)
    assert table.loc[("1", 1), "chosen"] == 2
    assert "sum to" in found[TOP_TOKEN].reading


def test_every_token_is_a_run_of_its_own(tiny_model: Any) -> None:
    pair, _ = item_pairs(tiny_model)
    shifts = torch.randn(2, 5, int(tiny_model.cfg.d_model))
    constants = [shifts[own].mean(0) for own in other_clusters(["a", "b"])]
    assert torch.equal(constants[0], shifts[1])
    with pytest.raises(InterpError, match="one cluster"):
        other_clusters(["a", "a"])
    found = measure_tokens(tiny_model, [pair], constants=constants[:1])
    first, said = pair.alignment.first_difference, pair.destination.span("instruction")
    tokens = [run for run in found["run"].unique() if run.startswith("token ")]
    assert len(tokens) >= said.stop - int(first or 0)
    assert found[found["run"] == "token 0"]["token"].iloc[0].count(" for ") == 1
