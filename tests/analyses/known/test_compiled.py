from __future__ import annotations

import json

import pytest
import torch

from interp.known import names
from interp.known.asked import ASKED
from interp.known.registry import program_of
from interp.known.stored import load_card, load_weights

pytest.importorskip("tracr")  # the extra "known"; the stored models need it not


@pytest.mark.slow
@pytest.mark.parametrize("name", [*names(), *ASKED])
def test_compiling_again_gives_what_is_stored(name: str) -> None:
    from analyses.known.compiled import compile_program

    compiled = compile_program(program_of(name))
    assert json.loads(json.dumps(compiled.card)) == load_card(name)
    shapes = {key: torch.Size(weight.shape) for key, weight in compiled.weights.items()}
    for key, weight in load_weights(name, shapes).items():
        assert torch.equal(weight.float(), torch.tensor(compiled.weights[key]).float()), key
