"""The nulls: a draw holds the rows that a run on its items and wordings would have saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.benchmarks.nulls.__main__ import main
from analyses.benchmarks.nulls.claims import MAP, claims_of
from analyses.benchmarks.nulls.draws import Draw, PoolRows
from analyses.benchmarks.nulls.measure import KEPT, draw_rows, measure, shares
from analyses.benchmarks.nulls.pool import (
    SLOTS,
    Plan,
    draw_pairs,
    pool_items,
    read_wordings,
    usual_length,
    write_pool,
)
from analyses.benchmarks.nulls.rows import make_rows, missing_items
from analyses.lens.config import LensConfig
from analyses.lens.study import Lens
from analyses.patch.config import PatchConfig
from analyses.patch.study import Patch
from analyses.project.config import ProjectConfig
from analyses.project.study import Project
from analyses.runner import run
from interp.data import load_items
from interp.errors import InterpError
from interp.lens import layer_effects
from interp.prompts import TextBank

N_ITEMS = 7
TEXTS = [f"Please read line {k} of the page." for k in range(10, 28)]


@pytest.fixture(scope="module")
def pool(
    load_tiny: Callable[..., Any],
    tiny_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> PoolRows:
    folder, model = tmp_path_factory.mktemp("pool"), load_tiny("llama")
    items = load_items("bundled", limit=N_ITEMS, seed=0, context_condition="ambiguous")
    name = str(tiny_folder("llama", chat=True))
    options: dict[str, Any] = {"model": name, "n_wordings": 12, "n_pairs": 2, "seed": 0}
    write_pool(folder, TextBank(model.tokenizer), TEXTS, items, **options)
    assert make_rows(folder, device="cpu", jobs=1, threads=1, deadline=np.inf) == 0
    return PoolRows(folder)


def text_count(text: str) -> int:
    return len(text.split())


def test_the_usual_length_is_that_of_most_wordings() -> None:
    texts = [f"{'word ' * n}{k}" for n, m in ((3, 12), (5, 20), (9, 14)) for k in range(m)]
    n_tokens, found = usual_length(texts, text_count, at_most=16, seed=0)
    assert n_tokens == 6
    assert len(set(found)) == 16
    assert {text_count(text) for text in found} == {6}
    assert (n_tokens, found) == usual_length(texts, text_count, at_most=16, seed=0)
    with pytest.raises(InterpError, match="10 are of one token count, a draw takes 12"):
        usual_length(texts, text_count, at_most=10, seed=0)


def test_pairs_are_of_different_wordings_and_use_all_alike() -> None:
    pairs = draw_pairs(30, 12, seed=0)
    assert [len(slot) for slot in pairs] == [12] * SLOTS
    assert all(len(set(slot)) == 12 and all(a != b for a, b in slot) for slot in pairs)
    uses = np.bincount([wording for slot in pairs for pair in slot for wording in pair])
    assert len(uses) == 30
    assert uses.min() >= 3
    assert pairs == draw_pairs(30, 12, seed=0)


def test_wordings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "wordings.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("One.", "Two.", "One.")))
    assert read_wordings(path) == ["One.", "Two."]
    assert len(read_wordings(None)) >= 60
    path.write_text('{"text": ""}\n')
    with pytest.raises(InterpError, match="line 1: the field 'text' must be a sentence"):
        read_wordings(path)


def test_a_draw_has_twelve_wordings_and_items_of_every_slot() -> None:
    plan = Plan("m", 0, 7, tuple("abcdefghijklmnopqrstuvwxyzABCD"), draw_pairs(30, 12, seed=0))
    draw = Draw.random(plan, range(24), 8, seed=[0])
    assert [item % SLOTS for item in draw.items] == [k % SLOTS for k in range(8)]
    assert len(set(draw.items)) == 8
    assert len({w for side in draw.sides.values() for w in side}) == 2 * SLOTS
    assert draw.pairs == tuple(plan.pairs[slot][k] for slot, k in enumerate(draw.numbers))
    assert draw == Draw.random(plan, range(24), 8, seed=[0])
    assert draw != Draw.random(plan, range(24), 8, seed=[1])
    assert len({w for pair in draw.pairs for w in pair}) == 2 * SLOTS
    assert draw.in_turn.sides["placebo"] == [b for _, b in draw.pairs]
    power = Draw.power(plan, range(24), 8, seed=[0])
    assert power.sides == {"instructed": [*range(30, 36)], "placebo": [*range(36, 42)]}
    with pytest.raises(InterpError, match="24 items do not give a draw of 25"):
        Draw.random(plan, range(24), 25, seed=[0])


def test_the_committed_draws_print_effects_of_nothing_rarely_and_see_what_is_there() -> None:
    drawn = pd.read_parquet(KEPT)
    nulls, power = (shares(drawn[drawn["power"] == p]) for p in (False, True))
    assert nulls.groupby("report")["items"].apply(list).eq([[8, 24, 48]] * 6).all()
    assert nulls["draws"].eq(200).all()
    assert nulls["share"].le(0.08).all()
    assert power.loc[power["report"] != MAP, "share"].ge(0.9).all()


def test_a_plan_is_saved_whole(tmp_path: Path) -> None:
    plan = Plan("m", 3, 7, tuple("abcdefghijkl"), draw_pairs(12, 2, seed=0))
    plan.save(tmp_path)
    assert Plan.load(tmp_path) == plan
    with pytest.raises(InterpError, match="holds no pool"):
        Plan.load(tmp_path / "other")


def of_draw(pool: PoolRows, folder: Path) -> tuple[Draw, dict[str, Any]]:
    """A draw of all items in turn, and what a run on its wordings is asked."""
    draw = Draw.random(pool.plan, range(N_ITEMS), N_ITEMS, seed=[0])
    draw = replace(draw, items=tuple(range(N_ITEMS))).in_turn
    sides = {name: [pool.plan.wordings[w] for w in own] for name, own in draw.sides.items()}
    conditions: dict[str, Any] = {
        name: {"description": "texts", "texts": texts, "replaces": True}
        for name, texts in sides.items()
    }
    conditions["placebo"]["control"] = "none"
    path = folder / "conditions.yaml"
    path.write_text(json.dumps(conditions))
    items = str(pool.folder / "items.jsonl")
    return draw, {"items": items, "condition_file": path, "limit": N_ITEMS, "out": folder / "run"}


def like_the_lens(pool: PoolRows, draw: Draw, model: Any, shared: dict[str, Any]) -> None:
    lens = run(Lens(), LensConfig(**shared), model=model, progress=False)
    own = layer_effects(pool.lens(draw), "instructed", seed=0)
    theirs = lens.effects[lens.effects["contrast"] == "instructed"]
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(own[name], theirs[name], atol=1e-4)


def like_projections(pool: PoolRows, draw: Draw, model: Any, shared: dict[str, Any]) -> None:
    project = run(Project(), ProjectConfig(**shared), model=model, progress=False)
    rows = project.contrasts[project.contrasts["condition"] == "instructed"]
    found = pool.sample(draw)
    treated, placebo = (arm.mean((1, 2)) for arm in found.dots(0, "instructed"))
    np.testing.assert_allclose(treated - placebo, rows["dot"], atol=1e-4)


def like_maps(pool: PoolRows, draw: Draw, model: Any, shared: dict[str, Any]) -> None:
    config = PatchConfig(**shared, rotate=True, layers="0-3")
    patch = run(Patch(), config, model=model, progress=False)
    # which placebo of equal count meets a text is drawn anew there: what is compared is the source
    saved = pd.read_parquet(config.out / "patching-instructed-resid_pre.parquet")
    table = pool.maps[pool.maps["number"].isin(draw.items)]
    chosen = table["number"].map(lambda k: draw.numbers[k % SLOTS])
    mine = table[table["slot"] == chosen].drop_duplicates("item").set_index("item")["source"]
    want = saved.drop_duplicates("item").set_index("item")["source"]
    np.testing.assert_allclose(mine.loc[want.index], want, atol=1e-4)
    assert patch.totals["n"].iloc[0] == pool.map(draw).total().n == N_ITEMS


@pytest.mark.slow
@pytest.mark.parametrize("is_like", [like_the_lens, like_projections, like_maps])
def test_a_draw_is_a_run_on_its_wordings(
    is_like: Callable[..., None], pool: PoolRows, load_tiny: Callable[..., Any], tmp_path: Path
) -> None:
    draw, shared = of_draw(pool, tmp_path)
    is_like(pool, draw, load_tiny("llama"), shared)


@pytest.mark.slow
def test_the_margin_is_one_number_in_every_table(pool: PoolRows) -> None:
    draw = Draw.random(pool.plan, pool.read, N_ITEMS, seed=[0])
    readings = pool.readings(draw, rotate=False)
    lens = pool.lens(draw).frame
    last = lens[lens["layer"] == lens["layer"].max()]
    for side, name in (("treated", "instructed"), ("control", "placebo")):
        keys = ["item", "slot"]
        one = readings[readings["side"] == side].set_index(keys)["margin"].sort_index()
        other = last[last["condition"] == name].set_index(keys)["margin"].sort_index()
        np.testing.assert_allclose(one, other, atol=1e-4)
    turned = pool.readings(draw, rotate=True)
    assert len(turned) == 2 * N_ITEMS
    source = turned[turned["side"] == "treated"].set_index("item")["margin"]
    result = pool.map(draw)
    total = source.mean() - turned[turned["side"] == "control"]["margin"].mean()
    assert result.total().estimate == pytest.approx(total, abs=1e-4)


@pytest.mark.slow
def test_every_report_is_asked_and_counted(
    pool: PoolRows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = claims_of(pool, Draw.random(pool.plan, pool.read, N_ITEMS, seed=[0]))
    assert set(found) == {"demo", "behave", "patch", "lens", "project", MAP}
    rows = pd.DataFrame(draw_rows(pool, N_ITEMS, 0, power=False))
    assert set(shares(rows)["share"]) <= {0.0, 1.0}
    out = ["--out", str(pool.folder), "--draw-only", "--draws", "2", "--sizes", str(N_ITEMS), "99"]
    main(out)
    assert "placebo against placebo" in capsys.readouterr().out
    again = pd.read_parquet(pool.folder / "draws.parquet")
    assert len(again) == 2 * 6
    main([*out, "--limit-seconds", "0"])  # nothing is left to draw
    pd.testing.assert_frame_equal(pd.read_parquet(pool.folder / "draws.parquet"), again)
    monkeypatch.setattr("analyses.benchmarks.nulls.measure.code_digest", lambda: "other code")
    main(out)  # draws of other code are not trusted
    anew = pd.read_parquet(pool.folder / "draws.parquet")
    assert set(anew["code"]) == {"other code"}
    assert len(anew) == len(again)


@pytest.mark.slow
def test_an_effect_that_is_there_is_found(pool: PoolRows, tmp_path: Path) -> None:
    """A large effect added to the readings of the control's texts: all reports see it."""
    folder = tmp_path / "pool"
    shutil.copytree(pool.folder, folder)
    strong = PoolRows(folder)
    first = len(strong.plan.wordings)
    own = strong.scored["slot"].between(first, first + SLOTS - 1)
    own &= strong.scored["condition"] != "clean"
    for name in ("margin", "option_margin", "p_gold"):
        strong.scored.loc[own, name] += 10.0
    for arrays in strong.arrays.values():
        arrays["lens"][first : first + SLOTS] += 10.0
        arrays["measured"][first : first + SLOTS] += 10.0
    rows = pd.DataFrame(draw_rows(strong, N_ITEMS, 0, power=True)).set_index("report")
    reports = ["demo", "behave", "patch", "lens", "project"]
    assert (rows.loc[reports, "claims"] > 0).all()


@pytest.mark.slow
def test_an_interrupted_pool_goes_on(pool: PoolRows, tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    shutil.copytree(pool.folder, folder)
    whole = pool.arrays[3]
    shutil.rmtree(folder / "rows" / "003")
    options: dict[str, Any] = {"device": "cpu", "jobs": 1, "threads": 1}
    assert missing_items(folder) == [3]
    assert make_rows(folder, **options, deadline=0.0) == 1
    assert make_rows(folder, **options, deadline=np.inf) == 0
    for name, values in PoolRows(folder).arrays[3].items():
        np.testing.assert_allclose(values, whole[name], atol=1e-5)
    assert len(measure(folder, [99], 1, power=False, jobs=1, deadline=np.inf)) == 0
    assert len(pool_items(folder)) == N_ITEMS
