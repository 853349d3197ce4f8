"""Metrics of any rows, several metrics, reductions: against TransformerLens's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformer_lens.patching as upstream
from torch import Tensor
from transformer_lens.patching import PatchingResult

import interp.patching as ours
from interp.errors import InterpError
from interp.patching.drop_in import metric_sweep
from tests.patching.drop_in.both_ways import A, B, assert_close, margin, margins, tokens
from tests.patching.drop_in.both_ways import both as both_ways

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests


def both(model: Any, name: str, metric: Any, **options: Any) -> tuple[Any, Any]:
    return both_ways(model, f"get_act_patch_{name}", metric, **options)


def next_token_loss(corrupted: Tensor) -> Callable[[Tensor], Tensor]:
    def loss(logits: Tensor) -> Tensor:
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
        return -log_probs.gather(-1, corrupted[:, 1:, None]).mean()

    return loss


def middle_rows(logits: Tensor) -> Tensor:
    return logits[:, 5, A].sum() - logits[:, 8, B].sum()


def accuracy(logits: Tensor) -> Tensor:
    return (logits.argmax(-1) % 3 == 0).float().mean()


@pytest.mark.parametrize("metric", [margin, middle_rows, accuracy], ids=lambda m: m.__name__)
def test_metrics_of_any_rows_with_or_without_a_gradient(tiny_model: Any, metric: Any) -> None:
    found, expected = both(tiny_model, "resid_pre", metric)
    assert_close(found, expected)


def test_a_loss_over_all_positions(tiny_model: Any) -> None:
    found, expected = both(tiny_model, "mlp_out", next_token_loss(tokens(2)[1]))
    assert_close(found, expected)


def test_rows_read_only_after_a_change_are_found_by_the_check_on_full_runs(tiny_model: Any) -> None:
    """At the corrupted run this metric has a gradient on the last row alone."""
    _, corrupted = tokens(1)
    with torch.no_grad():
        start = tiny_model(corrupted)[:, 8, A]

    def hidden(logits: Tensor) -> Tensor:
        return margin(logits) + 50 * (logits[:, 8, A] - start).abs().clamp(min=1e-4).sum()

    found, expected = both(tiny_model, "resid_pre", hidden, batch=1)
    assert_close(found, expected)


def largest(logits: Tensor) -> Tensor:
    """Its gradient reaches one row, in every patched run perhaps another."""
    return logits[:, :, A].amax(1).mean()


def largest_that_takes_no_nan(logits: Tensor) -> Tensor:
    assert not bool(logits.isnan().any())
    return largest(logits)


@pytest.mark.parametrize("metric", [largest, largest_that_takes_no_nan], ids=lambda m: m.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_a_maximum_over_positions_reads_other_rows_in_patched_runs(
    load_tiny: Callable[..., Any], metric: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_sweep, "_CHECKED_ROWS", 0)  # every cell is seen to, not two
    model = load_tiny("llama", random_vectors=True)
    clean, corrupted = tokens(2, seed=seed)
    with torch.no_grad():
        _, cache = model.run_with_cache(clean)
        expected = upstream.get_act_patch_resid_pre(model, corrupted, cache, metric)
    found = ours.get_act_patch_resid_pre(model, corrupted, cache, metric, progress=False)
    assert_close(found, expected)


def test_per_example_values_baseline_and_several_metrics(tiny_model: Any) -> None:
    found, expected = both(
        tiny_model, "resid_pre", {"a": margins, "b": margins}, reduce="none", baseline=True
    )
    assert isinstance(found, PatchingResult)
    assert_close(found.values, expected.values)
    assert_close(found.baseline, expected.baseline)
    assert_close(found.effect(), expected.effect())
    assert_close(found["b"].values, expected["b"].values)
    assert found.axis_names == expected.axis_names
    assert found.index_df.equals(expected.index_df)
    averaged, upstream_mean = both(tiny_model, "attn_out", margins, reduce="mean")
    assert_close(averaged, upstream_mean)
    with_index = both(tiny_model, "attn_out", margin, return_index_df=True)
    assert with_index[0][1].equals(with_index[1][1])


def test_examples_that_wait_for_each_other_fit_a_small_budget(tiny_model: Any) -> None:
    clean, corrupted = tokens(2)
    _, cache = tiny_model.run_with_cache(clean)
    one, small = (
        ours.get_act_patch_resid_pre(
            tiny_model, corrupted, cache, margin, max_bytes=size, progress=False
        )
        for size in (1 << 30, 500_000)
    )
    assert torch.allclose(one, small, atol=1e-5)


def test_resid_mid_is_the_residual_stream_itself(tiny_model: Any) -> None:
    """At one position it equals the next layer's resid_pre. With gradients on, TransformerLens's own
    write misses the skip connection."""
    clean, corrupted = tokens(1)
    _, cache = tiny_model.run_with_cache(clean)
    mid = ours.get_act_patch_resid_mid(tiny_model, corrupted, cache, margin, progress=False)
    pre = ours.get_act_patch_resid_pre(tiny_model, corrupted, cache, margin, progress=False)
    assert torch.allclose(mid[:-1], pre[1:], atol=2e-4)


def test_equal_runs_give_the_baseline_everywhere(tiny_model: Any) -> None:
    _, corrupted = tokens(2)
    logits, cache = tiny_model.run_with_cache(corrupted)
    found = ours.get_act_patch_resid_pre(tiny_model, corrupted, cache, margin, progress=False)
    assert torch.allclose(found, margin(logits).expand_as(found), atol=1e-6)


def test_what_does_not_fit_is_refused(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    clean, corrupted = tokens(2)
    _, cache = tiny_model.run_with_cache(clean)
    run = ours.get_act_patch_resid_pre
    with pytest.raises(InterpError, match="must give a scalar"):
        run(tiny_model, corrupted, cache, margins, progress=False)
    with pytest.raises(InterpError, match=r"must give \[2\], one per example"):
        run(tiny_model, corrupted, cache, margin, reduce="none", progress=False)
    with pytest.raises(InterpError, match="reduce is 'sum'"):
        run(tiny_model, corrupted, cache, margin, reduce="sum", progress=False)
    with pytest.raises(InterpError, match="no metrics"):
        run(tiny_model, corrupted, cache, {}, progress=False)
    with pytest.raises(InterpError, match="the same shape"):
        run(tiny_model, corrupted[:, :-1], cache, margin, progress=False)
    _, partial_cache = tiny_model.run_with_cache(clean, names_filter=lambda n: "layer" in n)
    with pytest.raises(InterpError, match=r"the clean cache has no blocks\.0\.hook_resid_pre"):
        run(tiny_model, corrupted, partial_cache, margin, progress=False)
