"""Pairs of one's own sentences: answers as texts, named spans, and what is refused at the making."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import interp
from interp.errors import InterpError
from interp.prompts import as_prompt, make_pair

CLEAN = "When the teacher and the farmer met, the farmer gave the money to the"
OTHER = "When the teacher and the farmer met, the teacher gave the money to the"
ANSWERS = (" teacher", " farmer")


def test_texts_make_a_pair_that_every_room_takes(tiny_model: Any) -> None:
    spans = {"S2": ("the farmer gave", "the teacher gave"), "start": "When"}
    pair = make_pair(tiny_model, CLEAN, OTHER, answers=ANSWERS, spans=spans)
    for side, who in ((pair.source, "farmer"), (pair.destination, "teacher")):
        text = "".join(side.str_tokens[side.span("S2")])
        assert text.strip() == f"the {who} gave"
    assert (pair.target.a_text, pair.target.b_text) == ANSWERS
    tokens = [tiny_model.tokenizer(a, add_special_tokens=False)["input_ids"] for a in ANSWERS]
    assert [pair.options.a.tolist(), pair.options.b.tolist()] == tokens
    assert pair.item is None
    result = interp.sweep(tiny_model, pair, site="resid_pre", progress=False)
    assert torch.isfinite(torch.as_tensor(result.values)).all()


def test_the_margin_is_the_models_own_logit_difference(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, CLEAN, OTHER, answers=ANSWERS)
    with torch.no_grad():
        logits = tiny_model(pair.source.ids[None])[0, -1]
    lens = interp.lens_trajectory(tiny_model, pair, progress=False).frame
    source = lens[lens["run"] == "source"]["margin"].iloc[-1]
    assert source == pytest.approx(float(logits[pair.target.a] - logits[pair.target.b]), abs=1e-4)


def test_answers_of_several_tokens_are_read_where_they_first_differ(tiny_model: Any) -> None:
    answers = (" the teacher and all", " the teacher or one")
    plain = as_prompt(tiny_model, CLEAN)
    pair = make_pair(tiny_model, CLEAN, OTHER, answers=answers)
    n = pair.options.n_shared
    assert n > 0
    assert len(pair.source) == len(plain) + n
    assert pair.source.ids[len(plain) :].tolist() == pair.options.a[:n].tolist()
    assert (pair.target.a, pair.target.b) == (int(pair.options.a[n]), int(pair.options.b[n]))
    assert f"the {n} that both begin with stand at the prompts' end" in pair.margin_line
    assert pair.margin_line in repr(pair)
    assert "at the first token that differs" in pair._repr_html_()


def test_messages_and_ids_and_prompts_make_pairs_too(tiny_model: Any) -> None:
    def asked(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Who was late? {text}"}]

    pair = make_pair(
        tiny_model,
        asked("Please be fair."),
        asked("Please be tidy."),
        answers=("The teacher", "A farmer"),
        spans={"instruction": ("Please be fair.", "Please be tidy.")},
    )
    assert pair.source.span_of(pair.alignment.first_difference) == "instruction"
    assert interp.knockout(tiny_model, pair, progress=False) is not None
    ids = [as_prompt(tiny_model, text).ids for text in (CLEAN, OTHER)]
    same = make_pair(tiny_model, ids[0], ids[1], answers=ANSWERS)
    prompts = make_pair(
        tiny_model, as_prompt(tiny_model, CLEAN), as_prompt(tiny_model, OTHER), answers=ANSWERS
    )
    assert (
        same.target == prompts.target == make_pair(tiny_model, CLEAN, OTHER, answers=ANSWERS).target
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, r"two prompts of your own need answers=\(better, worse\)"),
        ({"answers": ("teacher", " farmer")}, "would go on within the word: write ' teacher'"),
        ({"answers": (" teacher", " teacher")}, "have no token that differs"),
        ({"answers": (" teacher", " teacher and all")}, "one is the beginning of the other"),
        ({"answers": (" teacher", " ")}, "' ' is empty"),
        ({"answers": ANSWERS, "target": (3, 4)}, "give one of answers, target, options"),
        ({"answers": ANSWERS, "spans": {"x": "nobody"}}, "'nobody' is not in source"),
        ({"answers": ANSWERS, "spans": {"x": "farmer"}}, "'farmer' stands 2 times in source"),
        ({"answers": ANSWERS, "spans": {"x": ("farmer gave", "no one")}}, "is not in destination"),
    ],
)
def test_what_a_sweep_would_miss_is_refused_when_the_pair_is_made(
    tiny_model: Any, options: Any, complaint: str
) -> None:
    with pytest.raises(InterpError, match=complaint) as refused:
        make_pair(tiny_model, CLEAN, OTHER, **options)
    assert "\n" not in str(refused.value)


def test_a_pair_without_answers_is_made_when_it_is_asked_for(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, CLEAN, OTHER, answers=())
    assert pair.target is None
    assert "no margin" in repr(pair)
    assert make_pair(tiny_model, pair.source.ids, pair.destination.ids).target is None


def test_answers_are_refused_for_an_item(tiny_model: Any) -> None:
    item = interp.data.bundled_choices()[0]
    with pytest.raises(InterpError, match="answers is for prompts of your own"):
        make_pair(tiny_model, item, "instructed", answers=ANSWERS)
