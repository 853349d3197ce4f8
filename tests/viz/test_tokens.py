"""Coloured tokens: the colours of the maps, numbers in the hover, hostile text as text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from plotly.colors import sample_colorscale

from interp.activations import read_attention
from interp.data import LabelledText
from interp.directions import fit_direction, project
from interp.errors import InterpError
from interp.prompts import TokenizedPrompt, make_pair
from interp.viz import Section, coloured_tokens, render_report, save
from interp.viz.tokens import _Colours, _luminance

HOSTILE = [
    "</script><script>window.broken=1</script>", "<!--", "\"'&", "\n", "\u202eevil", "\u200b", "שלום",
    "x" * 10_000, "👩‍👩‍👧", "\u0301", "", "\ud83d", " the",
]  # fmt: skip
SHOWN = [
    "</script><script>window.broken=1</script>", "<!--", "\"'&", "⏎", "‹U+202E›evil", "‹U+200B›",
    "שלום", "x" * 10_000, "👩‍👩‍👧", "◌\u0301", "∅", "‹U+D83D›", " the",
]  # fmt: skip


class Tokens(HTMLParser):
    """Every token's style, hover and text, and the tags and other text of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.styles: list[str] = []
        self.titles: list[str] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.others = ""
        self._inside = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "bdi":
            found = dict(attrs)
            self._inside = True
            self.styles.append(found["style"] or "")
            self.titles.append(found["title"] or "")
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "bdi"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data
        else:
            self.others += data


def drawn(*args: Any, **options: Any) -> Tokens:
    return Tokens(coloured_tokens(*args, **options).html)


def background(style: str) -> tuple[int, ...] | None:
    if "background-color:#" not in style:
        return None
    colour = style.split("background-color:#")[1][:6]
    return tuple(int(colour[k : k + 2], 16) for k in (0, 2, 4))


def of_scale(name: str, share: float) -> tuple[int, ...]:
    (colour,) = sample_colorscale(name, [share], colortype="tuple")
    return tuple(round(255 * part) for part in colour)


def test_signed_values_take_the_colours_of_the_maps_around_zero() -> None:
    shown = drawn(list("abc"), [-2.0, 0.0, 1.0])
    expected = [of_scale("RdBu", share) for share in (0.0, 0.5, 0.75)]
    assert [background(style) for style in shown.styles] == expected
    assert shown.texts == ["a", "b", "c"]
    assert shown.titles == ["0 'a': -2", "1 'b': 0", "2 'c': +1"]


def test_amounts_are_blues_from_zero() -> None:
    shown = drawn(list("ab"), [0, 4], scale="sequential", unit="nats")
    assert [background(style) for style in shown.styles] == [
        of_scale("Blues", 0.0),
        of_scale("Blues", 1.0),
    ]
    assert shown.titles[1] == "1 'b': 4 nats"
    assert "04 nats" in shown.others


def test_a_token_without_a_value_has_no_colour_and_says_so() -> None:
    shown = drawn(list("abc"), [float("nan"), None, 1.0])
    assert [background(style) is None for style in shown.styles] == [True, True, False]
    assert "color" not in shown.styles[0]
    assert shown.titles[0].endswith("no value")
    assert "no colour: no value" in shown.others


@pytest.mark.parametrize("values", [[0.0, 0.0], [float("nan")] * 2, [-float("inf"), 1.0]])
def test_values_without_a_range_are_drawn(values: list[float]) -> None:
    assert len(drawn(list("ab"), values).texts) == 2


def test_centre_and_limit_fix_the_scale_and_what_lies_beyond_is_told() -> None:
    shown = drawn(list("abc"), [-9.0, -3.0, -2.0], centre=-3.0, limit=2.0, unit="nats")
    assert [background(style) for style in shown.styles] == [
        of_scale("RdBu", share) for share in (0.0, 0.5, 0.75)
    ]
    assert "≤ -5-1 nats · white: -3" in shown.others


def test_rows_are_stacked_with_their_names_on_one_scale() -> None:
    shown = drawn(list("ab"), {"<source>": [1.0, 2.0], "destination": [4.0, -4.0]})
    assert shown.texts == ["a", "b", "a", "b"]
    assert "<source>" in shown.others
    assert background(shown.styles[1]) == of_scale("RdBu", 0.75)
    assert shown.titles[3] == "1 'b': destination: -4"


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True),
        np.array([1, 2], dtype=np.float16),
        pd.Series([1.0, 2.0], index=[7, 9]),
        (1, 2),
    ],
)
def test_any_one_dimensional_values_are_taken(values: Any) -> None:
    assert [title[-2:] for title in drawn(["a", "b"], values).titles] == ["+1", "+2"]


