"""Attention by span: one layer's patterns at a time, equal to the patterns summed up by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.activations import read_attention, read_span_attention
from interp.activations.span_attention import LATER
from interp.data import bundled_choices
from interp.errors import InterpError
from interp.prompts import make_pair


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_masses_are_the_patterns_summed_over_keys_and_averaged_over_queries(
    load_tiny: Any, architecture: str
) -> None:
    model = load_tiny(architecture)
    prompt = make_pair(model, bundled_choices()[0], "instructed").source
    masses, patterns = read_span_attention(model, prompt), read_attention(model, prompt)
    torch.testing.assert_close(masses.values, patterns.by_span().values, equal_nan=True)
    torch.testing.assert_close(masses.mass("instruction"), patterns.to_span("instruction"))
    last = list(prompt.spans)[-1]
    for query in (last, "instruction"):
        expected = patterns.to_span("instruction", dest=prompt.spans[query])
        torch.testing.assert_close(masses.mass("instruction", query), expected)
    everything = sum(masses.mass(key, last) for key in masses.keys)
    torch.testing.assert_close(everything, torch.ones_like(everything))
    # of a span that ends the prompt, the last position
    of_last = patterns.to_span(last, dest=slice(len(prompt) - 1, None))
    torch.testing.assert_close(masses.mass(last), of_last)


def test_several_prompts_are_averaged_where_they_have_the_spans(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, bundled_choices()[0], "instructed", against="clean")
    both = read_span_attention(tiny_model, [pair.source, pair.destination])
    each = [read_span_attention(tiny_model, p) for p in (pair.source, pair.destination)]
    assert both.n_prompts == 2
    torch.testing.assert_close(both.mass("instruction"), each[0].mass("instruction"))
    mean = (each[0].mass("options") + each[1].mass("options")) / 2
    torch.testing.assert_close(both.mass("options"), mean)
    frame = both.to_dataframe()
    assert list(frame.columns) == ["layer", "head", "query", "key", "mass"]
    row = frame.query(f"layer == 1 and head == 2 and query == '{LATER}' and key == 'options'")
    assert row["mass"].item() == pytest.approx(float(mean[1, 2]))


def test_an_unknown_span_and_no_prompt_are_refused(tiny_model: Any) -> None:
    masses = read_span_attention(tiny_model, "The teacher met the farmer.")
    with pytest.raises(InterpError, match="no span 'x'; there are prompt"):
        masses.mass("x")
    with pytest.raises(InterpError, match="the list is empty"):
        read_span_attention(tiny_model, [])
