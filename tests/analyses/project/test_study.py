"""``interp project``: its tables against the library's own projections, resumption, its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import analyses.project.study as analysis
from analyses import runner
from analyses.cli import build_app
from analyses.config import read_config
from analyses.project.config import ProjectConfig
from analyses.project.study import Project
from analyses.project.tables import ProjectResult
from interp.activations import read_states
from interp.data import load_items, load_texts
from interp.directions import decompose, fit_direction, load_direction, project
from interp.errors import InterpError
from interp.models import load_model
from interp.prompts import TextBank, condition_prompt, load_conditions, make_pair
from interp.runs import read_manifest, read_table
from interp.runs.parquet import write_part

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

Folder = Callable[..., Path]
DERIVED = ("totals", "contrasts", "nulls", "contributors", "levels")
TABLES = (
    *DERIVED,
    "cells",
    "components",
    "null_directions",
    "example",
    "projections",
    "readings",
)


def config(folder: Path, out: Path, **changes: object) -> Any:
    small = {"items": "bundled", "limit": 6, "texts": 2, "positions": "last,question"}
    return read_config(ProjectConfig, model=str(folder), out=out, **{**small, **changes})


def run(settings: ProjectConfig, **options: Any) -> ProjectResult:
    return runner.run(Project(), settings, **options)


@pytest.fixture(scope="module")
def done(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> ProjectResult:
    out = tmp_path_factory.mktemp("project") / "run"
    options = {"components": "head,mlp_out,embedding"}
    return run(config(tiny_folder("llama"), out, **options), progress=False)


@pytest.fixture(scope="module")
def model(tiny_folder: Folder) -> Any:
    return load_model(tiny_folder("llama"))


def pairs_of(model: Any, condition: str = "instructed", slots: tuple[int, ...] = (0, 1)) -> Any:
    items = load_items("bundled", limit=6, seed=0)
    return [make_pair(model, item, condition, slot=k) for k in slots for item in items]


def test_contrasts_equal_those_of_the_librarys_projections(done: ProjectResult, model: Any) -> None:
    pairs = pairs_of(model)
    # a pair's prompts may go on with the first tokens that its options share
    found = project(
        model, pairs, done.direction, components=["resid_post", "head", "mlp_out", "embedding"],
        positions=[_last(model, p) for pair in pairs for p in (pair.source, pair.destination)],
        progress=False,
    )  # fmt: skip
    table = done.contrasts[
        (done.contrasts["position"] == "last") & (done.contrasts["condition"] == "instructed")
    ]
    frame = found.to_dataframe()
    cell = ["component", "layer", "head"]
    wide = frame.pivot_table(index=cell, columns="run", values="dot", sort=False)
    dots = (wide["source"] - wide["destination"]).rename("expected").reset_index()
    both = table.merge(dots, on=cell)
    assert len(both) == len(table) == 4 + 16 + 4 + 1
    np.testing.assert_allclose(both["dot"], both["expected"], atol=1e-3, rtol=1e-3)
    placebo = frame[frame["run"] == "destination"].groupby(cell, sort=False)["dot"].std(ddof=0)
    spread = both.set_index(cell).index.map(placebo)
    ok = both["component"] != "embedding"  # the last token is the same everywhere: no spread
    np.testing.assert_allclose(
        both["estimate"][ok], (both["dot"] / spread)[ok], rtol=1e-3, atol=1e-3
    )
    assert both["estimate"][~ok].isna().all()


def _last(model: Any, prompt: Any) -> int:
    """The position that ends the answer prefix itself."""
    prefix = "The single, most likely answer choice is"
    text = ""
    for k in range(prompt.spans["answer_prefix"].start, len(prompt)):
        text += prompt.str_tokens[k]
        if text.strip().endswith(prefix):
            return k
    raise AssertionError(text)


def test_contributors_add_up_to_the_contrast_of_the_best_layer(
    done: ProjectResult, model: Any
) -> None:
    best = done.direction.best_layer
    for condition in ("instructed", "revealing"):
        parts = done.contributors[done.contributors["condition"] == condition]
        cell = done.contrasts[
            (done.contrasts["condition"] == condition)
            & (done.contrasts["component"] == "resid_post")
            & (done.contrasts["layer"] == best)
            & (done.contrasts["position"] == "last")
        ].iloc[0]
        assert parts["estimate"].sum() == pytest.approx(cell["estimate"], abs=1e-3)
        assert parts["dot"].sum() == pytest.approx(cell["dot"], abs=1e-3)
    pair = pairs_of(model, slots=(0,))[0]
    names = decompose(model, pair, done.direction.best, progress=False).parts["label"]
    assert parts["label"].tolist() == names.tolist()


def test_positions_before_the_instruction_are_said_to_be_fixed_and_not_tested(
    done: ProjectResult,
) -> None:
    fixed = done.contrasts[done.contrasts["position"] == "question"]
    assert fixed["fixed"].all()
    assert float(fixed["dot"].abs().max()) < 1e-4
    assert fixed[["low", "high", "p_raw", "p_corrected", "p_null"]].isna().all(axis=None)
    assert not fixed["sure"].any()
    assert not done.contrasts.loc[done.contrasts["position"] == "last", "fixed"].any()
    assert set(done.nulls["position"]) == {"last"}
    assert set(done.contributors["position"]) == {"last"}
    report = done.report.read_text()
    assert "Here nothing can change: the instruction comes later" in report
    assert "which components, at “question”" not in report.lower()


def test_with_the_instruction_first_the_question_can_change(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    done = run(
        config(tiny_folder("llama"), tmp_path / "run", placement="before", limit=3,
               positions="question,instruction:last"),
        progress=False,
    )  # fmt: skip
    assert not done.contrasts["fixed"].any()
    assert float(done.contrasts["dot"].abs().max()) > 1e-2
    frame = read_table(tmp_path / "run", "projections")
    assert set(frame["placement"]) == {"before"}
    spans = frame[frame["position"] == "instruction:last"]
    assert "clean" not in set(spans["condition"])  # has none
    clean = done.levels[(done.levels["condition"] == "clean")]
    assert clean[clean["position"] == "instruction:last"]["dot"].isna().all()
    assert clean[clean["position"] == "question"]["dot"].notna().all()


def test_the_folder_holds_every_prompt_once_with_lists_named_by_cells(done: ProjectResult) -> None:
    out = done.config.out
    assert {p.stem for p in out.glob("*.parquet")} == set(TABLES)
    frame = read_table(out, "projections")
    assert len(frame) == 6 * 2 * (1 + 2 + 2 + 2 + 2)
    assert frame["item"].drop_duplicates().tolist() == [item.id for item in done.items]
    assert set(frame["round"]) == {0}
    assert frame.groupby("contrast")["slot"].max().to_dict() == {
        "clean": 0, "instructed": 1, "revealing": 1,
    }  # fmt: skip
    cells, parts = read_table(out, "cells"), read_table(out, "components")
    assert frame["dot"].map(len).eq(len(cells)).all()
    assert frame["parts"].map(len).eq(len(parts)).all()
    assert frame["dot"].iloc[0].dtype == np.float32
    for name in DERIVED:
        pd.testing.assert_frame_equal(read_table(out, name), getattr(done, name))
    assert {p.stem for p in (out / "figures").glob("*.html")} == {
        "contrast-last", "map-last", "contributors-last",
    }  # fmt: skip
    assert read_manifest(out)["status"] == "complete"


def test_nulls_have_three_kinds_and_the_same_unit(done: ProjectResult) -> None:
    counts = done.nulls.groupby("kind")["name"].nunique().to_dict()
    assert counts == {"covariance": 100, "contrast": 12, "placebo": 1}
    assert done.nulls["estimate"].notna().all()
    own = done.contrasts["component"] == "resid_post"
    tested = own & ~done.contrasts["fixed"] & (done.contrasts["condition"] == "instructed")
    assert done.contrasts.loc[tested, "p_null"].between(1 / 101, 1).all()
    assert done.contrasts.loc[~tested, "p_null"].isna().all()
    assert not done.contrasts.loc[~tested, "beyond"].any()


def test_a_nulls_contrast_and_p_are_those_of_its_projections(
    done: ProjectResult, model: Any
) -> None:
    vectors = load_file(done.config.out / "contrasts.safetensors")
    pairs = pairs_of(model)
    arms = {
        run: read_states(
            model,
            [getattr(pair, run) for pair in pairs],
            positions=[_last(model, getattr(pair, run)) for pair in pairs],
            progress=False,
        ).values
        for run in ("source", "destination")
    }
    for name in ("tense", "topic"):
        dots = {run: (states * vectors[name][:, None]).sum(-1) for run, states in arms.items()}
        shift = (dots["source"] - dots["destination"]).mean(-1)
        expected = shift / dots["destination"].std(-1, correction=0)
        found = done.nulls[done.nulls["name"] == name]["estimate"]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    drawn = done.nulls[done.nulls["kind"] == "covariance"]
    largest = drawn["estimate"].abs().groupby(drawn["name"]).max()
    rows = done.contrasts[
        (done.contrasts["component"] == "resid_post")
        & (done.contrasts["position"] == "last")
        & (done.contrasts["condition"] == "instructed")
    ]
    for row in rows.itertuples():
        assert row.p_null == pytest.approx((1 + (largest >= abs(row.estimate)).sum()) / 101)


def test_an_interrupted_run_resumes_with_the_same_bytes(
    done: ProjectResult, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"components": "head,mlp_out,embedding"}
    again = config(tiny_folder("llama"), tmp_path / "run", **options)
    rows, seen = analysis.read_item, []

    def stop(bench: Any, item: Any) -> pd.DataFrame:
        seen.append(item.id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return rows(bench, item)

    monkeypatch.setattr(analysis, "read_item", stop)
    with pytest.raises(KeyboardInterrupt):
        run(again, progress=False)
    monkeypatch.setattr(analysis, "read_item", rows)
    resumed = run(again, progress=False)
    for name in TABLES:
        whole = (done.config.out / f"{name}.parquet").read_bytes()
        assert (resumed.config.out / f"{name}.parquet").read_bytes() == whole, name


def test_a_part_of_an_older_version_is_not_counted(tiny_folder: Folder, tmp_path: Path) -> None:
    small = config(tiny_folder("llama"), tmp_path / "run", limit=2, texts=1, positions="last")
    run(small, progress=False)
    before = bytes_of(small.out)
    folder = tmp_path / "run" / "parts" / "projections"
    part = pq.read_table(next(folder.glob("*.parquet"))).replace_schema_metadata(None)
    write_part(folder / f"{'0' * 64}.parquet", part, "0" * 64)
    run(small, progress=False)
    assert bytes_of(small.out) == before


def careful(tmp_path: Path, text: str = "Please take great care.") -> Path:
    """A user's condition of two texts, which fixes where they stand."""
    path = tmp_path / "my.yaml"
    path.write_text(
        f"careful:\n  description: d\n  placement: before\n  texts: [{text}, Please be careful.]\n"
    )
    return path


