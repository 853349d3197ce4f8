"""``interp lens``: what its tables hold, that it resumes with the same bytes, what it may say."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyses.lens.study as lens_study
from analyses import cli
from analyses.lens import story
from analyses.lens.config import LensConfig
from analyses.lens.study import Lens
from analyses.lens.tables import LensResult
from analyses.runner import run as run_study
from analyses.totals import METRICS
from interp.data import load_items
from interp.errors import InterpError
from interp.lens import lens_conditions, lens_item, parting_layer, settled_layer
from interp.models import load_model
from interp.prompts import TextBank, load_conditions
from interp.runs import read_manifest, read_table
from interp.stats import Interval, interval_columns

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

Folder = Callable[..., Path]
NAN = float("nan")
TABLES = ("totals", "effects", "parting", "settled", "distances")


def config(folder: Path, out: Path, **changes: Any) -> LensConfig:
    """A small run on a local model and bundled items."""
    small = {"items": "bundled", "limit": 4, "texts": 2}
    return LensConfig(model=str(folder), out=out, **{**small, **changes})


def run(settings: LensConfig, *, progress: bool) -> LensResult:
    return run_study(Lens(), settings, progress=progress)


def careful(tmp_path: Path, text: str = "Please take great care.", more: str = "") -> Path:
    """A user's condition of two texts."""
    path = tmp_path / "my.yaml"
    path.write_text(f"careful:\n  description: d\n  texts: [{text}, Please be careful.]\n{more}")
    return path


def bytes_of(out: Path) -> dict[str, bytes]:
    """The bytes of every table of a run, and of its report."""
    patterns = ("*.parquet", "*.csv", "report.html", "figures/*.html")
    return {p.name: p.read_bytes() for pattern in patterns for p in out.glob(pattern)}


def test_the_run_holds_what_the_library_gives(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out), progress=False)
    model = load_model(tiny_folder("llama"))
    items = load_items("bundled", limit=4, seed=0)
    alone = lens_conditions(model, items, n_texts=2, n_control_texts=2, progress=False)
    pd.testing.assert_frame_equal(done.lens.frame, alone.frame)
    pd.testing.assert_frame_equal(read_table(out, "lens"), alone.frame)
    pd.testing.assert_frame_equal(done.settled, settled_layer(alone.frame))
    for name in ("instructed", "revealing"):
        expected = parting_layer(alone.arms(name), seed=0)
        parting = done.parting.set_index("contrast").loc[name]
        np.testing.assert_equal(parting["estimate"], expected.estimate)
        arms = alone.arms(name)
        total = done.totals.set_index(["condition", "context", "metric"]).loc[
            (name, "all", "margin")
        ]
        assert total["estimate"] == pytest.approx(arms.difference()[-1].mean(), rel=1e-4, abs=1e-5)
        assert (total["n"], total["texts"]) == (4, "2 x 2")
        effects = done.effects[done.effects["contrast"] == name]
        last = effects.iloc[-1]
        np.testing.assert_allclose(
            last[["estimate", "low", "high"]].astype(float),
            total[["estimate", "low", "high"]].astype(float),
            rtol=1e-3, atol=1e-4,
        )  # fmt: skip


def test_run_folder_holds_tables_figures_and_report(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out), progress=False)
    assert {p.stem for p in out.glob("*.parquet")} == {"lens", "readings", "example", *TABLES}
    for name in TABLES:
        assert len(pd.read_csv(out / f"{name}.csv")) == len(read_table(out, name))
    figures = {p.stem for p in (out / "figures").glob("*.html")}
    assert figures == {"effects", "levels", "options", "divergences"}
    report = done.report.read_text()
    for title in ("Is there an effect at the output?", "At which layer?", "When is the answer"):
        assert title in report
    assert read_manifest(out)["status"] == "complete"
    distances = done.distances.set_index(["contrast", "condition", "against"])
    null = distances.loc[("instructed", "placebo", "another placebo")]
    own = distances.loc[("instructed", "instructed", "placebo")]
    assert own["excess"] == pytest.approx(own["js"] - null["js"])


