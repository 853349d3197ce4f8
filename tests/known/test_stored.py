from __future__ import annotations

import json

import pytest

from interp.known import names
from interp.known.asked import ASKED
from interp.known.registry import program_of
from interp.known.stored import WEIGHTS, load_card


@pytest.mark.parametrize("name", [*names(), *ASKED])
def test_a_card_says_of_the_program_what_its_module_says(name: str) -> None:
    card, program = load_card(name), program_of(name)
    for field in (
        "name", "description", "source", "layout", "inputs", "answer", "positions", "backups",
        "shares",
    ):  # fmt: skip
        assert card[field] == json.loads(json.dumps(getattr(program, field))), field
    computed = [variable for node in card["nodes"] for variable in node["writes"]]
    assert len(set(computed)) == len(computed)
    assert set(card["variables"]) == {*computed, "tokens"} | set(card["variables"]) & {"indices"}
    assert set(program.positions) <= set(computed)


def test_weights_are_small_and_nothing_else_lies_there() -> None:
    files = sorted(path.name for path in WEIGHTS.iterdir())
    every, kinds = (*names(), *ASKED), ("json", "safetensors")
    assert files == sorted(f"{name}.{kind}" for name in every for kind in kinds)
    sizes = [(WEIGHTS / file).stat().st_size for file in files]
    assert sum(sizes) < 11_000 * len(every)