@pytest.mark.parametrize(
    ("tokens", "values", "options", "said"),
    [
        (["a"], [1.0, 2.0], {}, r"values has shape \[2\], and the prompt 1 tokens"),
        (["a"], {"x": [[1.0]]}, {}, r"values\['x'\] has shape \[1, 1\]"),
        (["a"], ["b"], {}, "are no numbers"),
        (["a"], [object()], {}, "are no numbers"),
        (["a"], {}, {}, "no row"),
        ([], [], {}, "no tokens"),
        ("text", [1.0], {}, "prompt is a str"),
        (["a"], [-1.0], {"scale": "sequential"}, "position 0 is -1: use scale='diverging'"),
        (["a"], [1.0], {"scale": "sequential", "centre": 1.0}, "starts at 0"),
        (["a"], [1.0], {"limit": 0.0}, "limit is 0.0"),
        (["a"], [1.0], {"centre": float("nan")}, "centre is nan"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(
    tokens: Any, values: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InterpError, match=said) as error:
        coloured_tokens(tokens, values, **options)
    assert "\n" not in str(error.value)


def test_hostile_tokens_are_text() -> None:
    values = np.linspace(-1, 1, len(HOSTILE))
    fragment = coloured_tokens(HOSTILE, {HOSTILE[0]: values}, unit=HOSTILE[0])
    shown = Tokens(fragment.html)
    assert shown.tags == {"div", "b", "bdi", "br", "span"}
    assert shown.texts == SHOWN
    assert max(map(len, shown.titles)) < 200
    page = render_report([Section("a", figures=[(fragment, "")])], title="t", lead="l")
    assert "<script>window" not in page


def test_a_character_split_over_tokens_is_drawn_once() -> None:
    tokens = ("<s>", "Well", " �", "�", "�", " ok", "�", "�")
    prompt = TokenizedPrompt(
        torch.arange(8), {"prompt": slice(0, 8)}, tokens, "Well 🙂 ok漢", "p", n_bos=1
    )
    texts = ["<s>", "Well", " 🙂", "…", "…", " ok", "漢", "…"]
    assert drawn(prompt, range(8)).texts == texts
    assert drawn(replace(prompt, text="another"), range(8)).texts == list(tokens)
    assert drawn(list(tokens), range(8)).texts == list(tokens)


def test_a_tokenizer_that_splits_an_emoji_gives_it_back(tiny_model: Any) -> None:
    words = [{"role": "user", "content": "Hello 🙂 you"}]
    tokenizer = tiny_model.tokenizer
    text = words[0]["content"]
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    parts = tuple(tokenizer.decode([i]) for i in ids.tolist())
    assert sum("�" in part for part in parts) > 1  # it does split it
    prompt = TokenizedPrompt(ids, {"prompt": slice(0, len(ids))}, parts, text)
    shown = drawn(prompt, np.zeros(len(ids)))
    assert "".join(shown.texts).replace("…", "") == text


@pytest.mark.parametrize("name", ["RdBu", "Blues"])
def test_text_on_every_colour_has_a_contrast_of_four_and_a_half(name: str) -> None:
    scale = _Colours(name, 0.0, 1.0, signed=False)
    values = np.linspace(0.0, 1.0, 501)
    shown = drawn([""] * 501, values * 2 - 1 if name == "RdBu" else values, scale=(
        "diverging" if name == "RdBu" else "sequential"
    ))  # fmt: skip
    for style, colour in zip(shown.styles, scale.of(values), strict=True):
        text = {"#000": 0.0, "#fff": 1.0}[style.split(";color:")[1]]
        light, dark = sorted((_luminance(colour), text), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_brightness_alone_tells_the_distance_from_the_centre() -> None:
    scale = _Colours("RdBu", -1.0, 1.0, signed=True)
    shades = [_luminance(colour) for colour in scale.of(np.linspace(-1, 1, 9))]
    assert shades[:5] == sorted(shades[:5])
    assert shades[4:] == sorted(shades[4:], reverse=True)


def test_the_examples_of_the_documentation_run(tiny_model: Any, tmp_path: Any) -> None:
    prompt = make_pair(tiny_model, torch.arange(20, 30), torch.arange(20, 30).flip(0)).source
    log_probs = tiny_model(prompt.ids[None])[0].log_softmax(-1)
    taken = log_probs[:-1].gather(-1, prompt.ids[1:, None])[:, 0]
    figure = coloured_tokens(prompt, [None, *taken.tolist()], centre=-3.0, unit="nats")
    assert figure._repr_html_() == figure.html
    assert len(repr(figure)) < 100
    assert figure.html in save(figure, tmp_path / "log_probs.html").read_text(encoding="utf-8")
    last = read_attention(tiny_model, prompt).values[0, 1, -1]
    coloured_tokens(prompt, last, scale="sequential", unit="attention")


def test_projections_of_every_position_are_values(tiny_model: Any) -> None:
    prompt = make_pair(tiny_model, torch.arange(20, 30), torch.arange(20, 30).flip(0)).source
    texts = [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    v = fit_direction(tiny_model, texts, n_folds=2, n_shuffles=3, progress=False)
    read = project(tiny_model, [prompt], v, positions="all", progress=False).to_dataframe()
    layer = read.query("layer == 3").projection
    shown = drawn(prompt, layer, unit="class units")
    assert shown.titles[4].endswith(f": {layer.iloc[4]:+.4g} class units")
