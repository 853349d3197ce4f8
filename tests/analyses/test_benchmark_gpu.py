"""The benchmark of a card, run whole on the CPU with tiny shapes; without a card it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from analyses.benchmarks import machine
from analyses.benchmarks.gpu.__main__ import TINY_SIZES, main
from analyses.benchmarks.gpu.measure import fitting_case
from analyses.benchmarks.gpu.models import SHAPES, TINY, Shape, random_weights


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--minutes", "9", "--models", "tiny-grouped", "--into", str(tmp_path)])
    tables = {
        name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("exactness", "scoring", "sweeps")
    }
    assert tables["exactness"]["sweep"].tolist() == ["resid_pre", "z"]
    assert (tables["exactness"]["difference / range"] <= 1e-5).all()
    assert tables["scoring"]["dtype"].tolist() == ["bfloat16", "float32"]
    assert (tables["scoring"]["prompts/s"] > 0).all()
    sweeps = tables["sweeps"]
    kinds = ["resid_pre", "resid_pre, screened", "z", "z, screened"]
    assert sweeps["sweep"].tolist() == 2 * kinds
    assert (sweeps["ratio"] > 0).all()
    exact = sweeps[~sweeps["sweep"].str.contains("screened")]
    assert exact["of matrix rate"].between(0, 1, inclusive="neither").all()
    assert exact["again ratio best"].notna().all()
    assert sweeps.loc[sweeps["dtype"] == "float32", "difference / range"].max() <= 1e-4
    assert (sweeps["budget MiB"] == 64).all()
    printed = capsys.readouterr().out
    assert "matrix rate" in printed
    assert printed.splitlines()[-1].endswith("done")


def test_what_has_no_time_left_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--minutes", "0", "--sites", "z", "--dtypes", "float32"])
    assert "tiny, float32: not measured, the time is over" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no CUDA device")
def test_without_a_card_one_line_names_the_way_out() -> None:
    with pytest.raises(SystemExit, match="no CUDA device here: --tiny"):
        main([])


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_random_weights_have_the_shape_and_differ_by_seed(shape: Shape) -> None:
    models = [random_weights(shape, "cpu", torch.bfloat16, seed) for seed in (0, 0, 1)]
    first, again, other = (model.model.layers[0].mlp.up_proj.weight for model in models)
    assert first.dtype == torch.bfloat16
    assert tuple(first.shape) == (64, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.8 < float(first.detach().float().std()) * 32**0.5 < 1.2


@pytest.mark.parametrize(
    ("shape", "n_parameters"), zip(SHAPES, (1_235_814_400, 6_738_415_616), strict=True)
)
def test_a_large_model_is_made_where_it_runs(shape: Shape, n_parameters: int) -> None:
    """On "meta", where nothing takes memory: a copy on the CPU would be 27 GB of the larger."""
    parameters = list(random_weights(shape, "meta", torch.bfloat16).parameters())
    assert {str(weight.device) for weight in parameters} == {"meta"}
    assert {weight.dtype for weight in parameters} == {torch.bfloat16}
    assert sum(weight.numel() for weight in parameters) == n_parameters


@pytest.mark.parametrize(("flops", "changed"), [(0.0, 2), (1e18, 8)])
def test_as_many_positions_change_as_the_time_allows(
    tiny_model: Any, flops: float, changed: int
) -> None:
    case = fitting_case(tiny_model, "resid_pre", TINY_SIZES, flops)
    assert case.lengths == (TINY_SIZES.length, changed)


def test_the_matrix_rate_takes_a_device_and_a_type() -> None:
    assert machine.matrix_rate(64, 2, device="cpu", dtype=torch.bfloat16) > 0
    assert machine.clock("cpu") <= machine.clock()
    assert "thread" in machine.device_name("cpu")