def test_a_condition_of_ones_own_is_projected_beside_its_placebo_and_named(
    tiny_folder: Folder, tmp_path: Path, model: Any
) -> None:
    mine = careful(tmp_path)
    settings = config(
        tiny_folder("llama"), tmp_path / "run", condition="careful", condition_file=mine, limit=3
    )
    done = run(settings, progress=False)
    for table in (done.contrasts, done.contributors):
        assert list(table["condition"].unique()) == ["careful", "revealing"]
    assert {"clean", "careful", "placebo"} < set(done.levels["condition"])
    frame = read_table(settings.out, "projections")
    # the control stands where the condition stands: the question comes after both
    assert frame[frame["condition"] != "clean"]["placement"].eq("before").all()
    assert not done.contrasts["fixed"].any()
    assert done.nulls.groupby("kind")["name"].nunique()["placebo"] == 1
    own = (done.contrasts["condition"] == "careful") & (done.contrasts["component"] == "resid_post")
    assert done.contrasts.loc[own, "p_null"].notna().all()
    bank = TextBank(model.tokenizer, conditions=load_conditions(mine))
    prompts = [
        condition_prompt(model, item, condition)
        for item in done.items
        for condition in bank.conditions(item, ["careful", "placebo"], n_control_texts=2)
    ]
    states = read_states(model, prompts, positions="question", progress=False).values
    layer = done.direction.best_layer
    dots = (states[layer] @ done.direction[layer].vector).view(3, 2, 2).mean((0, 2))
    row = done.contrasts[own & (done.contrasts["position"] == "question")].set_index("layer")
    assert row.loc[layer, "dot"] == pytest.approx(float(dots[0] - dots[1]), abs=1e-3)
    report = done.report.read_text()
    assert "Does the instruction “careful” move the projection?" in report
    assert "before the question: “Please take great care.” against" in report
    assert "A contrast is careful minus placebo" in report
    assert "instructed" not in report.lower()
    figures = settings.out / "figures"
    assert "Careful \\u2212 placebo" in (figures / "map-last.html").read_text()


