"""Runs side by side: what is compared is the same quantity, and nothing is compared silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analyses
from analyses.comparison import OWN, compare, comparison_rows
from analyses.config import RULES
from analyses.overview import find_runs, read_facts
from interp.errors import InterpError
from interp.runs import open_run
from interp.stats import Interval, cluster_mean, interval_columns

VALUES = {"margin": [0.1, 0.3, 0.2, 0.4], "p_gold": [0.0, 0.1, 0.2, 0.1]}


def interval(values: list[float], shift: float) -> Interval:
    return cluster_mean(np.array(values) + shift, ["a", "b", "c", "d"])


def totals(condition: str = "instructed", *, shift: float = 0.0) -> pd.DataFrame:
    rows = [
        {
            "condition": name,
            "against": "placebo",
            "metric": metric,
            **interval_columns(interval(v, shift)),
        }
        for name in (condition, "revealing")
        for metric, v in VALUES.items()
    ]
    return pd.DataFrame(rows)


def make_run(
    path: Path,
    table: pd.DataFrame,
    *,
    study: str = "lens",
    model: str = "small",
    name: str = "totals",
    rules: dict[str, Any] = RULES,
    headline: str = "“instructed” against “placebo”: 0.25 nats in the margin; an effect.",
    **config: Any,
) -> Path:
    """A finished run with one derived table."""
    asked = {"items": "bbq:Age", "condition": "instructed", "metric": "margin", **config}
    with open_run(
        path, study=study, config=asked, model={"name": model}, rules=rules, threads=1
    ) as run:
        run.save_table("measured", pd.DataFrame({"item": ["one"]}))
        run.save_table(name, table)
        run.save_text(f"{name}.csv", table.to_csv(index=False))
        run.record_headline(headline)
    return path


def test_runs_of_two_models_stand_side_by_side(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "one", totals()),
        make_run(tmp_path / "two", totals(shift=1.0), model="large"),
    ]
    wide = analyses.compare(runs)
    assert list(wide.columns) == ["condition", "against", "metric", "one", "two"]
    assert len(wide) == 4
    first = wide[(wide["condition"] == "instructed") & (wide["metric"] == "margin")].iloc[0]
    assert first["one"] == interval(VALUES["margin"], 0.0)
    assert first["two"].estimate == pytest.approx(1.25)
    assert "1.250 [" in wide._repr_html_()
    rows = comparison_rows(runs)
    assert len(rows) == 8
    assert set(rows["model"]) == {"small", "large"}
    assert {"run", "items_asked", "estimate", "low", "high"} < set(rows)


def test_each_runs_own_condition_is_matched_with_the_others(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "asked", totals()),
        make_run(tmp_path / "negated", totals("negated"), condition="negated"),
    ]
    wide = compare(runs)
    assert list(dict.fromkeys(wide["condition"])) == [OWN, "revealing"]
    assert (wide[["asked", "negated"]] != "-").all(axis=None)
    assert set(comparison_rows(runs)["condition"]) == {OWN, "revealing"}


def test_rows_that_a_run_lacks_are_dashes_and_what_differs_stands_beside(tmp_path: Path) -> None:
    best = totals().drop(columns="against").assign(layer=3, verdict="effect")
    best = best[
        [
            "condition",
            "metric",
            "layer",
            *[c for c in best if c not in ("condition", "metric", "layer")],
        ]
    ]
    other = best.assign(layer=[5, 3, 3, 3], verdict="undetermined").iloc[:3]
    runs = [make_run(tmp_path / "one", best), make_run(tmp_path / "two", other)]
    wide = compare(runs)
    assert list(wide.columns) == [
        "condition", "metric", "one", "one: verdict", "one: layer", "two", "two: verdict", "two: layer",
    ]  # fmt: skip
    assert wide["two"].tolist()[-1] == "-"
    assert wide.loc[0, ["one: layer", "two: layer"]].tolist() == [3, 5]
    same = compare([runs[0], make_run(tmp_path / "three", best)])
    assert list(same.columns) == ["condition", "metric", "one", "three"]


def card(verdict: str, *, is_read: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two rows of a card, and its verdict."""
    found = [interval_columns(interval(values, 0.0)) for values in VALUES.values()]
    rows = [
        {"row": name, "statistic": "B", **own, "is_read": read, "reading": f"{name} of {verdict}"}
        for name, own, read in zip(("behaviour", "onset"), found, (True, is_read), strict=True)
    ]
    return pd.DataFrame(rows), pd.DataFrame([{"name": verdict, "rule": 4}])


