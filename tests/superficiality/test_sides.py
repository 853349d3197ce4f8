from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.errors import InterpError
from interp.patching.metrics import METRICS
from interp.prompts import make_pair
from interp.superficiality.sides import metrics_of, residual_states, sides_of
from tests.superficiality.toy import CONTENT, item_pairs, toy_pairs


def test_every_row_from_the_first_difference_on_belongs_to_one_part(tiny_model: Any) -> None:
    (pair,) = item_pairs(tiny_model, 1)
    sides = sides_of(pair, metrics_of(pair))
    rows = torch.cat([sides.instruction, sides.content, sides.rest]).sort().values
    first = pair.alignment.first_difference
    assert first is not None
    assert rows.tolist() == list(range(first, len(sides.placebo)))
    assert len(sides.placebo) > len(pair.destination)  # the options' own rows are of the rest
    assert sides.behind[0] == pair.destination.span("instruction").stop
    assert sides.behind[-1] == len(sides.placebo) - 1
    where = pair.destination.span("context")
    assert sides.spans["context"].tolist() == list(range(where.start, where.stop))


def test_states_of_a_reading_are_those_of_the_model_for_prompt_and_options(tiny_model: Any) -> None:
    (pair,) = item_pairs(tiny_model, 1)
    sides = sides_of(pair, metrics_of(pair))
    states = residual_states(tiny_model, sides.corrected)
    for forward in sides.corrected.forwards:
        with torch.no_grad():
            _, cache = tiny_model.run_with_cache(forward.ids[None])
        for layer in range(tiny_model.cfg.n_layers):
            expected = cache[f"blocks.{layer}.hook_resid_pre"][0]
            assert torch.allclose(states[layer, forward.rows], expected, atol=1e-5)
        last = cache[f"blocks.{tiny_model.cfg.n_layers - 1}.hook_resid_post"][0]
        assert torch.allclose(states[-1, forward.rows], last, atol=1e-5)


def test_content_before_the_instruction_is_refused_with_the_remedy(tiny_model: Any) -> None:
    (pair,) = item_pairs(tiny_model, 1, placement="after")
    with pytest.raises(InterpError, match="placement='before'"):
        sides_of(pair, metrics_of(pair))


def test_pairs_that_cannot_be_taken_apart_are_refused() -> None:
    model, task, pairs, _ = toy_pairs("deep", n=1)
    metrics = {"margin": METRICS["margin"]}
    with pytest.raises(InterpError, match="none of the content spans"):
        sides_of(pairs[0], metrics)
    ids = pairs[0].source.ids
    same = make_pair(model, ids, ids, target=task.target, spans=task.spans)
    with pytest.raises(InterpError, match="both prompts are the same"):
        sides_of(same, metrics, content=CONTENT)
    bare = make_pair(model, ids, pairs[0].destination.ids, target=task.target)
    with pytest.raises(InterpError, match="no span 'instruction'"):
        sides_of(bare, metrics, content=CONTENT)
    with pytest.raises(InterpError, match="neither options nor a margin"):
        metrics_of(make_pair(model, ids, pairs[0].destination.ids))
