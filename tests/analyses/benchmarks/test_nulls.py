"""The nulls: a draw holds the rows that a run on its items and wordings would have saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.benchmarks.nulls.__main__ import main
from analyses.benchmarks.nulls.claims import claims
from analyses.benchmarks.nulls.draws import Draw, PoolRows, draw_tables
from analyses.benchmarks.nulls.measure import draw_rows, shares
from analyses.benchmarks.nulls.pool import (
    ROUND,
    equal_pairs,
    make_rows,
    pool_runs,
    read_wordings,
    round_file,
    write_pool,
)
from analyses.lens.config import LensConfig
from analyses.lens.study import Lens
from analyses.patch.config import PatchConfig
from analyses.patch.study import Patch
from analyses.runner import run
from analyses.study import Story
from interp.data import load_items
from interp.errors import InterpError
from interp.prompts import TextBank
from interp.viz import Section

N_ITEMS = 7
TEXTS = [f"Please read line {k} of the page." for k in range(10, 10 + 4 * ROUND)]


@pytest.fixture(scope="module")
def pool(load_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> PoolRows:
    folder, model = tmp_path_factory.mktemp("pool"), load_tiny("llama")
    items = load_items("bundled", limit=N_ITEMS, seed=0, context_condition="ambiguous")
    write_pool(folder, TextBank(model.tokenizer), TEXTS, items, n_pairs=2 * ROUND, seed=0)
    make_rows(folder, model, progress=False)
    return PoolRows.of(folder)


def text_count(text: str) -> int:
    return len(text.split())


def test_pairs_are_of_equal_count_and_the_usual_counts_come_first() -> None:
    texts = [f"{'word ' * n}{k}" for n in (3, 5, 9) for k in range(9)]
    pairs = equal_pairs(texts, text_count, usual=6, n_pairs=7, seed=0)
    assert len(pairs) == ROUND
    assert all(text_count(a) == text_count(b) for a, b in pairs)
    assert len({text for pair in pairs for text in pair}) == 2 * ROUND
    assert sorted(text_count(a) for a, _ in pairs) == [4, 4, 6, 6, 6, 6]
    assert pairs == equal_pairs(texts, text_count, usual=6, n_pairs=7, seed=0)
    assert pairs != equal_pairs(texts, text_count, usual=6, n_pairs=7, seed=1)
    with pytest.raises(InterpError, match="27 wordings give 0 pairs of equal token count"):
        equal_pairs([f"{k} " * k for k in range(1, 28)], text_count, usual=6, n_pairs=6, seed=0)


def test_wordings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "wordings.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("One.", "Two.", "One.")))
    assert read_wordings(path) == ["One.", "Two."]
    assert len(read_wordings(None)) >= 60
    path.write_text('{"text": ""}\n')
    with pytest.raises(InterpError, match="line 1: the field 'text' must be a sentence"):
        read_wordings(path)


def test_a_draw_is_of_items_that_the_pool_asks_with_its_pairs() -> None:
    draw = Draw.random(8, of_items=24, of_rounds=3, seed=[0])
    assert [item % ROUND for item in draw.items] == [k % ROUND for k in range(8)]
    assert len(set(draw.items)) == 8
    assert set(draw.rounds) <= {0, 1, 2}
    assert draw == Draw.random(8, of_items=24, of_rounds=3, seed=[0])
    assert Draw((0,), (2, 0, 0, 0, 0, 1), (True, *[False] * 5)).pairs() == {
        12: (0, True), 1: (1, False), 2: (2, False), 3: (3, False), 4: (4, False), 11: (5, False)
    }  # fmt: skip


@pytest.mark.slow
def test_a_draw_of_one_round_is_a_run_on_it(
    pool: PoolRows, load_tiny: Callable[..., Any], tmp_path: Path
) -> None:
    draw = Draw(tuple(range(N_ITEMS)), (1,) * ROUND, (False,) * ROUND)
    tables, model = draw_tables(pool, draw), load_tiny("llama")
    shared: dict[str, Any] = {
        "items": str(pool.folder / "items.jsonl"),
        "condition_file": pool.folder / round_file(1),
    }
    lens = run(Lens(), LensConfig(**shared, out=tmp_path / "lens"), model=model, progress=False)
    keys = ["item", "condition", "layer"]
    # which of several placebos of equal count meets a text differs: an arm is a set of texts
    one, other = (
        frame[frame["contrast"] == "instructed"].groupby(keys)["margin"].apply(sorted)
        for frame in (lens.lens.frame, tables["lens-lens"])
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    patch = run(
        Patch(),
        PatchConfig(**shared, rotate=True, layers="0-3", limit=N_ITEMS, out=tmp_path / "patch"),
        model=model,
        progress=False,
    )
    own = tables["patch-patching-instructed-resid_pre"]
    saved = pd.read_parquet(tmp_path / "patch" / "patching-instructed-resid_pre.parquet")
    np.testing.assert_allclose(own["value"], saved["value"], atol=1e-4)
    assert patch.totals["n"].iloc[0] == N_ITEMS


@pytest.mark.slow
def test_exchanged_pairs_change_sides(pool: PoolRows) -> None:
    items, rounds = tuple(range(N_ITEMS)), (0, 1, 0, 1, 0, 1)
    there, back = (
        draw_tables(pool, Draw(items, rounds, (exchanged,) * ROUND)) for exchanged in (False, True)
    )
    for name, value in (("behaviour-scores", "margin"), ("lens-lens", "margin")):
        sides = []
        for tables, treated in ((there, "instructed"), (back, "placebo")):
            table = tables[name]
            rows = table[table["condition"] == treated]
            if "control_of" in rows and treated == "placebo":
                rows = rows[rows["control_of"] == "instructed"]
            if "contrast" in rows:
                rows = rows[rows["contrast"] == "instructed"]
            keys = [k for k in ("item", "slot", "order", "layer") if k in rows]
            sides.append(rows.sort_values(keys)[value].to_numpy())
        np.testing.assert_array_equal(*sides)
    name = "patch-patching-instructed-resid_pre"
    assert (there[name]["condition"] == "instructed").all()
    np.testing.assert_allclose(there[name]["source"], back[name]["destination"], atol=1e-4)


@pytest.mark.slow
def test_every_report_is_told_and_counted(
    pool: PoolRows, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame(draw_rows(pool, N_ITEMS, 0, seed=0))
    assert set(rows["report"]) == {"demo", "behave", "patch", "lens", "project"}
    assert set(shares(rows)["share"]) <= {0.0, 1.0}
    out = ["--out", str(pool.folder), "--draw-only", "--draws", "1", "--sizes", str(N_ITEMS), "8"]
    main(out)
    printed = capsys.readouterr().out
    assert f"{4 * ROUND} wordings, {N_ITEMS} items, 1 draws a size" in printed
    assert len(list(pool_runs(pool.folder, 4))) == 4 + 2 * 2


def test_claims_are_sentences_about_the_instruction() -> None:
    said = [
        "On ambiguous items the instructed prompt raises the margin by 0.3 [0.1, 0.5] nats.",
        "Instructed: clear at layers 9, 21-26, most at 23 (0.3 nats).",
        "The instruction's shift differs from zero at 3 of 30 layers, but at none of them more.",
        "Instructed: 2 of 36 cells differ from zero with all cells corrected for: L1 instruction.",
        "5 of 150 differ from zero, all corrected for: L3H2.",
        "Instructed, ambiguous items: the interval excludes 0 in 1 of 11 categories.",
    ]
    silent = [
        "On ambiguous items the instructed prompt changes the margin by 0.1 [-0.1, 0.3] nats.",
        "The positive control works: naming the answer raises the margin by 2 [1, 3] nats.",
        "Revealing: clear at layers 21-29, most at 29 (2 nats); the runs part at layer 23.",
        "Positive control: 9 of 36 cells differ from zero with all cells corrected for.",
        "The instruction: no effect is shown. It differs from zero at none of 30 layers.",
        "Instructed, ambiguous items: the interval excludes 0 in 0 of 11 categories.",
    ]
    told = Story("t", [Section("s", paragraphs=[*said, *silent])])
    assert [sentence for _, sentence in claims(told)] == said
