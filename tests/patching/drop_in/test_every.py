"""Stacked sweeps: the padding of keys and values, and the ``PatchingResult``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import interp.patching as ours
from tests.patching.drop_in.both_ways import (
    assert_close,
    assert_same_result,
    both,
    margin,
    margins,
    tokens,
)

ALL_POS, BY_POS, BLOCKS = (
    "get_act_patch_attn_head_all_pos_every",
    "get_act_patch_attn_head_by_pos_every",
    "get_act_patch_block_every",
)


@pytest.mark.parametrize("name", [ALL_POS, BY_POS])
def test_heads_that_keys_and_values_lack_are_zero_or_nan(tiny_model: Any, name: str) -> None:
    clean, corrupted = tokens(1, 7)
    _, cache = tiny_model.run_with_cache(clean)
    run = getattr(ours, name)
    zeros = run(tiny_model, corrupted, cache, margin, progress=False)
    told = run(tiny_model, corrupted, cache, margin, padding=float("nan"), progress=False)
    missing = torch.zeros_like(told, dtype=torch.bool)
    missing[2:4, ..., 2:] = True  # keys and values have two heads of four
    assert torch.equal(told.isnan(), missing)
    assert bool((zeros[missing] == 0).all())
    assert torch.equal(zeros[~missing], told[~missing])


@pytest.mark.parametrize(
    "options",
    [
        {"reduce": "none", "baseline": True},
        {"reduce": "mean"},
        {"baseline": True},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "name",
    [ALL_POS, pytest.param(BY_POS, marks=pytest.mark.slow), BLOCKS],
)
def test_results_have_transformer_lenss_fields(
    tiny_model: Any, name: str, options: dict[str, Any]
) -> None:
    metric = margins if "reduce" in options else margin
    found, expected = both(tiny_model, name, metric, n=7, **options)
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert_close(found, expected)
    else:
        assert_same_result(found, expected)


def test_several_metrics_are_stacked_and_told_apart(tiny_model: Any) -> None:
    metrics = {"a": margins, "b": lambda logits: -margins(logits)}
    found, expected = both(tiny_model, ALL_POS, metrics, n=7, reduce="none", baseline=True)
    assert_same_result(found, expected)
    assert_same_result(found["b"], expected["b"])
    frame = found.to_dataframe()
    assert set(frame["patch_type_name"]) == {"out", "q", "k", "v", "pattern"}


def test_one_index_is_not_given_beside_five_sweeps(tiny_model: Any) -> None:
    """TransformerLens cannot stack pairs of tensor and index either: both raise a TypeError."""
    with pytest.raises(TypeError):
        both(tiny_model, BLOCKS, n=7, return_index_df=True)
    clean, corrupted = tokens(1)
    _, cache = tiny_model.run_with_cache(clean)
    with pytest.raises(TypeError):
        ours.get_act_patch_block_every(
            tiny_model, corrupted, cache, margin, return_index_df=True, progress=False
        )
