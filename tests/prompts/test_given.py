"""Every room takes a prompt, a pair, a text, messages or ids, and reads the same of each."""

from __future__ import annotations

from typing import Any

import jaxtyping
import pytest
import torch

import interp
from interp.activations import read_attention, read_states, stream
from interp.behaviour import Decoding, complete, generate
from interp.errors import InterpError
from interp.prompts import as_prompt, each_given
from interp.viz import attention_page, lens_margin
from tests.models.native import ids_of, native

CLEAN = "The teacher met the farmer and the farmer was"
OTHER = "The farmer met the teacher and the teacher was"
ANSWERS = (" careful", " old")
MESSAGES = [{"role": "user", "content": "Who was late?"}]


def the_pair(model: Any) -> Any:
    return interp.make_pair(model, CLEAN, OTHER, answers=ANSWERS)


def forms(model: Any) -> list[Any]:
    """The same prompt in every form."""
    prompt = as_prompt(model, CLEAN)
    return [CLEAN, prompt, prompt.ids, prompt.ids[None], the_pair(model)]


def test_one_prompt_in_every_form_is_the_same_prompt(tiny_model: Any) -> None:
    ids = [as_prompt(tiny_model, form).ids.tolist() for form in forms(tiny_model)]
    assert all(one == ids[0] for one in ids)


def test_rooms_read_the_same_of_every_form(tiny_model: Any) -> None:
    decoding = Decoding(max_new_tokens=3)
    hook = "blocks.1.hook_resid_post"
    read = [
        (
            read_attention(tiny_model, form, layers=[1]).values,
            read_states(tiny_model, form, progress=False).values,
            next(stream(tiny_model, form, {hook: None}, progress=False))[1][hook],
            generate(tiny_model, form, decoding=decoding)[0].ids,
            complete(tiny_model, form, max_new_tokens=3).ids,
        )
        for form in forms(tiny_model)
    ]
    for others in read[1:]:
        for here, there in zip(read[0], others, strict=True):
            torch.testing.assert_close(here, there)


def test_several_forms_in_one_list_come_in_their_order(tiny_model: Any) -> None:
    mixed = [CLEAN, as_prompt(tiny_model, OTHER), as_prompt(tiny_model, OTHER).ids, MESSAGES]
    values = read_states(tiny_model, mixed, progress=False).values
    assert values.shape[1] == 4
    torch.testing.assert_close(values[:, 1], values[:, 2])
    assert [len(each_given(one)) for one in (mixed, MESSAGES, CLEAN, [CLEAN], [])] == [
        4,
        1,
        1,
        1,
        0,
    ]


def test_projections_take_texts_and_both_runs_of_a_pair(tiny_model: Any, direction: Any) -> None:
    pair = the_pair(tiny_model)
    both = interp.project(tiny_model, pair, direction, progress=False)
    texts = interp.project(tiny_model, [CLEAN, OTHER], direction, progress=False)
    assert both.rows["run"].tolist() == ["source", "destination"]
    assert texts.rows["run"].tolist() == ["prompt", "prompt"]
    torch.testing.assert_close(torch.tensor(both.values), torch.tensor(texts.values))
    one = interp.project(tiny_model, CLEAN, direction, positions="all", progress=False)
    assert len(one.rows) == len(pair.source)


def test_the_lens_of_single_prompts_with_answers_is_that_of_their_pair(tiny_model: Any) -> None:
    pair = interp.lens_trajectory(tiny_model, the_pair(tiny_model), progress=False)
    alone = interp.lens_trajectory(tiny_model, [CLEAN, OTHER], answers=ANSWERS, progress=False)
    assert alone.frame["margin"].tolist() == pytest.approx(pair.frame["margin"].tolist(), abs=1e-5)
    assert list(alone.frame.columns) == list(pair.frame.columns)
    assert set(alone.frame["run"]) == {"prompt"}
    assert [line.name for line in lens_margin(alone).data if line.name and line.showlegend]
    with pytest.raises(InterpError, match="a difference needs pairs"):
        alone.difference()
    with pytest.raises(InterpError, match="a single prompt needs answers"):
        interp.lens_trajectory(tiny_model, CLEAN, progress=False)


def test_an_attention_page_of_one_text_and_of_a_named_span(tiny_model: Any, tmp_path: Any) -> None:
    alone = attention_page(tiny_model, CLEAN, path=tmp_path / "one.html")
    assert len(alone.masses) == 1
    prompt = as_prompt(tiny_model, CLEAN, spans={"who": "The teacher"})
    page = attention_page(tiny_model, prompt, span="who", path=tmp_path / "two.html")
    assert page.span == "who"
    assert "span “who”" in (tmp_path / "two.html").read_text(encoding="utf-8")
    with pytest.raises(InterpError, match="no span 'nobody'"):
        attention_page(tiny_model, prompt, span="nobody", path=tmp_path / "three.html")


@pytest.mark.parametrize("wrong", [None, 3, b"x", {"x": 1}, object(), [None], [[1, 2]], [3, 4]])
def test_anything_else_is_one_line_in_every_room(
    tiny_model: Any, direction: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, wrong: Any
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    calls = [
        lambda: as_prompt(tiny_model, wrong),
        lambda: read_attention(tiny_model, wrong),
        lambda: list(stream(tiny_model, wrong, {}, progress=False)),
        lambda: generate(tiny_model, wrong),
        lambda: interp.project(tiny_model, wrong, direction, progress=False),
        lambda: interp.lens_trajectory(tiny_model, wrong, progress=False),
        lambda: attention_page(tiny_model, wrong, path=tmp_path / "a.html"),
        lambda: interp.make_pair(tiny_model, wrong, wrong),
    ]
    for call in calls:
        with pytest.raises(InterpError) as refused:
            call()
        assert "\n" not in str(refused.value)
        assert "expected a text, chat messages" in str(refused.value)


def test_a_model_without_a_tokenizer_takes_ids_and_refuses_texts_in_one_line(tmp_path: Any) -> None:
    model = native()
    ids = ids_of(model, 6, 0)
    assert read_attention(model, ids).values.shape[-1] == 6
    assert as_prompt(model, ids, spans={"x": (1, 3)}).spans["x"] == slice(1, 3)
    for given in ("a text", MESSAGES):
        for call in (
            lambda given=given: read_attention(model, given),
            lambda given=given: list(stream(model, given, {}, progress=False)),
            lambda given=given: interp.make_pair(model, given, given, answers=("a", "b")),
            lambda given=given: attention_page(model, given, path=tmp_path / "a.html"),
        ):
            with pytest.raises(InterpError, match="this model has no tokenizer") as refused:
                call()
            assert "\n" not in str(refused.value)


def test_a_model_with_token_names_reads_a_text_of_names() -> None:
    model = native()
    n = int(model.cfg.d_vocab)
    interp.models.set_token_names(model, [f"t{k}" for k in range(n)])
    prompt = as_prompt(model, "t1 t3 t1", spans={"middle": "t3"})
    assert (prompt.ids.tolist(), prompt.spans["middle"]) == ([1, 3, 1], slice(1, 2))


@pytest.fixture(scope="module")
def direction(tiny_model: Any) -> Any:
    texts = [
        interp.data.LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    return interp.fit_direction(tiny_model, texts, n_folds=2, n_shuffles=3, progress=False)
