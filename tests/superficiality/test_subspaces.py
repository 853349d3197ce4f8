from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp.directions import Direction, DirectionFacts
from interp.errors import InterpError
from interp.superficiality.exchanges import READABLE, UNREAD, exchanges_of
from interp.superficiality.subspaces import (
    Subspaces,
    direction_axes,
    fit_subspaces,
    oracle_groups,
    orthonormal,
)
from tests.superficiality.toy import CONTENT, toy_direction, toy_pairs


def test_pairs_share_neither_clusters_nor_wordings_with_those_their_oracle_is_of() -> None:
    clusters, wordings = list("aabbccdd"), list("01234501")
    groups = oracle_groups(clusters, wordings)
    for k, group in enumerate(groups):
        for other, donor in enumerate(groups):
            if donor == 3 - group:
                assert clusters[k] != clusters[other]
                assert wordings[k] != wordings[other]
    assert set(oracle_groups(clusters, ["0"] * 8)) == {0, 2}


def test_vectors_are_orthonormal_in_their_order_and_dependent_ones_are_left_out() -> None:
    torch.manual_seed(0)
    a, b, c = (torch.nn.functional.normalize(torch.randn(3, 8), dim=-1) for _ in range(3))
    found = orthonormal([a, a + 1e-4 * b, b, c], most=3)
    assert found.shape == (3, 3, 8)
    assert torch.allclose(found @ found.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(found[:, 0], a, atol=1e-6)
    assert torch.allclose(_inside(b, found[:, :2]), b, atol=1e-5)


def _inside(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    return torch.einsum("pk,pkd->pd", torch.einsum("pd,pkd->pk", vectors, basis), basis)


def test_the_oracle_of_a_rewritten_concept_is_the_concepts_direction(tmp_path: Path) -> None:
    model, task, pairs, clusters = toy_pairs("deep", n=8)
    v = toy_direction(model, task)
    spaces = fit_subspaces(model, pairs, v, content=CONTENT, clusters=clusters, n_covariance=2)
    assert spaces.places == (1, 2, 3)
    assert spaces.own == 1
    assert spaces.ranks == (1,)
    found = spaces.oracles["behind"][spaces.groups[0]][0, 0]  # behind block 0
    assert abs(float(found @ v[0].vector)) > 0.6  # of 32 dimensions; chance is .14
    assert set(spaces.nulls) == {"covariance 1", "covariance 2"}
    assert float(spaces.nulls["covariance 1"][0].norm()) == pytest.approx(1)
    spaces.save(tmp_path / "spaces.safetensors")
    again = Subspaces.load(tmp_path / "spaces.safetensors")
    assert (again.places, again.own, again.groups) == (spaces.places, spaces.own, spaces.groups)
    assert torch.equal(again.span, spaces.span)
    assert torch.equal(again.nulls["covariance 1"], spaces.nulls["covariance 1"])
    assert again.parts is not None
    assert torch.equal(again.parts.nan_to_num(), spaces.parts.nan_to_num())  # type: ignore[union-attr]
    replace(spaces, parts=None).save(tmp_path / "old.safetensors")  # as runs of before have them
    old = Subspaces.load(tmp_path / "old.safetensors")
    assert old.parts is None
    assert not any(one.space in (READABLE, UNREAD) for one in exchanges_of(old))
    assert any(one.space == READABLE for one in exchanges_of(spaces))


def test_places_lie_between_layers_and_other_sites_are_refused() -> None:
    vector = torch.eye(4)[0]
    facts = DirectionFacts("mean_difference", "own", "0", 2, "0", "raw")
    after = Direction(vector, 1.0, 0.0, 2, "resid_post", facts)
    before = Direction(vector, 1.0, 0.0, 2, "resid_pre", facts)
    assert direction_axes(after)[:2] == ((3,), 3)
    assert direction_axes(before)[:2] == ((2,), 2)
    with pytest.raises(InterpError, match="site='resid_post'"):
        direction_axes(Direction(vector, 1.0, 0.0, 2, "mlp_out", facts))
