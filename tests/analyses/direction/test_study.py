"""``interp direction fit | show | transfer``: what they write, that they resume, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analyses import runner
from analyses.cli import build_app
from analyses.config import read_config
from analyses.direction.asked import short_names
from analyses.direction.config import DirectionConfig, TransferConfig
from analyses.direction.story import read_nulls, selected
from analyses.direction.study import FitDirection, TransferDirections
from analyses.direction.tables import DirectionResult
from interp.directions import load_direction
from interp.errors import InterpError
from interp.runs import read_manifest, read_table

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

Folder = Callable[..., Path]


def config(folder: Path, out: Path, **changes: Any) -> DirectionConfig:
    small = {"texts": "bundled:morality", "limit": 40, "shuffles": 9, "sites": "resid_post,mlp_out"}
    methods = "mean_difference,lda,statements"
    options = {"model": str(folder), "out": out, "methods": methods, **small, **changes}
    return read_config(DirectionConfig, **options)


def run(settings: DirectionConfig, *, progress: bool) -> DirectionResult:
    return runner.run(FitDirection(), settings, progress=progress)


def bytes_of(out: Path) -> dict[str, bytes]:
    names = [*out.glob("*.parquet"), *out.glob("*.csv"), *out.glob("directions/*")]
    return {path.name: path.read_bytes() for path in names}


def test_a_fit_writes_a_file_per_method_and_site_and_tables_that_agree_with_them(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out), progress=False)
    scores = read_table(out, "scores")
    for method in ("mean_difference", "lda", "statements"):
        for site in ("resid_post", "mlp_out"):
            stack = load_direction(out / "directions" / f"{method}-{site}.safetensors")
            rows = scores[(scores["method"] == method) & (scores["site"] == site)]
            np.testing.assert_array_equal(rows["auc"], stack.auc.estimate)
            np.testing.assert_array_equal(rows["p"], stack.shuffled.p)
            assert stack.facts.n_texts == len(done.texts) == 40
    assert len(pd.read_csv(out / "best.csv")) == 6
    assert set(read_table(out, "nulls")["null"]) == {"covariance", "contrast"}
    assert read_manifest(out)["status"] == "complete"
    report = done.report.read_text()
    assert "How well do the directions separate?" in report
    assert read_nulls(done.fits, selected(done.fits))[:40] in report
    assert {p.stem for p in (out / "figures").glob("*.html")} >= {"auc"}


def test_statements_are_shuffled_at_their_best_place_only(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    done = run(config(tiny_folder("llama"), tmp_path / "run"), progress=False)
    frame = done.fits.to_dataframe()
    assert frame[frame["method"] != "statements"]["p"].notna().all()
    shuffled = frame[(frame["method"] == "statements") & frame["p"].notna()]
    assert len(shuffled) == 1
    best = frame[frame["method"] == "statements"]["auc"].max()
    assert shuffled["auc"].iloc[0] == best


def test_a_second_run_of_the_same_fit_ends_with_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    run(config(folder, out), progress=False)
    first = bytes_of(out)
    run(config(folder, out), progress=False)
    run(config(folder, tmp_path / "other"), progress=False)
    assert bytes_of(out) == first == bytes_of(tmp_path / "other")


def test_show_names_method_site_texts_and_weights(tiny_folder: Folder, tmp_path: Path) -> None:
    done = run(config(tiny_folder("llama"), tmp_path / "run"), progress=False)
    path = tmp_path / "run" / "directions" / "lda-mlp_out.safetensors"
    facts = load_direction(path).describe().set_index("property")["value"]
    assert facts["method"] == "lda"
    assert facts["site"] == "mlp_out"
    assert facts["learned from"] == "40 texts of bundled:morality"
    assert facts["weights"] == done.card.fingerprint
    assert "9 shuffles" in facts["under shuffled labels"]
    printed = CliRunner().invoke(build_app(), ["direction", "show", str(path)])
    assert printed.exit_code == 0
    assert "bundled:morality" in printed.output


def test_transfer_writes_its_matrix(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "transfer"
    texts = "bundled:contrasts:tense,bundled:contrasts:number"
    asked = read_config(
        TransferConfig, model=str(tiny_folder("llama")), texts=texts, limit=30, out=out
    )
    done = runner.run(TransferDirections(), asked, progress=False)
    assert list(done.transfer.table().columns) == ["contrasts:tense", "contrasts:number"]
    pd.testing.assert_frame_equal(read_table(out, "transfer"), done.transfer.frame)
    matrix = pd.read_csv(out / "matrix.csv", index_col=0)
    np.testing.assert_allclose(matrix, done.transfer.table())
    assert list(matrix.index) == list(matrix.columns) == ["contrasts:tense", "contrasts:number"]
    assert "Does it transfer?" in done.report.read_text()


def test_sets_are_named_shortly_and_apart() -> None:
    names = ["bundled:morality", "crows-pairs:age", "ethics:a/b/cm_test.csv"]
    assert list(short_names(names).values()) == ["morality", "crows-pairs", "ethics"]
    two = ["crows-pairs:age", "crows-pairs:gender", "own.csv"]
    assert list(short_names(two).values()) == ["age", "gender", "own.csv"]
    assert list(short_names(["a/x.csv", "b/x.csv"]).values()) == ["a/x.csv", "b/x.csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "mean"}, "--methods 'mean': should be 'mean_difference'"),
        ({"sites": "resid"}, "--sites 'resid': should be 'resid_pre'"),
        ({"texts": "bundled:moral"}, "no bundled texts 'moral'"),
        ({"folds": 40}, "n_folds is 40"),
        ({"sites": "z"}, "--sites 'z'"),
    ],
)
def test_mistakes_are_one_line(
    tiny_folder: Folder, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        run(config(tiny_folder("llama"), tmp_path / "run", **changes), progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_set_that_cannot_be_split_is_named_before_a_model_is_loaded(tmp_path: Path) -> None:
    texts = "bundled:contrasts:tense,bundled:contrasts:number"
    asked = read_config(TransferConfig, texts=texts, limit=20, folds=40, out=tmp_path / "run")
    with pytest.raises(InterpError, match="bundled:contrasts:tense: n_folds is 40"):
        TransferDirections().ask(asked)


def test_missing_files_of_a_run_are_fitted_again_with_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    settings = config(tiny_folder("llama"), tmp_path / "run")
    run(settings, progress=False)
    before = bytes_of(settings.out)
    (settings.out / "directions" / "lda-mlp_out.safetensors").unlink()
    run(settings, progress=False)
    assert bytes_of(settings.out) == before


def test_a_tables_columns_are_named_on_the_command_line(tmp_path: Path) -> None:
    rows = ["sentence,verdict,pair"]
    for k in range(6):
        rows += [f"It was kind {k}.,fair,p{k}", f"It was not kind {k}.,unfair,p{k}"]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(rows))
    config = read_config(
        DirectionConfig,
        texts=str(path),
        text_column="sentence",
        label_column="verdict",
        group_column="pair",
        positive="fair",
    )
    asked = FitDirection().ask(config, progress=False)
    assert [text.label for text in asked.texts] == [1, 0] * 6
    assert len({text.group for text in asked.texts}) == 6
    with pytest.raises(InterpError, match=r"'label' is missing or empty \(fields: pair, sent"):
        FitDirection().ask(config.model_copy(update={"label_column": "label"}), progress=False)
