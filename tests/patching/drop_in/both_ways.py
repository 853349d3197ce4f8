"""The same call to TransformerLens's function and to ours, and how close their results must be."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformer_lens.patching as upstream
from torch import Tensor

import interp.patching as ours

A, B = 20, 90


def tokens(batch: int, n: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clean and corrupted tokens; the examples differ from one position and from another on."""
    corrupted = torch.randint(100, 400, (batch, n), generator=torch.Generator().manual_seed(seed))
    clean = corrupted.clone()
    clean[:, n - 4] = 77
    clean[0, n - 6] = 66
    return clean, corrupted


def margin(logits: Tensor) -> Tensor:
    return (logits[:, -1, A] - logits[:, -1, B]).mean()


def margins(logits: Tensor) -> Tensor:
    return logits[:, -1, A] - logits[:, -1, B]


def both(
    model: Any,
    name: str,
    metric: Any = margin,
    *more: Any,
    batch: int = 2,
    n: int = 10,
    **options: Any,
) -> tuple[Any, Any]:
    """Ours and TransformerLens's, gradients off as in its demo."""
    clean, corrupted = tokens(batch, n)
    with torch.no_grad():
        caches = [model.run_with_cache(each)[1] for each in (clean, corrupted)]
        theirs = getattr(upstream, name)
        if "corrupted_cache" not in inspect.signature(theirs).parameters:
            caches = caches[:1]
        expected = theirs(model, corrupted, *caches, metric, *more, **options)
    # a direct path's bar is switched by TransformerLens's own keyword
    quiet = {} if "verbose" in inspect.signature(theirs).parameters else {"progress": False}
    found = getattr(ours, name)(model, corrupted, *caches, metric, *more, **options, **quiet)
    return found, expected


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    allowed = max(1e-4 * float(expected.max() - expected.min()), 5e-6)
    assert float((found - expected).abs().max()) <= allowed


def assert_same_result(found: Any, expected: Any) -> None:
    """Every field of two ``PatchingResult``."""
    assert_close(found.values, expected.values)
    assert (found.baseline is None) == (expected.baseline is None)
    if expected.baseline is not None:
        assert_close(found.baseline, expected.baseline)
        assert_close(found.effect(), expected.effect())
    assert found.axis_names == expected.axis_names
    assert found.index_df.equals(expected.index_df)
    assert found.metric_names == expected.metric_names
    assert found.reduced == expected.reduced
    assert found.has_metric_axis == expected.has_metric_axis
    assert found.patch_type_names == expected.patch_type_names
