"""Outcomes under an intervention: against oracles, with a planted direction, leaving nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.behaviour import Outcomes, ScoringPlan, score_item
from interp.behaviour.outcomes import kept_share
from interp.data import load_items, load_texts
from interp.data.bundle import bundled_completions
from interp.directions.steering import add_vector
from interp.errors import InterpError
from interp.prompts import TextBank, sentence_ids

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests


def make_outcomes(model: Any, limit: int = 2) -> Outcomes:
    return Outcomes(
        model,
        load_items("bundled", limit=limit, seed=0),
        sentences=load_texts("bundled:morality")[:8],
        plain=load_texts("bundled:contrasts")[:4],
        completions=bundled_completions()[:2],
    )


def random_step(model: Any, length: float = 3.0) -> torch.Tensor:
    step = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(3))
    return length * step / step.norm()


def values(rows: pd.DataFrame, outcome: str) -> pd.Series:
    return rows[rows["outcome"] == outcome].set_index("item")["value"]


@torch.no_grad()
def total_by_hand(model: Any, ids: torch.Tensor, start: int = 1) -> float:
    log_probs = model(ids[None])[0].double().log_softmax(-1)
    return float(sum(log_probs[k - 1, ids[k]] for k in range(start, len(ids))))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_every_outcome_equals_its_oracle_under_a_step(load_tiny: Any, architecture: str) -> None:
    model = load_tiny(architecture)
    outcomes = make_outcomes(model)
    step = random_step(model)
    rows = outcomes.measure(add_vector(model, "resid_post", 1, step), generate=True)
    items = load_items("bundled", limit=2, seed=0)
    sentences, plain = load_texts("bundled:morality")[:8], load_texts("bundled:contrasts")[:4]
    bank, plan = TextBank(model.tokenizer), ScoringPlan(conditions=("clean",))
    with add_vector(model, "resid_post", 1, step):
        margins = [score_item(model, bank, item, plan)["margin"].mean() for item in items]
        totals = [total_by_hand(model, ids) for ids in sentence_ids(model, sentences)]
        nlls = [-total_by_hand(model, i) / (len(i) - 1) for i in sentence_ids(model, plain)]
    np.testing.assert_allclose(values(rows, "margin"), margins, rtol=1e-3, atol=1e-3)
    quadruples = np.array(totals).reshape(2, 4) @ [0.5, -0.5, 0.5, -0.5]  # labels 1, 0, 1, 0
    np.testing.assert_allclose(values(rows, "preference"), quadruples, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(values(rows, "nll"), nlls, rtol=1e-4, atol=1e-4)
    for name, share in values(rows, "kept").items():
        prompt = next(p for p in outcomes._continuations if p.label == name)
        start = prompt.spans["generated"].start
        with add_vector(model, "resid_post", 1, step), torch.no_grad():
            first = model(prompt.ids[None])[0].argmax(-1)[start - 1 : -1]
        assert share == pytest.approx(float((first == prompt.ids[start:]).double().mean()))


def test_continuations_are_judged_by_the_model_as_it_is(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    step = random_step(tiny_model, 8.0)
    rows = outcomes.measure(add_vector(tiny_model, "resid_post", 1, step), generate=True)
    with add_vector(tiny_model, "resid_post", 1, step):
        again = [outcomes._complete(prompt) for prompt in outcomes._beginnings]
    for begun, old, new in zip(outcomes._beginnings, outcomes._continuations, again, strict=True):
        n = len(begun)
        assert values(rows, "overlap")[begun.label] == pytest.approx(
            kept_share(old.ids[n:].tolist(), new.ids[n:].tolist())
        )
        expected = total_by_hand(tiny_model, new.ids, n) / (len(new) - n)
        assert values(rows, "fluency")[begun.label] == pytest.approx(expected, rel=1e-3)
    assert (values(rows, "overlap") < 1).any()


def test_kept_share_counts_tokens_in_order() -> None:
    assert kept_share([1, 2, 3, 4], [2, 3, 9]) == 0.5
    assert kept_share([1, 2], [1, 2]) == 1.0
    assert kept_share([1, 2], []) == 0.0


def test_a_step_of_length_zero_changes_nothing_at_all(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    before = outcomes.measure(generate=True)
    nothing = torch.zeros(tiny_model.cfg.d_model)
    after = outcomes.measure(add_vector(tiny_model, "resid_post", 1, nothing), generate=True)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert (values(before, "kept") == 1).all()
    assert (values(before, "overlap") == 1).all()


def test_nothing_is_left_behind(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    before = outcomes.measure()
    outcomes.measure(add_vector(tiny_model, "resid_post", 1, random_step(tiny_model)))
    pd.testing.assert_frame_equal(before, outcomes.measure(), check_exact=True)


def test_a_planted_direction_moves_the_margin_as_known(tiny_model: Any) -> None:
    """Along W_U[a] - W_U[b] after the last layer: final norm and unembedding by hand."""
    outcomes = make_outcomes(tiny_model, limit=1)
    (of_item,) = outcomes._of_items
    assert len(set(of_item.tokens)) == 1
    a, b = of_item.tokens[0]
    last = tiny_model.cfg.n_layers - 1
    weights = tiny_model.original_model.lm_head.weight.detach()
    planted = (weights[a] - weights[b]) / (weights[a] - weights[b]).norm()
    norm = tiny_model.original_model.model.norm
    margins = []
    for strength in (-20.0, -5.0, 0.0, 5.0, 20.0):
        rows = outcomes.measure(add_vector(tiny_model, "resid_post", last, strength * planted))
        margins.append(float(values(rows, "margin").iloc[0]))
        by_hand = []
        for ids in of_item.prompts:
            with torch.no_grad():
                _, cache = tiny_model.run_with_cache(ids[None])
                h = cache[f"blocks.{last}.hook_resid_post"][0, -1] + strength * planted
                by_hand.append(float(norm(h[None])[0] @ (weights[a] - weights[b])))
        assert margins[-1] == pytest.approx(np.mean(by_hand), rel=1e-3, abs=1e-3)
    assert margins == sorted(margins)
    assert margins[-1] - margins[2] > 1


def test_sentences_need_both_labels_in_a_group(tiny_model: Any) -> None:
    items = load_items("bundled", limit=1, seed=0)
    moral = [text for text in load_texts("bundled:morality")[:8] if text.label]
    plain = load_texts("bundled:contrasts")[:2]
    with pytest.raises(InterpError, match="none of the 2 groups of sentences has both labels"):
        Outcomes(tiny_model, items, sentences=moral, plain=plain, completions=())
