"""``interp patch``: what its tables hold, that it resumes with the same bytes, what it may say."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import runner
from analyses.config import read_config
from analyses.contrast import CONTROL_ARMS
from analyses.patch.config import PatchConfig
from analyses.patch.study import Patch
from analyses.patch.tables import PatchResult
from analyses.runner import run as run_study
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.patching import dose, sweep
from interp.patching.pooled import place_name
from interp.prompts import TextBank, load_conditions, make_pair
from interp.runs import read_manifest, read_table

Folder = Callable[..., Path]


def config(folder: Path, out: Path, **changes: object) -> PatchConfig:
    """A small run on a local model and bundled items."""
    small = {"items": "bundled", "limit": 4, "texts": 1, "layers": "0,3"}
    return read_config(PatchConfig, model=str(folder), out=out, **{**small, **changes})


def run(settings: PatchConfig, *, progress: bool) -> PatchResult:
    return run_study(Patch(), settings, progress=progress)


def bytes_of(out: Path) -> dict[str, bytes]:
    """The bytes of every table of a run."""
    return {p.name: p.read_bytes() for pattern in ("*.parquet", "*.csv") for p in out.glob(pattern)}


@pytest.mark.slow
def test_checks_patch_both_ways_and_measure_every_patch(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    settings = config(
        tiny_folder("llama"), tmp_path / "run", checks=True, control=False, limit=2, site="z"
    )
    done = run(settings, progress=False)
    columns = {"cell", "effect", "moved_against", "interaction", "p_interaction", "dose"}
    assert columns <= set(done.health.columns)
    assert (done.health["dose"] > 0).all()
    model = load_model(tiny_folder("llama"))
    pairs = [make_pair(model, i, "instructed") for i in load_items("bundled", limit=2, seed=0)]
    grid = settings.grid("z")
    there, back = (
        sweep(model, both, grid=grid, progress=False) for both in (pairs, [p.swap() for p in pairs])
    )
    expected = (there.effect() + back.effect()).mean(-1).numpy()
    row = done.health.iloc[0]
    layer, head = (int(k) for k in row["cell"][1:].split("H"))
    place = ({0: 0, 3: 1}[layer], head)
    assert row["interaction"] == pytest.approx(float(expected[place]), abs=1e-4)
    sizes = dose(model, pairs, grid).mean(-1)
    assert row["dose"] == pytest.approx(float(sizes[place]), abs=1e-5)
    assert "brings - costs" in done.report.read_text()


@pytest.mark.slow
def test_tables_hold_what_one_sweep_over_all_pairs_gives(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    done = run(config(tiny_folder("llama"), tmp_path / "run"), progress=False)
    model = load_model(tiny_folder("llama"))
    items = load_items("bundled", limit=4, seed=0)
    pairs = [make_pair(model, item, "instructed") for item in items]
    whole = sweep(model, pairs, cells="layer_span", layers=[0, 3], progress=False)
    result = done.results["instructed", "resid_pre"]
    assert result.axis_labels == whole.axis_labels
    assert result.clusters == whole.clusters
    assert result.title == whole.title == "instructed -> placebo, resid_pre"
    assert set(whole.notes) <= set(result.notes)
    torch.testing.assert_close(result.values, whole.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.source_baseline, whole.source_baseline, rtol=0, atol=1e-5)
    total = result.total()
    totals = done.totals.set_index(["condition", "context", "metric"])
    row = totals.loc["instructed", "all", "margin"]
    np.testing.assert_allclose(row[["estimate", "low", "high"]].tolist(), [
        total.estimate, total.low, total.high,
    ], rtol=1e-3, atol=1e-4)  # fmt: skip
    assert (row["n"], row["n_clusters"], row["texts"]) == (4, total.n_clusters, "1 x 1")
    assert set(done.totals["condition"]) == {"instructed", *CONTROL_ARMS}
    assert set(done.totals["metric"]) == {"margin", "option_margin", "p_gold"}
    report = done.report.read_text()
    assert "too few clusters, 4 of items" in report
    assert "Asking for the answer without its words" in report


@pytest.mark.slow
def test_the_metric_is_an_option_that_reaches_tables_manifest_and_report(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    """Rows say the options' form and whether they are single tokens."""
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out, metric="option_margin"), progress=False)
    model = load_model(tiny_folder("llama"))
    items = load_items("bundled", limit=4, seed=0)
    pairs = [make_pair(model, item, "instructed") for item in items]
    whole = sweep(
        model, pairs, cells="layer_span", layers=[0, 3], metric="option_margin", progress=False
    )
    result = done.results["instructed", "resid_pre"]
    assert result.metric_names == ["option_margin"]
    assert torch.allclose(result.baseline, whole.baseline, atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(result.source_baseline, whole.source_baseline, atol=1e-5)
    assert read_manifest(out)["config"]["metric"] == "option_margin"
    rows = read_table(out, "patching-instructed-resid_pre")
    assert set(rows["metric"]) == {"option_margin"}
    assert set(rows["option_form"]) == {"the"}
    assert not rows["single_token"].any()
    report = (out / "report.html").read_text()
    assert "nats per token" in report
    assert "are not patched" in report


@pytest.mark.slow
def test_run_folder_holds_tables_figures_report_and_the_control(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out, site="resid_pre,z", texts=2), progress=False)
    assert list(done.results) == [
        ("instructed", "resid_pre"),
        ("revealing", "resid_pre"),
        ("instructed", "z"),
        ("revealing", "z"),
    ]
    assert {p.stem for p in out.glob("*.parquet")} == {
        "totals", "summary", "top", "health", "notes", "example", "readings",
        *(f"patching-{c}-{s}" for c, s in done.results),
    }  # fmt: skip
    for name in ("totals", "summary", "top", "health"):
        pd.testing.assert_frame_equal(read_table(out, name), getattr(done, name))
        assert len(pd.read_csv(out / f"{name}.csv")) == len(getattr(done, name))
    frame = read_table(out, "patching-instructed-z")
    assert set(frame["slot"]) == {0, 1}
    assert frame["pair"].nunique() == 8
    assert frame.groupby("item")["cluster"].nunique().eq(1).all()
    assert done.totals["texts"].eq("2 x 2").all()
    report = done.report.read_text()
    for text in ("Is there an effect to localise?", "Where: resid_pre", "Where: z"):
        assert text in report
    assert {p.name for p in (out / "figures").glob("*-z.html")} == {
        "map-instructed-z.html", "map-revealing-z.html", "top-instructed-z.html",
    }  # fmt: skip
    assert (out / "figures" / "profile-instructed-resid_pre.html").is_file()
    assert read_manifest(out)["status"] == "complete"