def test_cards_stand_side_by_side_under_their_verdicts(tmp_path: Path) -> None:
    runs = []
    for name, (rows, verdict) in {
        "small": card("backfires"), "large": card("superficial (route)", is_read=False)
    }.items():  # fmt: skip
        path = make_run(tmp_path / name, rows, study="superficiality", name="card_table")
        config = {"items": "bbq:Age", "condition": "instructed", "metric": "margin"}
        with open_run(
            path,
            study="superficiality",
            config=config,
            model={"name": "small"},
            rules=RULES,
            threads=1,
        ) as run:
            run.save_table("verdict", verdict)
            run.save_text("verdict.csv", verdict.to_csv(index=False))
        runs.append(path)
    wide = compare(runs)
    assert list(wide.columns) == ["row", "small", "large"]
    assert wide["row"].tolist() == ["verdict", "behaviour", "onset"]
    assert wide.loc[0, ["small", "large"]].tolist() == ["backfires", "superficial (route)"]
    assert wide.loc[2, "small"] == interval(VALUES["p_gold"], 0.0)
    assert wide.loc[2, "large"].endswith(", not read")


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"study": "patch"}, r"they differ in study \(lens, patch\)"),
        ({"metric": "option_margin"}, r"they differ in metric \(margin, option_margin\)"),
        ({"rules": {"alpha": 0.01}}, "they differ in rules of judgement"),
        (
            {"table": pd.DataFrame({"condition": ["instructed"], "share": [0.5]})},
            "no effects with inter",
        ),
        ({"table": pd.concat([totals(), totals()])}, "its rows cannot be told apart"),
        ({"name": "other"}, "no table 'totals'"),
    ],
)
def test_what_is_not_the_same_quantity_is_refused_in_one_line(
    other: dict[str, Any], line: str, tmp_path: Path
) -> None:
    one = make_run(tmp_path / "one", totals())
    two = make_run(tmp_path / "two", **{"table": totals(), **other})
    with pytest.raises(InterpError, match=line) as refused:
        compare([one, two])
    assert "\n" not in str(refused.value)
    with pytest.raises(InterpError, match="at least two"):
        compare([one])


def test_two_runs_of_one_folder_name_keep_their_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / folder / "age", totals()) for folder in ("a", "b")]
    assert list(compare(runs).columns)[-2:] == [str(run) for run in runs]


def test_a_list_goes_on_where_a_folder_is_none_or_is_damaged(tmp_path: Path) -> None:
    make_run(tmp_path / "good", totals())
    make_run(tmp_path / "group" / "deep", totals())
    (tmp_path / "foreign").mkdir()
    (tmp_path / ".hidden").mkdir()
    damaged = make_run(tmp_path / "damaged", totals())
    (damaged / "manifest.json").write_text('{"format": ')
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(tmp_path / "stopped", study="lens", config={}, threads=1),
    ):
        raise KeyboardInterrupt
    killed = make_run(tmp_path / "killed", totals())
    manifest = json.loads((killed / "manifest.json").read_text())
    (killed / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    found = {getattr(one, "name", str(one)): one for one in find_runs(tmp_path)}
    assert [name.split(":")[0].removeprefix(f"{tmp_path}/") for name in found] == [
        "damaged/manifest.json", "foreign/manifest.json", "good", "group/deep", "killed", "stopped",
    ]  # fmt: skip
    assert found["stopped"].status == "interrupted"  # type: ignore[union-attr]
    assert found["killed"].status == "killed"  # type: ignore[union-attr]
    with pytest.raises(InterpError, match=r"has not ended \(status killed\)"):
        compare([tmp_path / "good", killed])
    with pytest.raises(InterpError, match="no such folder"):
        list(find_runs(tmp_path / "nowhere"))


def test_a_run_without_a_headline_or_rules_is_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "old", totals())
    manifest = json.loads((run / "manifest.json").read_text())
    for name in ("headline", "rules"):
        del manifest[name]
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert read_facts(run).headline == ""
    assert read_facts(run).main_table() == "totals"