def test_interrupted_and_resumed_gives_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "stopped"
    original, seen = lens_study.lens_item, []

    def stops(*args: Any, **options: Any) -> pd.DataFrame:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(args[1].id)
        return original(*args, **options)

    monkeypatch.setattr(lens_study, "lens_item", stops)
    with pytest.raises(KeyboardInterrupt):
        run(config(folder, out), progress=False)
    computed = []

    def counted(*args: Any, **options: Any) -> pd.DataFrame:
        computed.append(args[1].id)
        return original(*args, **options)

    monkeypatch.setattr(lens_study, "lens_item", counted)
    run(config(folder, out), progress=False)
    assert len(computed) == 2
    assert not set(computed) & set(seen)
    run(config(folder, tmp_path / "whole"), progress=False)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert [s["status"] for s in read_manifest(out)["sessions"]] == ["interrupted", "complete"]


def choice_line(name: str, roles: list[str]) -> str:
    texts = [f"no {name}", "the one", "the other"]
    choices = [{"text": t, "role": r} for t, r in zip(texts, roles, strict=True)]
    return json.dumps({"id": name, "question": "Who?", "gold": 0, "choices": choices})


def test_items_without_a_margin_are_left_out_and_counted(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    items, folder = tmp_path / "items.jsonl", tiny_folder("llama")
    odd = choice_line("none", ["unknown", "other", "other"])
    roles = ["unknown", "stereotyped", "counter"]
    items.write_text("\n".join([*(choice_line(f"i{k}", roles) for k in range(3)), odd]))
    done = run(config(folder, tmp_path / "run", items=str(items), texts=1), progress=False)
    assert (len(done.items), done.lens.left_out) == (4, ("none",))
    assert done.lens.frame["item"].nunique() == 3
    report = done.report.read_text()
    assert "1 item has no margin" in report
    assert "With one text there are no two placebos" in report
    items.write_text(odd)
    with pytest.raises(InterpError, match="none of the 1 items has a margin"):
        run(config(folder, tmp_path / "other", items=str(items)), progress=False)
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_is_refused_before_a_folder_is_made(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    with pytest.raises(InterpError, match="'placebo' is what the others are contrasted with"):
        run(config(folder, out, condition="placebo"), progress=False)
    assert not out.exists()


def test_a_folder_of_another_configuration_is_refused(tiny_folder: Folder, tmp_path: Path) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    run(config(folder, out, texts=1), progress=False)
    before = bytes_of(out)
    with pytest.raises(InterpError, match="texts was 1, is now 2"):
        run(config(folder, out, texts=2), progress=False)
    assert bytes_of(out) == before


def test_a_condition_of_ones_own_is_read_beside_its_placebo_and_named(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    mine, out = careful(tmp_path, more="  turn: system\n"), tmp_path / "run"
    settings = config(tiny_folder("llama"), out, condition="careful", condition_file=mine)
    done = run(settings, progress=False)
    assert done.lens.contrasts == ("careful", "revealing")
    specs = load_conditions(mine)
    model = load_model(tiny_folder("llama"))
    item = load_items("bundled", limit=4, seed=0)[0]
    assert list(done.example) == ["careful", "placebo"]
    assert done.example["careful"] == "Please take great care."
    alone = lens_item(
        model, item, TextBank(model.tokenizer, conditions=specs).conditions(
            item, ["clean", "careful", "placebo"], n_control_texts=2
        ),
    )  # fmt: skip
    mixed = done.lens.frame[done.lens.frame["item"] == item.id]
    mixed = mixed[mixed["contrast"].isin(["", "careful"])].reset_index(drop=True)
    # one batch has more prompts than the other, and the last digits differ by processor
    pd.testing.assert_frame_equal(mixed, alone, rtol=1e-4, atol=1e-4)
    for table in (done.effects, done.distances):
        assert "careful" in set(table["contrast"])
        assert "instructed" not in set(table["contrast"])
    assert done.parting["contrast"].tolist() == ["careful", "revealing"]
    report = done.report.read_text()
    assert "When does the instruction “careful” change the answer?" in report
    assert "in the system turn: “Please take great care.” against" in report
    assert "The instruction “careful”: a difference of" in report
    assert "instructed" not in report.lower()
    assert "careful \\u2212 its placebo" in (out / "figures" / "effects.html").read_text()


def test_a_changed_condition_file_does_not_resume(tiny_folder: Folder, tmp_path: Path) -> None:
    options = {"condition": "careful", "condition_file": careful(tmp_path), "texts": 1, "limit": 2}
    settings = config(tiny_folder("llama"), tmp_path / "run", **options)
    run(settings, progress=False)
    before = bytes_of(settings.out)
    run(settings, progress=False)
    assert bytes_of(settings.out) == before
    careful(tmp_path, "Please take little care.")
    with pytest.raises(InterpError, match=r"data\.conditions was .*, is now") as error:
        run(settings, progress=False)
    assert "\n" not in str(error.value)
    assert bytes_of(settings.out) == before


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["interp", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_teaches_by_example_and_runs(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    assert run_cli(monkeypatch, "lens", "--help") == 0
    page = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "interp lens --items bbq:Age" in page
    out = tmp_path / "run"
    arguments = ["lens", "--model", tiny_folder("llama"), "--items", "bundled", "--limit", "2",
                 "--texts", "1", "--seed", "3", "--compatibility-mode", "--out", out]  # fmt: skip
    assert run_cli(monkeypatch, *arguments) == 0
    headline, report = capsys.readouterr().out.splitlines()
    assert headline.startswith("“instructed” against “placebo”: ")
    assert report == f"report: {out / 'report.html'}"
    stored = read_manifest(out)["config"]
    wanted = {
        "condition": "instructed",
        "limit": 2,
        "texts": 1,
        "seed": 3,
        "compatibility_mode": True,
        "items": "bundled",
    }
    assert {name: stored[name] for name in wanted} == wanted
    code = run_cli(monkeypatch, "lens", "--model", tiny_folder("llama"), "--items", "bundled",
                   "--condition", "placebo", "--out", tmp_path / "other")  # fmt: skip
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert error.startswith("interp: condition 'placebo' is what the others are contrasted with")


def totals(instructed: tuple[float, ...], revealing: tuple[float, ...], clusters: int = 10) -> Any:
    labels = {"against": "placebo", "context": "all"}
    rows = [
        {"condition": name, **labels, "metric": metric}
        | interval_columns(Interval(e, low, high, 10, clusters, texts=(6, 6)))
        for name, (e, low, high) in (("instructed", instructed), ("revealing", revealing))
        for metric in METRICS
    ]
    return pd.DataFrame(rows)


def effects(instructed: list[bool], revealing: list[bool], texts: int = 6) -> pd.DataFrame:
    rows = [
        {"contrast": name, "layer": layer, "clear": clear, "p_corrected": 0.01 if clear else 0.5}
        | interval_columns(
            Interval(float(layer), layer - 0.5, layer + 0.5, 10, 10, texts=(texts, texts))
        )
        for name, flags in (("instructed", instructed), ("revealing", revealing))
        for layer, clear in enumerate(flags)
    ]
    return pd.DataFrame(rows)


PARTS, NOWHERE = Interval(2.0, 1.0, 3.0, 10, 10), Interval(NAN, NAN, NAN, 10, 10, reason="why")
YES, NO = (1.0, 0.5, 1.5), (0.1, -0.4, 0.6)
SOME, NONE = [False, False, True, True], [False] * 4


def read(
    total: tuple[float, ...], control: tuple[float, ...], clear: list[bool], shown: list[bool],
    clusters: int = 10,
) -> str:  # fmt: skip
    parting = [
        {"contrast": name} | interval_columns(PARTS if given == YES else NOWHERE)
        for name, given in (("instructed", total), ("revealing", control))
    ]
    curves = story.read_curves(
        totals(total, control, clusters),
        effects(clear, shown),
        pd.DataFrame(parting),
        condition="instructed",
    )
    return " ".join(curves)


def test_curves_are_read_once_the_control_shows_something() -> None:
    text = read(YES, YES, SOME, SOME)
    assert "Revealing (a curve of copying): clear at layers 2-3" in text
    assert "Instructed: clear at layers 2-3, most at 3 (3.00 [2.50, 3.50] nats)" in text
    assert text.count("the runs part at layer 2 [1, 3]") == 2


@pytest.mark.parametrize(
    ("control", "shown", "clusters", "why"),
    [
        (NO, SOME, 10, "Naming the answer shows no effect here"),
        ((-1.0, -1.5, -0.5), SOME, 10, "Naming the answer shows no effect here"),
        (YES, SOME, 4, "Naming the answer shows no effect here"),
        (YES, NONE, 10, "control's curve shows nothing"),
    ],
)
def test_without_a_control_the_curve_of_the_instruction_is_not_read(
    control: tuple[float, ...], shown: list[bool], clusters: int, why: str
) -> None:
    text = read(YES, control, SOME, shown, clusters)
    assert why in text
    assert "Instructed" not in text


def test_when_nothing_differs_the_report_says_so() -> None:
    text = read(NO, YES, NONE, SOME)
    assert "no layer differs from the placebo with all layers corrected for" in text
    assert "part at layer 2 [1, 3]" in text.split("Instructed")[0]
    assert "the runs part" not in text.split("Instructed")[1]


def test_an_effect_on_the_way_that_the_output_does_not_keep_is_told_as_that() -> None:
    text = read(NO, YES, SOME, SOME)
    assert "Instructed: clear at layers 2-3" in text
    assert "At the output the verdict is undetermined, so no layer of parting is named" in text


@given(
    p=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    control=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    texts=st.integers(1, 8),
    total=st.sampled_from([YES, NO]),
)
def test_no_layer_is_named_that_is_not_in_its_family(
    p: list[float], control: list[float], texts: int, total: tuple[float, ...]
) -> None:
    table = effects([x < 0.05 for x in p], [x < 0.05 for x in control], texts)
    table = table.assign(p_corrected=[*p, *control])
    parting = pd.DataFrame(
        [{"contrast": name} | interval_columns(NOWHERE) for name in ("instructed", "revealing")]
    )
    read = story.read_curves(totals(total, YES), table, parting, condition="instructed")
    for said, corrected in zip(read, (control, p), strict=False):
        named = {
            layer
            for low, high in re.findall(r"(\d)(?:-(\d))?(?=[,\d -]*(?:, most at| \())", said)
            for layer in range(int(low), int(high or low) + 1)
        }
        assert all(corrected[layer] < 0.05 for layer in named)
        assert not (named and texts < 6)


@pytest.mark.parametrize(
    ("excess", "said"),
    [
        (
            (0.2, 0.1, 0.3),
            "more than two placebos from each other (over clusters of items, of these",
        ),
        ((0.1, -0.1, 0.3), "no more than any two sentences differ"),
        ((0.1, NAN, NAN), "a single cluster"),
        ((NAN, NAN, NAN), "no two placebos to compare"),
    ],
)
def test_a_distance_is_read_on_the_scale_of_two_placebos(
    excess: tuple[float, ...], said: str
) -> None:
    row = {"contrast": "instructed", "condition": "instructed", "against": "placebo"}
    row |= interval_columns(Interval(0.3, 0.2, 0.4, 10, 10), "js")
    row |= interval_columns(Interval(*excess, 10, 10), "excess")
    assert said in story.read_distances(pd.DataFrame([row]), condition="instructed")


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([90, 90, 80, 80], "the same number of tokens"),
        ([91, 90, 80, 83], "they differ by 2.0 on average and by 3 at most"),
    ],
)
def test_the_mismatch_of_lengths_is_told(lengths: list[int], said: str) -> None:
    rows = [("", "clean", 0, "a", 60, 0)]
    for k, contrast in enumerate(("instructed", "revealing")):
        for name, n in zip((contrast, "placebo"), lengths[2 * k :], strict=False):
            rows += [(contrast, name, 0, "a", n, layer) for layer in (0, 1)]
    columns = ["contrast", "condition", "slot", "item", "n_tokens", "layer"]
    assert said in story.read_matching(pd.DataFrame(rows, columns=columns))


@pytest.mark.browser
@pytest.mark.slow
def test_the_metric_is_an_option_that_reaches_effects_manifest_and_report(
    tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run(config(tiny_folder("llama"), out, metric="option_margin"), progress=False)
    frame = done.lens.frame
    last = frame[frame["layer"] == frame["layer"].max()]
    means = last.groupby(["contrast", "condition"])["option_margin"].mean()
    first = done.totals[done.totals["condition"] == "instructed"].iloc[0]
    assert (first["context"], first["metric"]) == ("all", "option_margin")
    difference = means["instructed", "instructed"] - means["instructed", "placebo"]
    assert first["estimate"] == pytest.approx(difference, abs=1e-5)  # float32
    assert read_manifest(out)["config"]["metric"] == "option_margin"
    assert "nats per token" in (out / "report.html").read_text()


@pytest.mark.browser
@pytest.mark.slow
def test_png_figures_are_written_on_request(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(config(tiny_folder("llama"), out, png=True, texts=1), progress=False)
    names = {p.stem for p in (out / "figures").glob("*.png")}
    assert names == {p.stem for p in (out / "figures").glob("*.html")}
