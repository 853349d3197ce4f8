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

from analyses import patch as analysis
from analyses import patch_story as story
from analyses.config import checked
from analyses.patch import PatchConfig, parse_layers, run
from analyses.patch_tables import place_name, whole_summary
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.patching import ALL, SweepResult, sweep
from interp.prompts import TextBank, TokenizedPrompt, load_conditions, make_pair
from interp.runs import read_manifest, read_table
from interp.stats import Interval

Folder = Callable[..., Path]
NAN = float("nan")


def config(folder: Path, out: Path, **changes: object) -> PatchConfig:
    """A small run on a local model and bundled items."""
    small = {"items": "bundled", "limit": 4, "layers": "0,3"}
    return checked(PatchConfig, model=str(folder), out=out, **{**small, **changes})


def bytes_of(out: Path) -> dict[str, bytes]:
    """The bytes of every table of a run."""
    return {p.name: p.read_bytes() for pattern in ("*.parquet", "*.csv") for p in out.glob(pattern)}


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
    row = done.totals.set_index(["condition", "context"]).loc["instructed", "all"]
    np.testing.assert_allclose(row[["effect", "low", "high"]].tolist(), [
        total.estimate, total.low, total.high,
    ])  # fmt: skip


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
        "totals", "summary", "top", *(f"patching-{c}-{s}" for c, s in done.results),
    }  # fmt: skip
    for name in ("totals", "summary", "top"):
        pd.testing.assert_frame_equal(read_table(out, name), getattr(done, name))
        assert len(pd.read_csv(out / f"{name}.csv")) == len(getattr(done, name))
    frame = read_table(out, "patching-instructed-z")
    assert set(frame["slot"]) == {0, 1}
    assert frame["pair"].nunique() == 8
    assert frame.groupby("item")["cluster"].nunique().eq(1).all()
    assert done.totals.set_index("context")["texts"].eq(2).all()
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


def test_place_names_count_within_the_span_and_the_last_position_is_last() -> None:
    spans = {"instruction": slice(0, 2), "template_1": slice(2, 5)}
    prompt = TokenizedPrompt(torch.arange(5), spans, tuple("abcde"), "abcde")
    names = [place_name(prompt, k) for k in range(5)]
    assert names == [
        "instruction +0", "instruction +1", "template_1 +0", "template_1 +1", "template_1 last",
    ]  # fmt: skip


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
    pair = make_pair(model, item, "negated", against="clean", placement="before")
    chosen = {k: options[k] for k in ("site", "cells", "positions", "window", "method")}
    alone = sweep(model, pair, layers=[0, 3], progress=False, **chosen)
    assert result.values[..., 0].isfinite().all()
    assert result.values.shape[-1] == 2
    last = alone.values[..., -1, 0]
    torch.testing.assert_close(result.values[..., -1, 0], last)
    assert "No positive control was run" in done.report.read_text()


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


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("0", (0,)),
        ("5, 0,10", (0, 5, 10)),
        ("0-3", (0, 1, 2, 3)),
        ("0-6:2", (0, 2, 4, 6)),
        ("1-5:3,4,4", (1, 4)),
    ],
)
def test_layers_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0-4:0", "0:2", "1.5", "1-2-3"])
def test_other_layers_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InterpError, match="layers are written") as error:
        parse_layers(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid_pre,edges"}, "--site 'edges': should be 'resid_pre'"),
        ({"site": ""}, "--site .*at least 1"),
        ({"cells": "layer"}, "--cells 'layer': should be 'layer_pos'"),
        ({"layers": "0..5"}, "layers are written 0,5,10 or 0-29 or 0-29:2, not '0..5'"),
        ({"window": 0}, "--window 0: should be greater than or equal to 1"),
        ({"method": "slow"}, "--method 'slow': should be 'exact' or 'hooked'"),
        ({"placement": "middle"}, "--placement 'middle'"),
        ({"max_mib": 0}, "--max-mib 0"),
    ],
)
def test_options_that_cannot_be_are_named_in_one_line(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InterpError, match=message) as error:
        checked(PatchConfig, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "placebo"}, "placebo against placebo is no contrast"),
        ({"condition": "clean", "against": "clean"}, "clean against clean is no contrast"),
        ({"layers": "0,9"}, "layer 9 is outside 0..3"),
        ({"cells": "layer_pos", "positions": "reply"}, "no span 'reply'"),
        ({"positions": "answer_prefix"}, "--positions answer_prefix is for cells by position"),
        ({"cells": "layer_head"}, "resid_pre has no heads"),
        ({"texts": 99}, "'instructed' has 15 texts, asked for 99: lower --texts"),
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
    monkeypatch.setattr(analysis, "load_model", None)
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
    for table in (done.totals, done.summary, done.top):
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
    report = done.report.read_text()
    assert "Where does the instruction “careful” act?" in report
    assert "stands before the question. For example: “Please take great care.” against" in report
    assert "instructed" not in report.lower()
    assert (done.config.out / "figures" / "map-careful-resid_pre.html").is_file()


def test_what_is_asked_about_is_the_text_on_either_side() -> None:
    asked = {
        ("careful", "placebo"): "careful",
        ("placebo", "careful"): "careful",
        ("clean", "negated"): "negated",
        ("negated", "careful"): "negated",
        ("placebo", "clean"): "instructed",
    }
    for (condition, against), name in asked.items():
        assert checked(PatchConfig, condition=condition, against=against).asked == name


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
    run(checked(PatchConfig, model=str(folder), out=out, **options), progress=False)


