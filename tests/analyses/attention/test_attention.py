"""The attention study: its numbers are the library's, its head is the one that stands out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.attention.config import AttentionConfig
from analyses.attention.study import Attention
from analyses.attention.tables import head_grid, head_table, layers_shown, most_above_placebo
from analyses.runner import run
from interp.activations import read_attention
from interp.data import load_items
from interp.models import load_model
from interp.prompts import TextBank, condition_prompt

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
    report = done.report.read_text()
    assert "Who looks at the instruction" in report
    assert "one wording, in turn, of the instruction" in report
    page = (out / "figures" / "attention.html").read_text()
    assert "Attention to the instruction" in page
    assert "http" not in page.split("<script")[0].replace("http://www.w3.org", "")


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
    # the layer of that head, and the one whose heads give the instruction most
    assert layers_shown(mass, "i0", 0, "instructed") == (0, 1)