def test_a_changed_condition_file_does_not_resume(tiny_folder: Folder, tmp_path: Path) -> None:
    settings = config(
        tiny_folder("llama"), tmp_path / "run", condition="careful", limit=2, texts=1,
        condition_file=careful(tmp_path), positions="last",
    )  # fmt: skip
    run(settings, progress=False)
    careful(tmp_path, "Please take little care.")
    with pytest.raises(InterpError, match=r"data\.conditions was .*, is now") as error:
        run(settings, progress=False)
    assert "\n" not in str(error.value)


def test_a_direction_of_the_users_own_is_used_and_checked(
    done: ProjectResult, tiny_folder: Folder, tmp_path: Path
) -> None:
    path = done.config.out / "directions" / "morality.safetensors"
    given = run(
        config(tiny_folder("llama"), tmp_path / "a", direction=path, limit=3, positions="last"),
        progress=False,
    )
    assert given.direction.layers == load_direction(path).layers
    with pytest.raises(InterpError, match="other weights"):
        run(config(tiny_folder("gpt2"), tmp_path / "b", direction=path), progress=False)


def test_a_direction_is_its_files_content_not_the_texts_it_was_made_of(
    model: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    path, texts = tmp_path / "mine.safetensors", load_texts("bundled:morality", limit=40)
    small = config(
        tiny_folder("llama"), tmp_path / "run", direction=path, limit=2, texts=1, positions="last"
    )
    fit_direction(model, texts, n_shuffles=3, progress=False).save(path)
    first = run(small, progress=False)
    before = bytes_of(small.out)
    again = fit_direction(model, texts, method="lda", n_shuffles=3, progress=False)
    again.save(path)
    assert again.facts.data_hash == first.direction.facts.data_hash
    with pytest.raises(InterpError, match=r"data\.direction was .*, is now") as error:
        run(small, progress=False)
    assert "\n" not in str(error.value)
    with pytest.raises(InterpError, match="direction changed since the run"):
        runner.load(small.out)
    assert bytes_of(small.out) == before


def bytes_of(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in [*out.glob("*.parquet"), out / "report.html"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "mean"}, "cannot change"),
        ({"positions": "options:all"}, "do not line up"),
        ({"positions": "nowhere"}, "no span 'nowhere'"),
        ({"components": "z"}, "--components 'z': should be 'embedding'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tiny_folder: Folder, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InterpError, match=message):
        run(config(tiny_folder("llama"), tmp_path / "run", **options), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_direction_that_is_no_sum_of_parts_is_refused_before_anything_is_written(
    model: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    texts = load_texts("bundled:morality", limit=40)
    stack = fit_direction(model, texts, site="mlp_out", n_shuffles=1, progress=False)
    path = stack.save(tmp_path / "mlp.safetensors")
    with pytest.raises(InterpError, match="only the residual stream is a sum over layers"):
        run(config(tiny_folder("llama"), tmp_path / "run", direction=path), progress=False)
    assert not (tmp_path / "run").exists()


def test_the_command_hands_every_option_on(
    tiny_folder: Folder, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def keep(study: Any, config: ProjectConfig, **_: Any) -> None:
        seen.append(config)
        raise InterpError("seen")

    monkeypatch.setattr(runner, "run_and_tell", keep)
    folder, mine = str(tiny_folder("llama")), careful(tmp_path)
    path = fit_direction(model, load_texts("bundled:morality")).save(tmp_path / "d.safetensors")
    options = [
        "--model", folder, "--items", "bundled", "--condition", "careful",
        "--condition-file", str(mine), "--direction", str(path), "--components", "head",
        "--positions", "last,options", "--placement", "before", "--texts", "2", "--limit", "5",
        "--seed", "7", "--png", "--out", str(tmp_path / "run"), "--compatibility-mode",
    ]  # fmt: skip
    CliRunner().invoke(build_app(), ["project", *options])
    assert seen == [
        read_config(ProjectConfig,
            model=folder, items="bundled", condition="careful",
            condition_file=str(mine), direction=str(path), components="head", out=tmp_path / "run",
            positions="last,options", placement="before", texts=2, limit=5, seed=7, png=True,
            compatibility_mode=True,
        )
    ]  # fmt: skip


def test_a_bad_option_is_named() -> None:
    with pytest.raises(InterpError, match="--texts 0"):
        read_config(ProjectConfig, texts=0)
    with pytest.raises(InterpError, match="--placement 'within'"):
        read_config(ProjectConfig, placement="within")
