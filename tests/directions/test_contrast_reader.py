"""One pass over an item's prompts: what it reads equals the library's separate readings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.activations import read_states
from interp.data import load_items, load_texts
from interp.directions import DirectionStack, decompose, fit_direction, project
from interp.directions.contrast_reader import (
    MEASURES,
    N_NULLS,
    ContrastReader,
    contrast_reader,
    is_fixed,
)
from interp.directions.moments import read_moments, read_moments_and_states
from interp.prompts import TextBank, TokenizedPrompt, condition_prompt

COMPONENTS = ("resid_post", "head", "mlp_out", "embedding")


@pytest.fixture(scope="module")
def stack(tiny_model: Any) -> DirectionStack:
    texts = load_texts("bundled:morality", limit=40)
    return fit_direction(tiny_model, texts, n_shuffles=1, progress=False)


@pytest.fixture(scope="module")
def by_text(tiny_model: Any) -> list[list[TokenizedPrompt]]:
    """Two placebos of three items: ``[text][item]``."""
    bank = TextBank(tiny_model.tokenizer)
    items = load_items("bundled", limit=3, seed=0)
    texts = [bank.placebos(bank.texts("instructed", item, 2)) for item in items]
    return [
        [condition_prompt(tiny_model, item, of[k]) for item, of in zip(items, texts, strict=True)]
        for k in range(2)
    ]


def reader_of(
    model: Any, stack: DirectionStack, by_text: list[list[TokenizedPrompt]], **options: Any
) -> ContrastReader:
    vectors = torch.randn(2, *stack.vectors.shape, generator=torch.Generator().manual_seed(1))
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    contrasts = {"tense": unit[0], "topic": unit[1]}
    usual = {"components": COMPONENTS, "position": "last", "seed": 0, "contrasts": contrasts}
    return contrast_reader(model, stack, by_text, **{**usual, **options})


def test_cells_and_parts_are_those_of_project_and_decompose(
    tiny_model: Any, stack: DirectionStack, by_text: list[list[TokenizedPrompt]]
) -> None:
    reader = reader_of(tiny_model, stack, by_text)
    values = reader.read(by_text[0])
    alone = project(tiny_model, by_text[0], stack, components=COMPONENTS, progress=False)
    assert reader.cells[["component", "layer", "head"]].equals(
        alone.cells[["component", "layer", "head"]]
    )
    np.testing.assert_allclose(values.measured[..., :2], alone.values, rtol=1e-4, atol=1e-5)
    heads = (reader.cells["component"] == "head").to_numpy()
    assert np.isnan(values.measured[:, heads, 2]).all()  # heads have no moments
    assert not np.isnan(values.measured[:, ~heads, 2]).any()
    parts = decompose(tiny_model, by_text[0], stack.best, progress=False)
    assert reader.parts["label"].tolist() == parts.parts["label"].tolist()
    np.testing.assert_allclose(values.parts, parts.values, rtol=1e-4, atol=1e-5)


def test_null_directions_are_unit_vectors_named_by_kind_and_read_at_the_stacks_site(
    tiny_model: Any, stack: DirectionStack, by_text: list[list[TokenizedPrompt]]
) -> None:
    reader = reader_of(tiny_model, stack, by_text)
    nulls = reader.nulls
    kinds = ["covariance"] * N_NULLS + ["contrast"] * 2 + ["placebo"]
    assert nulls.kinds == tuple(kinds)
    assert nulls.names[-3:] == ("tense", "topic", "placebo texts 1")
    torch.testing.assert_close(nulls.vectors.norm(dim=-1), torch.ones(nulls.vectors.shape[:2]))
    _, cache = tiny_model.run_with_cache(by_text[1][0].ids[None])
    states = torch.stack([cache[f"blocks.{k}.hook_resid_post"][0, -1] for k in stack.layers])
    expected = torch.einsum("lnd,ld->ln", nulls.vectors, states)
    found = reader.read([by_text[1][0]]).nulls[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("position", ["last", "instruction"])
def test_states_from_the_pass_of_the_moments_are_those_of_a_pass_of_their_own(
    tiny_model: Any, by_text: list[list[TokenizedPrompt]], position: str
) -> None:
    options: dict[str, Any] = {"positions": position, "layers": (0, 2), "progress": False}
    components: list[Any] = ["resid_post", "mlp_out"]
    found, states = read_moments_and_states(
        tiny_model, by_text[0], components=components, keep=["resid_post"], **options
    )
    alone = read_states(tiny_model, by_text[0], site="resid_post", **options).values
    torch.testing.assert_close(states["resid_post"], alone, atol=1e-6, rtol=1e-6)
    assert list(states) == ["resid_post"]
    moments = read_moments(tiny_model, by_text[0], components=components, **options)
    for component in components:
        assert torch.equal(found.mean[component], moments.mean[component])
        assert torch.equal(found.std[component], moments.std[component])


def test_where_nothing_can_change_no_null_directions_are_drawn(
    tiny_model: Any, stack: DirectionStack, by_text: list[list[TokenizedPrompt]]
) -> None:
    reader = reader_of(tiny_model, stack, by_text, contrasts=None, position="question")
    assert reader.nulls.kinds == ()
    values = reader.read(by_text[0])
    assert values.nulls.shape == (3, len(stack.layers), 0)
    assert values.measured.shape == (3, len(reader.cells), len(MEASURES))


def test_states_before_the_first_difference_are_fixed(
    by_text: list[list[TokenizedPrompt]],
) -> None:
    texts = [by_text[k][0] for k in range(2)]
    assert is_fixed(texts, "question")
    assert not is_fixed(texts, "last")
    assert is_fixed([texts[0], texts[0]], "last")
