"""Margins and option scores of rounds 0 and 1 are those of single prompts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interp.behaviour.generation import Decoding
from interp.behaviour.history import rounds_frame
from interp.behaviour.protocol import condition_protocols, placebo_protocols
from interp.behaviour.rounds import run_rounds
from interp.behaviour.scoring import score_options
from interp.data.items import Choice
from interp.prompts import TextBank, margin_token
from tests.behaviour.spoken import BEGUN, ITEM, SCORED

SHARED = replace(
    ITEM,
    id="shared-1",
    choices=(
        Choice("The teacher and all", "stereotyped"),
        Choice("The river", "counter"),
        Choice("The teacher or one", "unknown"),
    ),
)
COLUMNS = ("margin", "p_gold", "p_unknown", "p_stereotyped", "gold_rank", "correct",
           "chosen_position")  # fmt: skip


@pytest.mark.parametrize("architecture", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_rounds_0_and_1_read_what_score_options_reads(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    items = [ITEM, SHARED]
    scores = score_options(model, items, n_texts=2, progress=False).frame
    bank = TextBank(model.tokenizer)
    treated = condition_protocols(bank, "instructed", task="choice", n_texts=2)
    frames = [
        rounds_frame(run_rounds(model, items, protocol, 1))
        for protocol in (*treated, *placebo_protocols(bank, treated))
    ]
    keys = ["item", "condition", "slot", "control_of", "order"]
    expected = scores.set_index(keys)
    for frame in frames:
        for row in frame.to_dict("records"):
            key = [row[name] for name in keys]
            if row["round"] == 0:
                key[1:4] = ["clean", 0, ""]
            other = expected.loc[tuple(key)]
            if row["round"] == 1:
                assert row["text_id"] == other["text_id"]
                assert row["instruction_tokens"] == other["instruction_tokens"]
            for column in COLUMNS:
                assert float(row[column]) == pytest.approx(float(other[column]), abs=1e-4), column


def test_the_margin_is_read_behind_what_both_options_share(tiny_model: Any) -> None:
    (history,) = run_rounds(tiny_model, SHARED, SCORED, 1, orders=[0])
    done = history[1]
    from interp.models import forward
    from interp.prompts import encode_continuation

    a, b = (
        encode_continuation(tiny_model.tokenizer, done.prompt, f" {SHARED.choices[k].text}")
        for k in (2, 0)
    )
    at = margin_token(a, b)
    assert at
    extended = done.prompt.extend(a[:at], ("",) * at).ids
    row = forward(tiny_model, [extended], logits_at=[(0, len(extended) - 1)]).logits[0]
    assert done.margin == pytest.approx(float(row[a[at]] - row[b[at]]), abs=1e-4)


def test_there_is_no_margin_without_a_contrast_or_for_generated_answers(tiny_model: Any) -> None:
    others = tuple(replace(choice, role="other") for choice in ITEM.choices)
    begins = (*ITEM.choices[:2], Choice("The teacher and one", "unknown"))
    for item in (replace(ITEM, choices=others), replace(ITEM, choices=begins)):
        (history,) = run_rounds(tiny_model, item, SCORED, 1, orders=[0])
        assert all(math.isnan(done.margin) for done in history.rounds)
        assert rounds_frame([history])["entropy"].notna().all()
    written = replace(SCORED, answer="generate", decoding=Decoding(max_new_tokens=3))
    completed = replace(written, task="completion", answer_prefix="")
    for item, protocol in ((ITEM, written), (BEGUN, completed)):
        for history in run_rounds(tiny_model, item, protocol, 1):
            assert all(math.isnan(done.margin) for done in history.rounds)