@pytest.mark.slow
def test_killed_at_three_random_units_and_resumed_gives_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "killed"
    for number in sorted(random.Random(0).sample(range(1, UNITS - 4), 3)):
        process = start(folder, out)
        while parts_in(out) < number and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert number <= parts_in(out) < UNITS, "the kill came too late"
    in_process(folder, out)
    in_process(folder, tmp_path / "whole")
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert [s["status"] for s in read_manifest(out)["sessions"]] == ["killed"] * 3 + ["complete"]


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_resumed_gives_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("llama")
    begun = time.monotonic()
    subprocess.run(
        command(folder, tmp_path / "whole"), check=True, capture_output=True, env=environment()
    )
    duration = time.monotonic() - begun
    generator = random.Random(1)
    for number in range(10):
        out = tmp_path / f"killed-{number}"
        process = start(folder, out)
        time.sleep(generator.uniform(0.4, 1.0) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(command(folder, out), check=True, capture_output=True, env=environment())
        assert bytes_of(out) == bytes_of(tmp_path / "whole"), f"run {number}"


def sweep_result(
    means: list[list[float]], *, n: int = 10, spans: list[str] | None = None
) -> SweepResult:
    """``means[layer][span]`` of every cell, with a little noise over pairs; the total is 1."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(*np.shape(means), n))
    labels = {
        "layer": [str(k) for k in range(len(means))],
        "span": spans or ["instruction", "answer_prefix"],
    }
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=torch.tensor(np.array(means)[..., None] + noise).float(),
        axis_names=["layer", "span"],
        index_df=index.to_frame(index=False),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.zeros(n),
        source_baseline=torch.ones(n),
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(n)],
        clusters=[f"c{k}" for k in range(n)],
        title="instructed -> placebo, resid_pre",
        notes=("a note",),
    )


def interval(estimate: float, low: float, high: float, clusters: int = 10) -> Interval:
    return Interval(estimate, low, high, 10, clusters, reason="" if low == low else "one cluster")


CLEAR = interval(1.0, 0.8, 1.2)


def test_summary_is_the_mean_over_a_span_and_its_share_of_the_total() -> None:
    results = {("instructed", "resid_pre"): sweep_result([[0.2, 0.0], [0.4, 0.0], [0.0, 0.9]])}
    summary = whole_summary(results).set_index("span")
    np.testing.assert_allclose(summary["effect"], [0.2, 0.3], atol=0.01)
    np.testing.assert_allclose(summary["share"], summary["effect"], atol=1e-6)
    assert summary["cells"].tolist() == [3, 3]
    assert summary["largest_cell"].tolist() == ["L1 instruction", "L2 answer_prefix"]
    assert ((summary["low"] < summary["effect"]) & (summary["effect"] < summary["high"])).all()


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (interval(0.5, 0.2, 0.8), "raises the margin"),
        (interval(-0.5, -0.8, -0.2), "lowers the margin"),
        (interval(0.1, -0.2, 0.4), "contains 0. No effect is shown, so there is none to localise"),
        (interval(0.5, 0.2, 0.8, clusters=4), "4 clusters of items are too few for a finding"),
        (interval(0.5, NAN, NAN, clusters=1), "one cluster, so nothing is claimed"),
    ],
)
def test_the_total_is_read_with_its_interval(total: Interval, said: str) -> None:
    text = story.read_total("instructed", "placebo", total)
    assert said in text
    assert ("raises" in text or "lowers" in text) == (said.endswith("the margin"))


def test_surviving_cells_are_named_once_effect_and_control_are_there() -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    control = sweep_result([[0.0, 0.0], [0.0, 2.0]])
    total, *rest = story.read_site("instructed", result, CLEAR, control, CLEAR)
    assert total.startswith("Positive control: 1 of 4 cells differ from zero")
    assert "L1 answer_prefix +2.0" in total
    assert rest[0].startswith("Instructed: 2 of 4 cells")
    assert "L0 instruction +0.9" in rest[0]
    assert rest[1] == "A note."


@pytest.mark.parametrize(
    ("total", "control", "control_total", "why"),
    [
        (CLEAR, None, None, "No positive control was run"),
        (CLEAR, [[0.0, 0.0], [0.0, 0.0]], CLEAR, "map shows nothing"),
        (CLEAR, [[0.0, 0.0], [0.0, 2.0]], interval(0.2, -0.1, 0.5), "control shows no effect"),
        (CLEAR, [[0.0, 0.0], [0.0, 2.0]], interval(-1.0, -1.2, -0.8), "control shows no effect"),
        (interval(0.1, -1, 1), [[0.0, 0.0], [0.0, 2.0]], CLEAR, "Without an effect to localise"),
        (interval(1, 0.8, 2, 4), [[0.0, 0.0], [0.0, 2.0]], CLEAR, "Without an effect to localise"),
    ],
)
def test_no_cell_of_a_map_is_named_without_control_and_effect(
    total: Interval, control: list[list[float]] | None, control_total: Interval | None, why: str
) -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    judged = None if control is None else sweep_result(control)
    text = " ".join(story.read_site("instructed", result, total, judged, control_total))
    assert why in text
    assert "L0 instruction" not in text


def test_the_ceiling_alone_is_not_something_that_a_map_shows() -> None:
    control = sweep_result([[0.0, 2.0], [0.0, 2.0]], spans=["instruction", ALL])
    result = sweep_result([[0.9, 0.0]])
    text = " ".join(story.read_site("instructed", result, CLEAR, control, CLEAR))
    assert "map shows nothing" in text


def test_too_few_clusters_for_any_cell_is_said() -> None:
    control = sweep_result([[1.0, 2.0]], n=4)
    text = story.read_site("instructed", sweep_result([[0.9, 0.0]]), CLEAR, control, CLEAR)[0]
    assert "4 clusters are too few for any cell" in text
