"""Divergences: scipy's numbers on hand cases, and what they must be for equal prompts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from torch import Tensor

from interp.data import load_items
from interp.errors import InterpError
from interp.lens import compare, lens_divergence, lens_logits
from interp.prompts import make_pair


def logits_of(*distributions: list[float]) -> Tensor:
    return torch.tensor(distributions, dtype=torch.float64).log().float()


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.5, 0.5], [0.9, 0.1]),
        ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7]),
        ([0.25, 0.25, 0.25, 0.25], [0.97, 0.01, 0.01, 0.01]),
        ([0.5, 0.5, 0.0], [0.5, 0.25, 0.25]),
        ([1 - 3e-12, 1e-12, 2e-12], [1e-12, 1 - 3e-12, 2e-12]),
    ],
)
def test_divergences_equal_scipys(p: list[float], q: list[float]) -> None:
    frame = compare(logits_of(p), logits_of(q), k=1)
    assert frame["kl"][0] == pytest.approx(rel_entr(p, q).sum(), rel=1e-5)
    assert frame["js"][0] == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-5)


def test_disjoint_distributions_have_ln_2_and_an_infinite_kl() -> None:
    frame = compare(logits_of([1.0, 0.0]), logits_of([0.0, 1.0]), k=1)
    assert frame["js"][0] == pytest.approx(math.log(2), abs=1e-15)
    assert frame["kl"][0] == math.inf
    assert frame["overlap"][0] == 0.0


def test_overlap_is_the_share_of_common_tokens_whatever_their_order() -> None:
    a = torch.tensor([[9.0, 8, 7, 6, 5, 0, 0, 0], [9.0, 8, 7, 6, 5, 0, 0, 0]])
    b = torch.tensor([[5.0, 6, 7, 8, 9, 0, 0, 0], [9.0, 0, 0, 0, 5, 8, 7, 6]])
    assert compare(a, b, k=5)["overlap"].tolist() == [1.0, 0.4]
    assert compare(a, b, k=1)["overlap"].tolist() == [0.0, 1.0]


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=8), st.integers(0, 10_000))
def test_divergences_are_zero_for_equal_and_bounded_for_any(values: list[float], seed: int) -> None:
    a = torch.tensor([values])
    same = compare(a, a, k=2)
    assert same.loc[0].tolist() == [0.0, 0.0, 1.0]
    b = a + 20 * torch.randn(a.shape, generator=torch.Generator().manual_seed(seed))
    there, back = compare(a, b, k=2), compare(b, a, k=2)
    assert there["js"][0] == pytest.approx(back["js"][0], abs=1e-12)
    assert 0 <= there["js"][0] <= math.log(2)
    assert there["kl"][0] >= 2 * (there["js"][0] - math.log(2))
    assert there["overlap"][0] == back["overlap"][0]


@pytest.mark.parametrize("k", [0, 5])
def test_a_list_longer_than_the_vocabulary_is_refused(k: int) -> None:
    with pytest.raises(InterpError, match=f"k is {k}: the top list takes 1 to 4"):
        compare(torch.zeros(1, 4), torch.zeros(1, 4), k=k)


def test_equal_prompts_do_not_diverge(tiny_model: Any) -> None:
    ids = torch.arange(2, 12)
    frame = lens_divergence(tiny_model, make_pair(tiny_model, ids, ids), progress=False)
    assert frame["layer"].tolist() == list(range(tiny_model.cfg.n_layers + 1))
    assert (frame[["kl", "js"]] == 0).all(axis=None)
    assert (frame["overlap"] == 1).all()


def test_every_layer_of_a_pair_is_compared_and_a_reversed_pair_reverses_kl(tiny_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(tiny_model, item, "instructed", against="clean")
    frame = lens_divergence(tiny_model, [pair, pair.swap()], k=3, progress=False)
    assert frame.columns.tolist() == ["pair", "item", "cluster", "layer", "kl", "js", "overlap"]
    assert set(frame["item"]) == {item.id}
    there, back = (rows.reset_index() for _, rows in frame.groupby("pair"))
    p, q = (
        lens_logits(tiny_model, prompt).double().softmax(-1).numpy()
        for prompt in (pair.source, pair.destination)
    )
    np.testing.assert_allclose(there["kl"], rel_entr(p, q).sum(-1), atol=2e-6)
    np.testing.assert_allclose(back["kl"], rel_entr(q, p).sum(-1), atol=2e-6)
    np.testing.assert_allclose(there["js"], jensenshannon(p, q, axis=-1) ** 2, atol=2e-6)
    np.testing.assert_allclose(there["js"], back["js"], atol=2e-6)
    assert there["js"][0] == 0  # the same last token
    assert there["js"].iloc[1:].gt(0).all()
