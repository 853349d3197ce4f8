"""``interp superficiality``: its card is the library's, and what its page says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.runner import load, run
from analyses.superficiality.config import SuperficialityConfig
from analyses.superficiality.study import Superficiality
from analyses.superficiality.tables import SuperficialityResult
from interp import superficiality
from interp.data import load_items, load_texts
from interp.directions import fit_direction
from interp.errors import InterpError
from interp.models import load_model
from interp.runs import read_table
from interp.superficiality import direction_rows, instrument, subspaces
from interp.superficiality.append import APPENDED
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import R_IN
from interp.superficiality.polarity import SHARED, VOCABULARY
from interp.superficiality.rank import RANK
from interp.superficiality.removed import REMOVED
from interp.superficiality.representation import REPRESENTATION
from interp.superficiality.residue import DISTINGUISHED
from interp.superficiality.rows import BEHAVIOUR, CONTENT_IN, INTERACTION

pytestmark = pytest.mark.slow  # end to end; left out of the everyday tests

Folder = Callable[..., Path]
SMALL = {"items": "bundled", "limit": 6, "texts": 2, "causal": 4, "untrained": 1, "orders": 3,
         "further": "health,polarity,residue,append,rank", "further_items": 2}  # fmt: skip


@pytest.fixture(scope="module")
def done(
    tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SuperficialityResult, Path]:
    out = tmp_path_factory.mktemp("card") / "run"
    config = SuperficialityConfig(model=str(tiny_folder("llama")), out=out, **SMALL)
    return run(Superficiality(), config, progress=False), out


def test_the_card_is_the_librarys(done: Any, tiny_folder: Folder) -> None:
    result, _ = done
    items = load_items("bundled", limit=6, seed=0)
    model = load_model(str(tiny_folder("llama")))
    card = superficiality(
        model, items, texts=2, orders=3, causal_items=4, untrained_items=1,
        further=("health", "polarity", "residue", "append", "rank"), further_items=2, progress=False,
    )  # fmt: skip
    own, saved = card.to_dataframe(), result.card_table
    pd.testing.assert_frame_equal(
        own.select_dtypes("number"), saved.select_dtypes("number"), rtol=1e-3, atol=1e-5
    )
    assert own["row"].tolist() == saved["row"].tolist()
    for mine, theirs in zip(card, result.scorecard, strict=True):
        assert [check.name for check in mine.health] == [check.name for check in theirs.health]
    assert card.verdict.name == result.scorecard.verdict.name == "undetermined"


def test_numbers_of_the_card_are_those_of_the_saved_tables(done: Any) -> None:
    """Ten numbers and more, each followed by hand from rows of the run's tables."""
    result, out = done
    card, followed = result.scorecard, {}

    def sides(table: str, metric: str = "option_margin") -> pd.Series:
        rows = read_table(out, table)
        return rows[rows["metric"] == metric].groupby("side")["value"].mean()

    for placement, table in (("before", "behaviour"), ("after", "behaviour_after")):
        shown = result.effects[result.effects["placement"] == placement].set_index("metric")
        for metric in ("option_margin", "margin", "p_gold"):
            mean = sides(table, metric)
            followed[table, metric] = (
                shown.loc[metric, "estimate"],
                mean["corrected"] - mean["placebo"],
            )
    first = result.effects["estimate"].iloc[0]
    followed[BEHAVIOUR, "estimate"] = (card[BEHAVIOUR].interval.estimate, first)
    asked = sides("polarity")
    words = asked["vocabulary"] - asked["vocabulary_placebo"]
    followed[VOCABULARY, "estimate"] = (card[VOCABULARY].interval.estimate, words)
    knows = sides("distinguish")
    change = knows["corrected"] - knows["placebo"]
    followed[DISTINGUISHED, "estimate"] = (card[DISTINGUISHED].interval.estimate, change)
    edits = read_table(out, "edits").groupby("against")["kept_tokens"].mean()
    kept = edits["instruction"] - edits["placebo"]
    followed[APPENDED, "estimate"] = (card[APPENDED].interval.estimate, kept)
    shared = read_table(out, "shared_shift").query(
        "place == 'answer' and scale == 'standardised' and without == ''"
    )
    table = card[SHARED].table.query("place == 'answer' and scale == 'standardised'")
    followed[SHARED, "table"] = (table["shared"].mean(), shared["shared"].mean())
    runs = read_table(out, "runs")
    means = runs[runs["metric"] == "option_margin"].groupby("run")["value"].mean()
    pairs = card[CONTENT_IN].table.mean(numeric_only=True)
    for part in ("content", "instruction"):
        followed[CONTENT_IN, part] = (pairs[part], means[part] - means["placebo"])
    both = means["content"] + means["instruction"] - means["placebo"]
    followed[INTERACTION, "pairs"] = (pairs["interaction"], means["corrected"] - both)
    checks = {check.name: check.value for check in card[CONTENT_IN].health}
    states = read_table(out, "manifold").query("state == 'patched'")
    beyond = [np.average(states[name], weights=states["rows"]) for name in ("far", "large")]
    followed[CONTENT_IN, "off the manifold"] = (checks["off the manifold"], max(beyond))
    checks = {check.name: check.value for check in card[VOCABULARY].health}
    asked = sides("untrained_polarity")
    words = asked["vocabulary"] - asked["vocabulary_placebo"]
    followed[VOCABULARY, "untrained copy"] = (checks["untrained copy"], words)
    for what, (shown_number, computed) in followed.items():
        assert shown_number == pytest.approx(computed, abs=1e-9), what
    assert len([1 for shown_number, _ in followed.values() if not np.isnan(shown_number)]) >= 10
    assert means["everything"] == pytest.approx(means["corrected"], abs=1e-4)
    assert card[BEHAVIOUR].n == 6
    assert card[CONTENT_IN].n == 4
    assert runs["layer"].max() == 4
    assert "behaviour alone" in card[RANK].checks
    assert result.verdict["name"].tolist() == [card.verdict.name]


