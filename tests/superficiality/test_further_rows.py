"""Checks of the rows behind the route, on tables whose truth is written down."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.superficiality.concentration import CONSTANT, TOP_TOKEN
from interp.superficiality.further_rows import NOT_ASKED, further_findings, with_health
from interp.superficiality.manifold import MANIFOLD
from interp.superficiality.polarity import POLARITY, VOCABULARY
from interp.superficiality.rank import RANK
from interp.superficiality.residue import REINJECTED
from interp.superficiality.rows import CONTENT_IN, content_findings
from tests.superficiality.test_polarity import sides
from tests.superficiality.test_rows import readings, runs_of

TOKENS = {"placebo": 0.0, "corrected": 4.0, "token 0": 1.0, "token 1": 3.0, "constant": 2.0}
SIGNS = {"placebo": 0.0, "corrected": 4.0, "plus": 3.0, "minus": 5.0,
         "null plus": 4.0, "null minus": 4.0}  # fmt: skip


def rows_with(token: float, negated: float) -> dict[str, Any]:
    """Of a model, and of an untrained copy in which a token and a negated instruction do so much."""
    tables = {
        "tokens": runs_of(TOKENS).assign(token="w"),
        "reinjection": runs_of(SIGNS),
        "polarity": sides({"negated": -4.0, "vocabulary": 0.1}),
        "untrained_tokens": runs_of(
            {"placebo": 0.0, "corrected": 0.0, "token 0": 9.0, "token 1": token, "constant": 0.0}
        ).assign(token="w"),
        "untrained_reinjection": runs_of(SIGNS | {"plus": 3.99, "minus": 4.01}),
        "untrained_polarity": sides({"negated": negated, "vocabulary": 0.0}),
    }
    return {row.name: row for row in further_findings(readings(4.0), tables)}


def test_a_row_that_the_untrained_copy_has_too_is_shown_and_not_read() -> None:
    """The token is the one chosen in the model itself: token 0 moves the copy, and is not it."""
    null = rows_with(0.01, 0.01)
    for name in (TOP_TOKEN, CONSTANT, POLARITY, VOCABULARY, REINJECTED):
        assert null[name].is_read, name
        assert "untrained copy" in null[name].checks
    moved = rows_with(1.0, -1.0)
    assert {name for name, row in moved.items() if not row.is_read} == {TOP_TOKEN, POLARITY}
    assert "untrained copy is moved by 1 nats" in moved[TOP_TOKEN].why_not


def test_rows_that_are_not_asked_of_it_say_why() -> None:
    tables = {"tokens": runs_of(TOKENS).assign(token="w")}
    (alone, _) = further_findings(readings(4.0), tables)
    assert "untrained" not in alone.checks
    assert "behaviour alone" in NOT_ASKED[RANK]


def test_content_states_that_hardly_ever_occur_are_shown_and_not_read() -> None:
    runs = runs_of({"placebo": 0.0, "corrected": 4.0, "content": 3.0, "instruction": 1.0})
    states = pd.DataFrame(
        [("i", "c", "0", state, 9, 1.0, 1.0, far, 0.0) for state, far in
         (("placebo", 0.0), ("patched", 0.9), ("matched", 0.0))],
        columns=list(MANIFOLD),
    )  # fmt: skip
    found = {row.name: row for row in with_health(content_findings(runs), {"manifold": states})}
    unread = [name for name, row in found.items() if not row.is_read]
    assert unread == [CONTENT_IN]
    assert found[CONTENT_IN].health[-1].value == pytest.approx(0.9)
