"""The attention study: its numbers are the library's, its head is the one that stands out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.attention.config import AttentionConfig
from analyses.attention.study import Attention
from analyses.attention.tables import (
    choose_heads,
    head_grid,
    head_table,
    most_above_placebo,
    span_attention,
)
from analyses.config import read_config
from analyses.runner import load, run
from interp.activations import read_attention, read_span_attention
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.patching import knockout
from interp.prompts import TextBank, condition_prompt, make_pair
from tests.viz.pages import Blocks

Folder = Callable[..., Path]


@pytest.mark.slow
def test_the_mass_and_the_patterns_are_the_librarys(tiny_folder: Folder, tmp_path: Path) -> None:
    folder, out = tiny_folder("llama"), tmp_path / "run"
    config = AttentionConfig(
        model=str(folder), items="bundled", limit=3, texts=2, rotate=True, out=out
    )
    done = run(Attention(), config, progress=False)
    model, items = load_model(str(folder)), load_items("bundled", limit=3, seed=0)
    bank = TextBank(model.tokenizer, n_ctx=model.cfg.n_ctx)
    for k, item in enumerate(items):
        text = bank.texts("instructed", item, 2)[k % 2]
        patterns = read_attention(model, condition_prompt(model, item, text))
        own = done.mass[(done.mass["item"] == item.id) & (done.mass["condition"] == "instructed")]
        assert set(own["slot"]) == {k % 2}
        expected = patterns.to_span("instruction")
        np.testing.assert_allclose(head_grid(own, "mass"), expected, rtol=1e-6)
        if k == 0:
            kept = done.patterns["instructed"]
            torch.testing.assert_close(kept.values, patterns.values[list(kept.layers)])
            assert kept.prompt.str_tokens == patterns.prompt.str_tokens
            assert dict(kept.prompt.spans) == dict(patterns.prompt.spans)
    table = pd.read_parquet(out / "span_to_span.parquet")
    prompts = [
        condition_prompt(model, item, bank.texts("instructed", item, 2)[k % 2])
        for k, item in enumerate(items)
    ]
    whole = read_span_attention(model, prompts)
    own = table[table["condition"] == "instructed"].drop(columns=["condition", "n_prompts"])
    pd.testing.assert_frame_equal(
        own.reset_index(drop=True), whole.to_dataframe().dropna(ignore_index=True), rtol=1e-5
    )
    assert set(table["condition"]) == {"instructed", "placebo"}
    assert set(table["n_prompts"]) == {3}
    report = done.report.read_text()
    assert "Who looks at the instruction" in report
    assert "one wording, in turn, of the instruction" in report
    page = (out / "figures" / "attention.html").read_text()
    for text in (page, report):
        (view,) = [
            data for block in Blocks(text).blocks if "queries" in (data := json.loads(block))
        ]
        assert view["heads"] == [list(head) for head in done.shown]
        assert [run["n"] for run in view["runs"]] == [3, 3]
    shutil.copytree(out, tmp_path / "before")  # a run of before the spans were saved
    for path in (tmp_path / "before").glob("span*"):
        path.unlink()
    before = load(tmp_path / "before")
    assert before.spans == {}
    assert span_attention(before, "treated").keys == ("instruction",)
    top = done.most_above_placebo("instructed")
    assert done.shown[0] == (top["layer"], top["head"])
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_named_heads_and_those_of_a_knockout_are_shown_on_a_page_where_it_was_asked_for(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    asked = {"model": str(tiny_folder("llama")), "items": "bundled", "limit": 2, "texts": 1}
    config = read_config(
        AttentionConfig, **asked, heads="L3H1,L0H2", out=str(tmp_path / "page.html")
    )
    assert (config.out, config.page) == (tmp_path / "page", tmp_path / "page.html")
    done = run(Attention(), config, progress=False)
    assert done.shown == ((3, 1), (0, 2))
    assert (tmp_path / "page.html").read_text() == (
        tmp_path / "page" / "figures" / "attention.html"
    ).read_text()
    again = load(tmp_path / "page")
    assert again.shown == done.shown
    by_knockout = run(
        Attention(),
        read_config(AttentionConfig, **asked, heads="knockout", out=tmp_path / "knockout"),
        progress=False,
    )
    model, items = load_model(asked["model"]), load_items("bundled", limit=2, seed=0)
    pairs = [make_pair(model, item, "instructed").swap() for item in items]
    effect = knockout(model, pairs, cells="layer_head", progress=False).effect().mean(-1).abs()
    order = effect.flatten().argsort(descending=True)[:6].tolist()
    assert by_knockout.shown == tuple((k // 4, k % 4) for k in order)
    assert load(tmp_path / "knockout").shown == by_knockout.shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "x"}, "--heads 'x': 'x' is no head: heads are written L15H5"),
        ({"heads": ""}, "--heads '': no head is named; or give one of difference"),
        ({"out": "a.html", "page": "b.html"}, "names a page, and so does --page"),
    ],
)
def test_heads_and_pages_that_cannot_be_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InterpError) as refused:
        read_config(AttentionConfig, **options)
    assert message in str(refused.value)


def test_a_page_without_a_folder_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    config = AttentionConfig(items="bundled", page=tmp_path / "nowhere" / "a.html")
    with pytest.raises(InterpError, match=r"--page .*its folder does not exist"):
        Attention().ask(config)


def rows(values: dict[tuple[str, int, int], float], items: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (f"i{k}", f"c{k}", "instructed", condition, 0, layer, head, value + 0.01 * k)
            for k in range(items)
            for (condition, layer, head), value in values.items()
        ],
        columns=["item", "cluster", "contrast", "condition", "slot", "layer", "head", "mass"],
    )


def test_the_head_that_stands_out_is_the_one_beyond_its_placebo() -> None:
    values = {
        ("instructed", 0, 0): 0.6, ("placebo", 0, 0): 0.6,
        ("instructed", 0, 1): 0.1, ("placebo", 0, 1): 0.2,
        ("instructed", 1, 0): 0.3, ("placebo", 1, 0): 0.05,
        ("instructed", 1, 1): 0.0, ("placebo", 1, 1): 0.0,
    }  # fmt: skip
    mass = rows(values)
    table = head_table(mass, "instructed", seed=0)
    top = most_above_placebo(table)
    assert (top["layer"], top["head"]) == (1, 0)
    best = table[(table["layer"] == 1) & (table["head"] == 0)].iloc[0]
    np.testing.assert_allclose(
        best[["treated", "placebo", "estimate"]].tolist(), [0.315, 0.065, 0.25]
    )
    assert (best["n"], best["n_clusters"]) == (4, 4)
    config = AttentionConfig(items="bundled")
    assert choose_heads(config, mass)[:2] == ((1, 0), (0, 0))
    most = AttentionConfig(items="bundled", heads="instruction")
    assert choose_heads(most, mass)[0] == (0, 0)
    assert choose_heads(most, mass, layers=[1])[0] == (1, 0)