def test_a_direction_adds_its_rows_and_a_second_verdict(
    done: Any, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows on the route stay as they were; the new ones are made of saved tables alone."""
    for module, name in ((instrument, "INSTRUMENT_ITEMS"), (subspaces, "FIT_GROUPS")):
        monkeypatch.setattr(module, name, 4)
    monkeypatch.setattr(direction_rows, "DETAILED_PAIRS", 1)
    plain, _ = done
    folder, file = str(tiny_folder("llama")), tmp_path / "v.safetensors"
    texts = load_texts("bundled:statements")
    fit_direction(load_model(folder), texts, n_shuffles=0, progress=False).save(file)
    asked = {**SMALL, "further": "residue"}
    config = SuperficialityConfig(model=folder, out=tmp_path / "run", direction=file, **asked)
    result = run(Superficiality(), config, progress=False)
    card = result.scorecard
    both = {row.name for row in card} & {row.name for row in plain.scorecard}
    assert {CONTENT_IN, DISTINGUISHED} <= both
    for row in (plain.scorecard[name] for name in both):
        assert str(card[row.name].interval) == str(row.interval)
    assert card.direction_verdict is not None
    assert result.verdict["of"].tolist() == ["route", "direction"]
    shifts = read_table(config.out, "shifts")
    own = shifts[shifts["own"] & (shifts["position"] == "content")]
    assert card[REPRESENTATION].interval.estimate == pytest.approx(own["value"].mean())
    left = read_table(config.out, "removed").query("own")
    assert card[REMOVED].interval.estimate == pytest.approx(left["removed"].mean())
    assert "off the manifold" in card[R_IN].checks
    assert "immediate effect" in card[R_IN].checks
    exchanged = read_table(config.out, "mediation")
    assert {"into behind every readable 1", "out behind every unread 1"} <= set(exchanged["run"])
    checked = read_table(config.out, "instrument")
    assert card[INSTRUMENT].n == (checked["kind"] == "projection").sum() == 8
    assert "instrument not valid" in card[R_IN].why_not
    assert load(config.out).scorecard.direction_verdict == card.direction_verdict
    page = (config.out / "report.html").read_text()
    assert "Along the direction: undetermined" in page
    assert "The instrument check." in page


def test_the_page_says_the_verdict_and_what_is_not_read(done: Any) -> None:
    result, out = done
    page = (out / "report.html").read_text()
    for said in (
        "Verdict: undetermined (rule 2)",
        "2 wordings a side",
        "Row by row",
        "No direction was given",
    ):
        assert said in page, said
    assert {path.stem for path in (out / "figures").glob("*.html")} == {"scorecard"}
    assert load(out).scorecard.verdict == result.scorecard.verdict


def test_items_of_one_cluster_are_refused(tmp_path: Path) -> None:
    config = SuperficialityConfig(out=tmp_path, **{**SMALL, "limit": 2})
    asked = Superficiality().ask(config, progress=False)
    assert len({item.cluster for item in asked.items}) == 2
    row = (
        '{{"id": "i{}", "benchmark": "own", "category": "c", "context": "A or B came.", '
        '"question": "Who came?", "choices": [{{"text": "A", "role": "unknown"}}, '
        '{{"text": "B", "role": "stereotyped"}}], "gold": 0, "cluster": "one"}}'
    )
    (tmp_path / "own.jsonl").write_text("\n".join(row.format(k) for k in range(2)))
    own = config.model_copy(update={"items": str(tmp_path / "own.jsonl")})
    with pytest.raises(InterpError, match="single cluster"):
        Superficiality().ask(own, progress=False)
