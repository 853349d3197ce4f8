"""The attention page: what it follows, which heads it chooses, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from interp.activations import read_attention
from interp.data import Choice, ChoiceItem, bundled_choices
from interp.errors import InterpError
from interp.models import model_card
from interp.patching import knockout
from interp.prompts import make_pair
from interp.viz import attention_page, save
from tests.viz.pages import Blocks

ITEM = ChoiceItem(
    id="</script><!-- 1",
    benchmark="b",
    category="c",
    context="The teacher met the farmer.</script><script>alert(1)</script>",
    question="Who was late? <!--",
    choices=(Choice("The teacher", "stereotyped"), Choice("It is not known", "unknown")),
    gold=1,
    context_condition="ambiguous",
    cluster="k",
)


@pytest.fixture(scope="module")
def pair(tiny_model):
    return make_pair(tiny_model, ITEM, "instructed")


def data_of(page: Any) -> dict[str, Any]:
    (block,) = Blocks(page.html).blocks
    return json.loads(block)


def test_the_default_heads_are_those_of_the_largest_difference_on_the_instruction(tiny_model, pair):
    page = attention_page(tiny_model, pair)
    here, there = (
        read_attention(tiny_model, p).to_span("instruction")
        for p in (pair.source, pair.destination)
    )
    order = (here - there).flatten().argsort(descending=True)[:12]
    n_heads = tiny_model.cfg.n_heads
    assert page.heads == tuple((k // n_heads, k % n_heads) for k in order.tolist())
    frame = page.to_dataframe()
    np.testing.assert_allclose(frame["instructed"], here.flatten(), atol=1e-6)
    np.testing.assert_allclose(frame["difference"], (here - there).flatten(), atol=1e-6)


def test_named_heads_keep_their_order_and_may_be_labels(tiny_model, pair):
    page = attention_page(tiny_model, pair, heads=[(3, 1), "L0H2", (3, 1)])
    assert page.heads == ((3, 1), (0, 2))
    assert data_of(page)["heads"] == [[3, 1], [0, 2]]


def test_heads_by_instruction_and_by_knockout(tiny_model, pair):
    mass = read_attention(tiny_model, pair.source).to_span("instruction")
    first = attention_page(tiny_model, pair, heads="instruction").heads[0]
    assert mass[first] == mass.max()
    effect = knockout(tiny_model, pair.swap(), cells="layer_head", progress=False).effect()[..., 0]
    first = attention_page(tiny_model, pair, heads="knockout", progress=False).heads[0]
    assert effect[first].abs() == effect.abs().max()


def test_several_pairs_are_averaged_by_span(tiny_model):
    pairs = [make_pair(tiny_model, item, "instructed") for item in bundled_choices()[:3]]
    page = attention_page(tiny_model, pairs)
    each = [read_attention(tiny_model, p.destination).to_span("instruction") for p in pairs]
    expected = torch.stack(each).mean(0).flatten()
    np.testing.assert_allclose(page.to_dataframe()["placebo"], expected, atol=1e-6)
    data = data_of(page)
    assert [run["n"] for run in data["runs"]] == [3, 3]
    assert "patterns" not in data["runs"][0]


def test_one_prompt_alone_shows_the_heads_that_look_least_at_the_first_position(tiny_model):
    page = attention_page(tiny_model, "The teacher met the farmer.")
    sink = read_attention(tiny_model, "The teacher met the farmer.").values[:, :, 1:, 0].mean(-1)
    assert sink[page.heads[0]] == pytest.approx(float(sink.min()))
    assert data_of(page)["keys"] == ["first token", "prompt"]
    assert list(page.to_dataframe().columns) == ["layer", "head", "The teacher met the farmer."]
    named = attention_page(tiny_model, torch.arange(20, 30), heads=[(1, 1)])
    assert named.heads == ((1, 1),)


def test_page_names_model_pair_and_spans_and_survives_hostile_text(tiny_model, pair, tmp_path):
    path = tmp_path / "attention.html"
    page = attention_page(tiny_model, pair, path=path)
    assert page.path == path
    text = path.read_text(encoding="utf-8")
    calm = ITEM.__class__(**{**ITEM.__dict__, "id": "1", "context": "The teacher met the farmer."})
    attention_page(tiny_model, make_pair(tiny_model, calm, "instructed"), path=tmp_path / "c.html")
    other = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert Blocks(text).tags == Blocks(other).tags
    assert model_card(tiny_model).one_line in text
    assert "instructed -&gt; placebo (&lt;/script&gt;&lt;!-- 1)" in text
    assert set(pair.source.spans) <= set(data_of(page)["keys"])


def test_page_is_shown_inline_saved_and_repeats_itself_exactly(tiny_model, pair, tmp_path):
    pages = [attention_page(tiny_model, pair, path=tmp_path / n) for n in ("a.html", "b.html")]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert pages[0]._repr_html_() == f"{pages[0].html}<script>{pages[0].script}</script>"
    saved = save(pages[0], tmp_path / "pages" / "c.html").read_text(encoding="utf-8")
    assert saved.count(pages[0].script) == 1
    assert len(pages[0].script) < 30_000


def test_page_without_an_instruction_in_the_source_follows_the_first_span_that_differs(tiny_model):
    pair = make_pair(tiny_model, ITEM, "clean", against="instructed")
    expected = pair.source.span_of(pair.alignment.first_difference)
    assert attention_page(tiny_model, pair).span == expected


@pytest.mark.parametrize("position", [2, 5])
def test_page_of_two_token_tensors_follows_the_first_differing_token(tiny_model, position):
    ids = torch.arange(20, 26)
    other = ids.clone()
    other[position] = 40
    page = attention_page(tiny_model, make_pair(tiny_model, ids, other))
    assert page.span == "first differing token"
    assert data_of(page)["aligned"] is None


def test_prompts_of_unequal_length_have_a_difference_where_tokens_have_a_counterpart(tiny_model):
    pair = make_pair(tiny_model, ITEM, "instructed", against="clean")
    assert data_of(attention_page(tiny_model, pair))["aligned"] == (
        pair.alignment.to_destination.tolist()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": []}, "no heads to show: the list is empty"),
        ({"heads": [1]}, "1 is no head: give .layer, head."),
        ({"heads": [(9, 0)]}, "no attention at layer 9; read at"),
        ({"heads": [(0, 9)]}, "no head 9; there are 0..3"),
        ({"heads": ["5.2"]}, "heads are written L15H5"),
        ({"heads": "best"}, "or one of difference, instruction, knockout"),
        ({"span": "nobody"}, "no span 'nobody'"),
    ],
)
def test_a_wrong_choice_is_refused_and_writes_nothing(
    tiny_model, pair, tmp_path, monkeypatch, options, message
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match=message):
        attention_page(tiny_model, pair, path=tmp_path / "a.html", **options)
    assert not (tmp_path / "a.html").exists()


def test_what_cannot_be_compared_is_refused(tiny_model, pair):
    ids = torch.arange(20, 26)
    with pytest.raises(InterpError, match="both prompts are equal"):
        attention_page(tiny_model, make_pair(tiny_model, ids, ids))
    with pytest.raises(InterpError, match="compares two runs: give a pair"):
        attention_page(tiny_model, "They met.", heads="difference")
    with pytest.raises(InterpError, match="pairs or prompts, not both"):
        attention_page(tiny_model, [pair, "They met."])
    with pytest.raises(InterpError, match="the list is empty"):
        attention_page(tiny_model, [])
