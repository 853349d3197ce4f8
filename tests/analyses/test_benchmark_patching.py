"""The patching benchmark on a tiny model: its line, its bound by hand, equal numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analyses.benchmarks import machine, patching
from analyses.benchmarks.by_hand import plain_model
from analyses.benchmarks.patching import Case, Sizes, by_transformer_lens, lower_bound, measure
from interp.patching import sweep
from interp.patching.sites import MetricName
from interp.prompts import PromptPair, make_pair
from tests.patching.options_by_hand import option_pair

S, T = 11, 4
METRICS: tuple[MetricName, ...] = ("margin", "option_margin")


@pytest.fixture
def pair(tiny_model: Any) -> PromptPair:
    ids = torch.randint(100, 400, (S,), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[S - T] = 99
    return make_pair(tiny_model, other, ids, target=(20, 90))


@pytest.mark.parametrize("site", ["resid_pre", "z"])
def test_a_line_has_ratios_and_a_difference_at_rounding(
    tiny_model: Any, pair: PromptPair, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "matrix_rate", lambda: 1e9)
    sizes = Sizes([1, 2], reference_cells=5, hand_batches=[9, 2], hand_layers=2, max_mib=64)
    row = measure(tiny_model, plain_model(tiny_model), Case("tiny", pair, site), sizes)
    assert (row["S"], row["T"]) == (S, T)
    assert row["cells"] == 4 * (T if site == "resid_pre" else 4)
    assert row["ratio"] > 0
    assert row["best batch"] in (1, 2)
    assert float(row["difference / range"]) <= 1e-4
    assert row["expert s"].startswith("4: ")  # a layer's four cells in one batch
    assert row["expert batch"] in (4, 2)
    assert float(row["expert difference"]) <= 1e-4
    without = measure(tiny_model, None, Case("tiny", pair, site), sizes)
    assert set(row) - set(without) == {
        "expert s", "expert batch", "faster than expert", "than its first batch", "expert difference",
    }  # fmt: skip


def test_the_bound_is_the_formula_by_hand(tiny_model: Any, pair: PromptPair) -> None:
    block = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64  # q and o, k and v, the gated MLP
    unembedding = 2 * 32 * int(tiny_model.cfg.d_vocab)
    bound, naive = lower_bound(tiny_model, Case("tiny", pair, "resid_pre"), n_cells=16)
    assert bound == 6 * (T * (T + 1) / 2) * 2 * block + 16 * unembedding
    assert naive == 16 * (4 * S * 2 * block + S * unembedding)
    by_head, _ = lower_bound(tiny_model, Case("tiny", pair, "z"), n_cells=16)
    assert by_head == 6 * (4 * T) * 2 * block + 16 * unembedding


def test_both_sides_run_the_same_cells(tiny_model: Any, pair: PromptPair) -> None:
    case = Case("tiny", pair, "mlp_out")
    result = sweep(tiny_model, pair, site="mlp_out", progress=False)
    cells = patching.sampled_cells(case, result.values.shape[:2], 10)
    assert cells["pos"].between(S - T, S - 1).all()
    expected = by_transformer_lens(tiny_model, case, cells, batch=2)
    assert torch.allclose(patching.at(result, case, cells), expected, atol=1e-5)


def test_memory_and_matrix_rate_are_measured() -> None:
    with machine.peak_memory() as peak:
        kept = torch.ones(8 << 20)  # 32 MiB
    assert kept.numel()
    if torch.isfinite(torch.tensor(peak.n_bytes)):
        assert 30 << 20 <= peak.n_bytes <= 200 << 20
    assert machine.matrix_rate(64, 2) > 0
    assert machine.threads().split()[0].isdigit()


@pytest.mark.parametrize("site", ["resid_pre", "z"])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_option_margin_by_transformer_lens_is_ours(
    tiny_model: Any, site: str, batch: int
) -> None:
    """Two sweeps of theirs; the options' own positions are patched in neither."""
    case = Case("tiny", option_pair(tiny_model), site, "option_margin")
    result = sweep(
        tiny_model, case.pair, site=site, metric="option_margin", progress=False  # type: ignore[arg-type]
    )  # fmt: skip
    cells = patching.sampled_cells(case, result.values.shape[:2], 10)
    expected = by_transformer_lens(tiny_model, case, cells, batch=batch)
    assert torch.allclose(patching.at(result, case, cells), expected, atol=1e-5)


def test_the_bound_of_the_option_margin_counts_the_rows_of_the_options(tiny_model: Any) -> None:
    """Three and one rows of the options, and one more of the prompt is read."""
    pair = option_pair(tiny_model)
    block = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64
    unembedding = 2 * 32 * int(tiny_model.cfg.d_vocab)
    margin, options = (
        lower_bound(tiny_model, Case("tiny", pair, "resid_pre", metric), n_cells=16)
        for metric in METRICS
    )
    s, t = Case("tiny", pair, "resid_pre").lengths
    assert options[0] - margin[0] == 6 * t * 4 * 2 * block + 16 * 5 * unembedding
    assert options[1] == 16 * (s + 3 + s + 1) * (4 * 2 * block + unembedding)
