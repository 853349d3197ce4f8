from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
import torch

from interp.activations import AttentionPatterns, read_attention
from interp.data import Choice, ChoiceItem
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import TokenizedPrompt, make_pair
from interp.viz import Section, attention_fragment, attention_page, render_report

HOSTILE = ["</script><script>alert(1)</script>", "<!--", "\n", "\"'", "ünï 漢字", " the", " the"]
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


class Blocks(HTMLParser):
    """The JSON blocks of a page, and the names of all its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.tags: list[str] = []
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = ("type", "application/json") in attrs
        if self._inside:
            self.blocks.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.blocks[-1] += data


def make_patterns(tokens: list[str], layers: tuple[int, ...] = (3, 7)) -> AttentionPatterns:
    n = len(tokens)
    values = torch.rand(len(layers), 4, n, n, generator=torch.Generator().manual_seed(0)).tril()
    prompt = TokenizedPrompt(torch.arange(n), {"prompt": slice(0, n)}, tuple(tokens), "")
    return AttentionPatterns(values / values.sum(-1, keepdim=True), layers, prompt)


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


def test_page_names_model_pair_and_spans_and_survives_hostile_text(tiny_model, tmp_path):
    pair = make_pair(tiny_model, ITEM, "instructed")
    path = attention_page(tiny_model, pair, path=tmp_path / "attention.html")
    page = path.read_text(encoding="utf-8")
    calm = ITEM.__class__(**{**ITEM.__dict__, "id": "1", "context": "The teacher met the farmer."})
    other = attention_page(
        tiny_model, make_pair(tiny_model, calm, "instructed"), path=tmp_path / "calm.html"
    )
    assert Blocks(page).tags == Blocks(other.read_text(encoding="utf-8")).tags
    assert model_card(tiny_model).one_line in page
    assert "instructed -&gt; placebo (&lt;/script&gt;&lt;!-- 1)" in page
    for name in pair.source.spans:
        assert f"<b>{name}<br>" in page


def test_page_takes_the_layer_that_looks_most_at_the_instruction(tiny_model, tmp_path):
    pair = make_pair(tiny_model, ITEM, "instructed")
    path = attention_page(tiny_model, pair, path=tmp_path / "a.html", heads=[1])
    source, destination = (json.loads(b) for b in Blocks(path.read_text(encoding="utf-8")).blocks)
    mass = read_attention(tiny_model, pair.source).to_span("instruction").mean(1)
    assert source["heads"] == destination["heads"] == [f"L{int(mass.argmax())}H1"]
    assert len(source["tokens"]) == len(pair.source)
    assert len(destination["tokens"]) == len(pair.destination)


def test_page_writes_one_block_per_run_and_layer_and_repeats_itself_exactly(tiny_model, tmp_path):
    pair = make_pair(tiny_model, ITEM, "instructed")
    pages = [
        attention_page(tiny_model, pair, path=tmp_path / name, layers=[0, 2]).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]
    assert len(Blocks(pages[0].decode()).blocks) == 4


def test_page_without_an_instruction_in_the_source_follows_the_first_span_that_differs(
    tiny_model, tmp_path
):
    pair = make_pair(tiny_model, ITEM, "clean", against="instructed")
    page = attention_page(tiny_model, pair, path=tmp_path / "a.html").read_text(encoding="utf-8")
    span = pair.source.span_of(pair.alignment.first_difference)
    assert f"<h2>Attention to the {span}</h2>" in page


@pytest.mark.parametrize("position", [2, 5])
def test_page_of_two_token_tensors_follows_the_first_differing_token(
    tiny_model, tmp_path, position
):
    ids = torch.arange(20, 26)
    other = ids.clone()
    other[position] = 40
    pair = make_pair(tiny_model, ids, other)
    page = attention_page(tiny_model, pair, path=tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Attention to the first differing token" in page


def test_page_of_two_equal_prompts_is_refused(tiny_model, tmp_path):
    ids = torch.arange(20, 26)
    with pytest.raises(InterpError, match="both prompts are equal"):
        attention_page(tiny_model, make_pair(tiny_model, ids, ids), path=tmp_path / "a.html")


@pytest.mark.parametrize("options", [{"heads": []}, {"layers": []}])
def test_an_empty_choice_of_layers_or_heads_is_refused(tiny_model, tmp_path, options):
    ids = torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7])
    pair = make_pair(tiny_model, *ids, target=(3, 4))
    with pytest.raises(InterpError, match="to show: the list is empty"):
        attention_page(tiny_model, pair, path=tmp_path / "a.html", **options)
    with pytest.raises(InterpError, match="to show: the list is empty"):
        attention_fragment(read_attention(tiny_model, pair.source), **options)
    assert not (tmp_path / "a.html").exists()
