"""The view of patterns: numbers that travel, hostile tokens, size, and what is left without a script."""

from __future__ import annotations

import json
import time
from base64 import b64decode

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.viz import attention_view
from tests.viz.pages import HOSTILE, Blocks, make_patterns

STRANGE = ["\u202eabc", "\u200b", "👩\u200d👩\u200d👧", "שלום", "x" * 10_000]


def unpacked(text: str) -> np.ndarray:
    raw = np.frombuffer(b64decode(text), dtype="<u2").astype(float)
    return np.where(raw == 65535, np.nan, raw / 65534)


def test_the_lower_triangles_and_the_masses_travel_to_four_digits():
    source, destination = make_patterns(["a", "b", "c"]), make_patterns(["a", "b", "d"], seed=1)
    (block,) = Blocks(attention_view(source, destination, heads=[(7, 2), (3, 0)]).html).blocks
    data = json.loads(block)
    rows, columns = np.tril_indices(3)
    for run, patterns in zip(data["runs"], (source, destination), strict=True):
        for packed, (layer, head) in zip(run["patterns"], ((1, 2), (0, 0)), strict=True):
            values = patterns.values[layer, head].numpy()[rows, columns]
            np.testing.assert_allclose(unpacked(packed), values, atol=1e-5)
        mass = unpacked(run["mass"]).reshape(2, 4, 2, 1)
        np.testing.assert_allclose(mass, patterns.by_span().values, atol=1e-5)
    assert data["layers"] == [3, 7]
    assert data["aligned"] is None


def test_hostile_tokens_stay_text():
    tokens = [*HOSTILE, *STRANGE]
    view = attention_view(make_patterns(tokens))
    parsed = Blocks(view.html)
    assert parsed.tags.count("script") == 1
    (run,) = json.loads(parsed.blocks[0])["runs"]
    assert run["tokens"][: len(HOSTILE)] == [token.replace("\n", "⏎") for token in HOSTILE]
    assert run["tokens"][len(HOSTILE) : -1] == ["‹U+202E›abc", "‹U+200B›", STRANGE[2], "שלום"]
    assert run["tokens"][-1] == "x" * 120 + "… (10,000 characters)"


def test_twelve_heads_of_two_prompts_of_300_tokens_are_under_five_megabytes_and_five_seconds():
    tokens = [f" t{k}" for k in range(300)]
    both = [make_patterns(tokens, layers=(0, 1, 2), seed=k) for k in range(2)]
    start = time.process_time()
    view = attention_view(*both, heads=[(layer, head) for layer in range(3) for head in range(4)])
    page = view._repr_html_()
    assert time.process_time() - start < 5
    assert len(page) < 5_000_000


def test_without_a_script_the_chosen_heads_are_left_as_a_table():
    view = attention_view(make_patterns(["a", "b"]), make_patterns(["a", "c"]), heads=[(3, 1)])
    text = view.html
    assert "<td>L3H1</td>" in text
    assert "<th>difference</th>" in text


def test_patterns_of_other_layers_and_heads_that_are_not_there_are_refused():
    with pytest.raises(InterpError, match=r"patterns are of layers \[3, 7\]"):
        attention_view(make_patterns(["a"]), make_patterns(["a"], layers=(1, 7)))
    with pytest.raises(InterpError, match="no attention at layer 4"):
        attention_view(make_patterns(["a"]), heads=[(4, 0)])
    with pytest.raises(InterpError, match="no span 'x'"):
        attention_view(make_patterns(["a"]), span="x")


def test_patterns_show_themselves_in_a_notebook():
    patterns = make_patterns(["a", "b", "c"])
    assert patterns._repr_html_() == attention_view(patterns)._repr_html_()
    assert torch.isfinite(patterns.values).all()
