from __future__ import annotations

from typing import Any

import pytest

from interp import superficiality
from interp.data import load_items
from interp.errors import InterpError
from interp.superficiality.groups import require_further

ITEMS = load_items("bundled", limit=3, seed=0)


@pytest.mark.slow
def test_every_group_gives_its_rows(tiny_model: Any) -> None:
    asked: dict[str, Any] = {
        "texts": 1, "causal_items": 3, "untrained_items": 0, "further_items": 2, "progress": False,
    }  # fmt: skip
    card = superficiality(tiny_model, ITEMS, **asked)
    assert [row.name for row in card][9:] == [
        "top token", "constant vector everywhere", "top heads", "polarity",
        "vocabulary without a request", "shared shift", "residue of the old answer",
        "re-injected answer", "self-distinguish", "append or edit", "rank",
    ]  # fmt: skip
    assert "ablation values" in card["edges content -> instruction"].checks


def test_a_group_that_there_is_not_is_named() -> None:
    with pytest.raises(InterpError, match="no group of rows 'ranks'"):
        require_further(("health", "ranks"))