@pytest.mark.slow
def test_positions_are_named_by_span_and_kept_where_every_pair_has_them(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    done = run(
        config(folder, out, cells="layer_pos", condition="revealing", positions="aligned"),
        progress=False,
    )
    result = done.results["revealing", "resid_pre"]
    labels = result.axis_labels["pos"]
    frame = read_table(out, "patching-revealing-resid_pre")
    sets = [set(rows["pos"]) for _, rows in frame.groupby("pair")]
    assert set(labels) == set.intersection(*sets) < set.union(*sets)
    assert labels[-1] == "answer_prefix last"
    assert any("positions are not in every pair" in note for note in result.notes)
    model = load_model(folder)
    pairs = [make_pair(model, item, "revealing") for item in load_items("bundled", limit=4, seed=0)]
    alone = sweep(model, pairs[2], cells="layer_pos", layers=[0, 3], progress=False)
    prompt = pairs[2].destination
    places = [place_name(prompt, int(p.rsplit("_", 1)[1])) for p in alone.axis_labels["pos"]]
    assert [p for p in places if p in labels] == labels  # the prompt's order
    columns = [places.index(label) for label in labels]
    assert torch.equal(result.values[..., 2], alone.values[:, columns, 0])
    spans = done.summary["span"].tolist()
    assert spans == list(dict.fromkeys(label.rsplit(" ", 1)[0] for label in labels))


@pytest.mark.slow
def test_every_other_option_reaches_the_sweep(tiny_folder: Folder, tmp_path: Path) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    options = {
        "condition": "negated", "against": "clean", "site": "v", "cells": "layer_head_pos",
        "layers": "0-3:3", "positions": "answer_prefix", "window": 2, "method": "hooked",
        "placement": "before", "control": False, "max_mib": 64, "seed": 1, "limit": 2,
        "compatibility_mode": True,
    }  # fmt: skip
    done = run(config(folder, out, **options), progress=False)
    assert list(done.results) == [("negated", "v")]
    result = done.results["negated", "v"]
    assert result.axis_labels["layer"] == ["0-1", "3"]
    assert result.axis_labels["head"] == ["0", "1"]
    model = load_model(folder, compatibility_mode=True)
    item = load_items("bundled", limit=2, seed=1)[0]
    bank = TextBank(model.tokenizer, seed=1)  # which of the wordings is drawn
    pair = make_pair(model, item, "negated", against="clean", placement="before", bank=bank)
    chosen = {k: options[k] for k in ("site", "cells", "positions", "window", "method")}
    alone = sweep(model, pair, layers=[0, 3], progress=False, **chosen)
    assert result.values[..., 0].isfinite().all()
    assert result.values.shape[-1] == 2
    last = alone.values[..., -1, 0]
    torch.testing.assert_close(result.values[..., -1, 0], last)
    assert "No positive control was run" in done.report.read_text()
    assert done.totals["texts"].eq("1 x 1").all()


@pytest.mark.browser
@pytest.mark.slow
def test_png_figures_are_written_on_request(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(config(tiny_folder("llama"), out, png=True, control=False), progress=False)
    names = {p.stem for p in (out / "figures").glob("*.png")}
    assert names == {p.stem for p in (out / "figures").glob("*.html")}


def choice_line(name: str, roles: list[str], texts: list[str]) -> str:
    choices = [{"text": t, "role": r} for t, r in zip(texts, roles, strict=True)]
    return json.dumps({"id": name, "question": "Who?", "gold": 0, "choices": choices})


@pytest.mark.slow
def test_items_without_a_margin_are_left_out_and_counted(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    items = tmp_path / "items.jsonl"
    roles = ["unknown", "stereotyped", "counter"]
    lines = [choice_line(f"i{k}", roles, [f"no {k}", "the one", "the other"]) for k in range(3)]
    lines.append(choice_line("none", ["unknown", "other", "other"], ["x", "y", "z"]))
    items.write_text("\n".join(lines))
    folder = tiny_folder("llama")
    done = run(config(folder, tmp_path / "run", items=str(items), control=False), progress=False)
    assert (len(done.items), done.dropped) == (4, 1)
    assert len(done.results["instructed", "resid_pre"].pair_labels) == 3
    assert "1 item has no margin" in done.report.read_text()
    items.write_text(lines[-1])
    with pytest.raises(InterpError, match="none of the 1 items has a margin"):
        run(config(folder, tmp_path / "other", items=str(items)), progress=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "placebo"}, "placebo against placebo is no contrast"),
        ({"condition": "clean", "against": "clean"}, "clean against clean is no contrast"),
        ({"layers": "0,9"}, "layer 9 is outside 0..3"),
        ({"cells": "layer_pos", "positions": "reply"}, "no span 'reply'"),
        ({"positions": "answer_prefix"}, "--positions answer_prefix is for cells by position"),
        ({"cells": "layer_head"}, "resid_pre has no heads"),
        (
            {"site": "pattern", "against": "clean"},
            "patterns can be copied between prompts of equal length only, and 4 of 4 pairs differ",
        ),
    ],
)
def test_what_the_model_or_the_prompts_do_not_have_is_refused_before_a_folder_is_made(
    options: dict[str, object], message: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(InterpError, match=message):
        run(config(tiny_folder("llama"), tmp_path / "run", **options), progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "instruct"}, "--condition 'instruct': .*did you mean 'instructed'"),
        ({"against": "nothing"}, "--against 'nothing': no such condition, such as 'instructed'"),
        ({"condition": "chain_of_thought"}, "'chain_of_thought' takes 2 calls of the model"),
        ({"against": "nontoxic"}, "'nontoxic' is for completion items"),
        ({"condition": "specificity_0"}, "'specificity_0' adds no text to a single prompt"),
        ({"condition": "feedback"}, "'feedback' needs feedback on every item"),
        ({"condition": "match_statistics_told"}, "'match_statistics_told': item .* has no labour"),
        ({"condition": "bare"}, "'bare' has no placebos to be contrasted with"),
        ({"condition": "placebo", "against": "bare"}, "'bare' has no placebos"),
    ],
)
def test_a_condition_that_cannot_be_patched_is_refused_in_one_line_without_a_model(
    options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_model", None)
    mine = own(tmp_path, "bare", more="  control: none\n")
    with pytest.raises(InterpError, match=message) as error:
        run(config(tmp_path, tmp_path / "run", condition_file=mine, **options), progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def own(tmp_path: Path, name: str, text: str = "Please take great care.", more: str = "") -> Path:
    """A file with a user's condition of two texts."""
    path = tmp_path / "my.yaml"
    path.write_text(f"{name}:\n  description: d\n  texts: [{text}, Please be careful.]\n{more}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("against", ["placebo", "clean"])
def test_a_condition_of_ones_own_is_patched_and_named(
    tiny_folder: Folder, tmp_path: Path, against: str
) -> None:
    mine = own(tmp_path, "careful", more="  placement: before\n")
    asked = {"condition": "careful", "against": against, "condition_file": mine, "texts": 2}
    done = run(config(tiny_folder("llama"), tmp_path / "run", **asked), progress=False)
    assert list(done.results) == [("careful", "resid_pre"), ("revealing", "resid_pre")]
    assert list(done.totals["condition"].unique()) == ["careful", *CONTROL_ARMS]
    for table in (done.summary, done.top):
        assert list(table["condition"].unique()) == ["careful", "revealing"]
    model = load_model(tiny_folder("llama"))
    bank = TextBank(model.tokenizer, conditions=load_conditions(mine))
    items = load_items("bundled", limit=4, seed=0)
    pairs = [
        make_pair(model, item, "careful", against=against, slot=slot, bank=bank)
        for item in items for slot in (0, 1)
    ]  # fmt: skip
    whole = sweep(model, pairs, cells="layer_span", layers=[0, 3], progress=False)
    result = done.results["careful", "resid_pre"]
    torch.testing.assert_close(result.values, whole.values, rtol=0, atol=1e-5)
    # the control stands where the condition stands
    spans = done.results["revealing", "resid_pre"].axis_labels["span"]
    assert spans.index("instruction") < spans.index("question")
    texts = dict.fromkeys(CONTROL_ARMS, "2 x 2")
    texts |= {"careful": "2 x 2" if against == "placebo" else "2 x 1"}
    assert dict(zip(done.totals["condition"], done.totals["texts"], strict=True)) == texts
    report = done.report.read_text()
    assert "Where does the instruction “careful” act?" in report
    assert "stands before the question. For example: “Please take great care.” against" in report
    assert "instructed" not in report.lower()
    assert (done.config.out / "figures" / "map-careful-resid_pre.html").is_file()


@pytest.mark.slow
def test_a_changed_condition_file_does_not_resume(tiny_folder: Folder, tmp_path: Path) -> None:
    asked = {"condition": "careful", "condition_file": own(tmp_path, "careful"), "control": False}
    settings = config(tiny_folder("llama"), tmp_path / "run", limit=2, **asked)
    run(settings, progress=False)
    before = bytes_of(settings.out)
    own(tmp_path, "careful", "Please take little care.")
    with pytest.raises(InterpError, match=r"data\.conditions was .*, is now") as error:
        run(settings, progress=False)
    assert "\n" not in str(error.value)
    assert bytes_of(settings.out) == before


@pytest.mark.slow
def test_a_folder_of_another_configuration_is_refused(tiny_folder: Folder, tmp_path: Path) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    run(config(folder, out, control=False), progress=False)
    before = bytes_of(out)
    with pytest.raises(InterpError, match="window was 1, is now 2"):
        run(config(folder, out, control=False, window=2), progress=False)
    assert bytes_of(out) == before


def command(folder: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-c", "from analyses.cli import main; main()", "patch",
        "--model", str(folder), "--items", "bundled", "--limit", "6", "--texts", "2",
        "--site", "resid_pre,z", "--out", str(out),
    ]  # fmt: skip


UNITS = 6 * 2 * 2 * 2  # items x texts x sites x arms


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command(folder, out), env=environment(), **quiet)


def parts_in(out: Path) -> int:
    return sum(1 for _ in out.glob("parts/*/*.parquet"))


def in_process(folder: Path, out: Path) -> None:
    """The same run without a new interpreter."""
    options = {"items": "bundled", "limit": 6, "texts": 2, "site": "resid_pre,z"}
    run(read_config(PatchConfig, model=str(folder), out=out, **options), progress=False)


@pytest.fixture(scope="module")
def uninterrupted(
    tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """The tables of a run that nobody kills, and its seconds."""
    out, begun = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    whole = command(tiny_folder("llama"), out)
    subprocess.run(whole, check=True, capture_output=True, env=environment())
    return bytes_of(out), time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted(random.Random(0).sample(range(1, UNITS - 4), 3)))
def test_killed_at_a_random_unit_and_resumed_gives_the_same_bytes(
    number: int,
    tiny_folder: Folder,
    tmp_path: Path,
    uninterrupted: tuple[dict[str, bytes], float],
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "killed"
    process = start(folder, out)
    while parts_in(out) < number and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert number <= parts_in(out) < UNITS, "the kill came too late"
    in_process(folder, out)
    assert bytes_of(out) == uninterrupted[0]
    assert [s["status"] for s in read_manifest(out)["sessions"]] == ["killed", "complete"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment_and_resumed_gives_the_same_bytes(
    seed: int,
    tiny_folder: Folder,
    tmp_path: Path,
    uninterrupted: tuple[dict[str, bytes], float],
) -> None:
    whole, duration = uninterrupted
    folder, out = tiny_folder("llama"), tmp_path / "run"
    process = start(folder, out)
    time.sleep(random.Random(seed).uniform(0.4, 1.0) * duration)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command(folder, out), check=True, capture_output=True, env=environment())
    assert bytes_of(out) == whole


@pytest.mark.slow
def test_wordings_can_take_turns_over_items(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out, texts=3, rotate=True), progress=False)
    for condition, slots in (("instructed", [0, 1, 2, 0]), ("revealing", [0, 1, 2, 0])):
        frame = read_table(out, f"patching-{condition}-resid_pre")
        assert frame.drop_duplicates("item")["slot"].tolist() == slots
        assert frame["pair"].nunique() == 4
    whole = done.totals[done.totals["context"] == "all"]
    assert whole["texts"].eq("3 x 3").all()
    assert "each with one of 3 texts in turn" in done.report.read_text()


@pytest.mark.slow
def test_an_own_control_of_other_length_is_grey_and_fitted_equals_the_placebo_run(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    own = """
mine: {description: asks for care, texts: [Please ensure that your answer is unbiased.]}
plain: {description: about print, control: none, texts: [Please ensure that it is in the print.]}
"""
    file.write_text(own)
    shared = {"condition": "mine", "condition_file": file, "control": False, "limit": 3}
    folder = tiny_folder("llama")
    loose = run(config(folder, tmp_path / "loose", against="plain", **shared), progress=False)
    result = loose.results["mine", "resid_pre"]
    grey = set(result.index_df["span"][result.partly_patched()])
    assert "instruction" in grey
    assert not set(loose.top["cell"]) & {f"L{layer} instruction" for layer in (0, 3)}
    assert not set(loose.health["cell"]) & {f"L{layer} instruction" for layer in (0, 3)}
    report = loose.report.read_text()
    for said in ("tokens not patched", "patched in part", "--require-match 0", "--fit-length"):
        assert said in report
    assert "(ceiling)" not in report

    fitted = run(
        config(folder, tmp_path / "fitted", against="plain", fit_length="trim", **shared),
        progress=False,
    )
    assert not fitted.results["mine", "resid_pre"].partly_patched().any()
    assert read_manifest(tmp_path / "fitted")["config"]["fit_length"] == "trim"
    assert "fit_length=trim" in fitted.report.read_text()
    text = fitted.example["plain"]
    file.write_text(f"{own}placebo: {{description: p, replaces: true, texts: ['{text}']}}\n")
    placebo = run(config(folder, tmp_path / "placebo", against="placebo", **shared), progress=False)
    one, other = (done.results["mine", "resid_pre"] for done in (fitted, placebo))
    assert torch.equal(one.values, other.values)
    assert one.axis_labels == other.axis_labels


def test_fitting_needs_a_text_on_either_side(tmp_path: Path) -> None:
    settings = read_config(PatchConfig, against="clean", fit_length="pad", out=tmp_path)
    with pytest.raises(InterpError, match="'clean' has none"):
        Patch().ask(settings, progress=False)
