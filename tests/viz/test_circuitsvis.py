"""circuitsvis's widget as a fragment: values, hostile tokens, one script a page."""

from __future__ import annotations

import json

import pytest
import torch

from interp.errors import InterpError
from interp.viz import Section, attention_fragment, render_report
from tests.viz.pages import HOSTILE, Blocks, make_patterns


def test_fragment_holds_the_rounded_lower_triangle_of_the_chosen_heads():
    patterns = make_patterns(["a", "b", "c"])
    (block,) = Blocks(attention_fragment(patterns, layers=[7], heads=[2, 0], digits=2).html).blocks
    data = json.loads(block)
    assert data["heads"] == ["L7H2", "L7H0"]
    assert data["scale"] == 100
    for shown, head in zip(data["values"], (2, 0), strict=True):
        assert [len(row) for row in shown] == [1, 2, 3]
        for k, row in enumerate(shown):
            expected = patterns.values[1, head, k, : k + 1]
            torch.testing.assert_close(torch.tensor(row) / 100, expected, atol=0.00501, rtol=0)


def test_fragment_of_hostile_tokens_stays_one_script_and_gives_the_tokens_back():
    parsed = Blocks(attention_fragment(make_patterns(HOSTILE)).html)
    assert parsed.tags == ["div", "small", "div", "script"]
    tokens = json.loads(parsed.blocks[0])["tokens"]
    assert tokens == [token.replace("\n", "⏎") for token in HOSTILE]


def test_a_report_holds_the_circuitsvis_script_once():
    fragment = attention_fragment(make_patterns(["a", "b"]))
    sections = [Section("s", figures=[(fragment, "")])]
    one = render_report(sections, title="t", lead="l")
    three = render_report(sections * 3, title="t", lead="l")
    assert 1_200_000 < len(one) < 1_400_000
    assert len(three) < len(one) + 5_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [4]}, r"no attention at layer 4; read at \[3, 7\]"),
        ({"heads": [9]}, r"no head 9; there are 0\.\.3"),
        ({"digits": 0}, "digits is 0"),
    ],
)
def test_fragment_refuses_what_was_not_read(options, message):
    with pytest.raises(InterpError, match=message):
        attention_fragment(make_patterns(["a", "b"]), **options)


def test_a_fragment_shown_inline_brings_its_script():
    fragment = attention_fragment(make_patterns(["a", "b"]))
    assert fragment._repr_html_().endswith(f"<script>{fragment.script}</script>")
    assert "</script>" not in fragment.script


@pytest.mark.parametrize("options", [{"heads": []}, {"layers": []}])
def test_an_empty_choice_of_layers_or_heads_is_refused(options):
    with pytest.raises(InterpError, match="to show: the list is empty"):
        attention_fragment(make_patterns(["a", "b"]), **options)
