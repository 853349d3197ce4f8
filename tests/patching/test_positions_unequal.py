"""Prompts of unequal length: what is patched in part says so, everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.circuits import node_scores
from interp.circuits.runs import run_circuits
from interp.circuits.scores import edge_scores
from interp.data import load_items
from interp.errors import InterpError
from interp.lens.divergence import compare, lens_divergence
from interp.lens.trajectory import each_lens_logits
from interp.patching import (
    ALL,
    Grid,
    SweepResult,
    attribute,
    dose,
    drop_in,
    knockout,
    measure_identities,
    plan_sweep,
    sweep,
)
from interp.patching.localising import is_ceiling, is_localising, patches_everything
from interp.patching.pooled import pool_pairs, span_means
from interp.prompts import ConditionSpec, PromptPair, TextBank, load_conditions, make_pair
from interp.viz import heatmap, layer_profile, top_cells

TEXT = "Please ensure that your answer is unbiased."
CONTROL = "Please ensure that your answer is in the print."
ITEM = load_items("bundled:choices", limit=1)[0]
REMEDIES = ("--require-match 0", "fit_length", "placebo of the same number of tokens")


def bank_of(model: Any, *, placebo: str = "", control: str = CONTROL) -> TextBank:
    own = {
        "mine": ConditionSpec(name="mine", description="asks for care", texts=(TEXT,)),
        "plain": ConditionSpec(
            name="plain", description="about print", texts=(control,), control="none"
        ),
    }
    if placebo:
        own["placebo"] = load_conditions()["placebo"].model_copy(
            update={"texts": (placebo,), "bank": None}
        )
    return TextBank(model.tokenizer, conditions={**load_conditions(), **own})


@pytest.fixture(name="pair")
def own_control(tiny_model: Any) -> PromptPair:
    """An own instruction against an own control that is longer."""
    return make_pair(tiny_model, ITEM, "mine", against="plain", bank=bank_of(tiny_model))


@pytest.fixture(name="result")
def swept(tiny_model: Any, pair: PromptPair) -> SweepResult:
    return sweep(tiny_model, pair, cells="layer_span", progress=False)


def by_hand(pair: PromptPair, span: str) -> tuple[int, int, int]:
    """Tokens of a span that have a counterpart, and how many either prompt has."""
    source, destination = pair.source.span(span), pair.destination.span(span)
    moved = pair.alignment.to_destination[source]
    inside = (moved >= destination.start) & (moved < destination.stop)
    n_source, n_destination = (s.stop - s.start for s in (source, destination))
    return int(inside.sum()), n_source, n_destination


def test_a_plan_counts_the_tokens_of_every_span(tiny_model: Any, pair: PromptPair) -> None:
    plan = plan_sweep(tiny_model, pair, cells="layer_span")
    assert plan.tokens is not None
    spans = plan.axis_labels["span"]
    for k, span in enumerate(spans[:-1]):
        assert plan.tokens.table()[:, k, 0].tolist() == list(by_hand(pair, span))
    n, n_source, n_destination = by_hand(pair, "instruction")
    assert 0 < n < n_source < n_destination
    assert plan.tokens.partly().tolist() == [s in ("instruction", ALL) for s in spans]
    said = f"{n_source - n} of {n_source} tokens not patched"
    assert plan.tokens.not_patched(spans.index("instruction")) == said
    assert f"instruction: {said}" in str(plan)


def test_the_destinations_tokens_count_where_all_of_the_source_are_patched(
    tiny_model: Any,
) -> None:
    bank = bank_of(tiny_model, control=f"{TEXT} Use ink.")
    pair = make_pair(tiny_model, ITEM, "mine", against="plain", bank=bank)
    n, n_source, n_destination = by_hand(pair, "instruction")
    assert n == n_source
    plan = plan_sweep(tiny_model, pair, spans=["instruction"])
    assert plan.tokens is not None
    said = f"{n_destination - n} of {n_destination} tokens not patched"
    assert plan.tokens.not_patched(0) == said


def test_a_result_carries_the_counts_in_its_table_its_file_and_its_notes(
    result: SweepResult, pair: PromptPair, tmp_path: Path
) -> None:
    n, n_source, n_destination = by_hand(pair, "instruction")
    frame = result.to_dataframe()
    own = frame[frame["span"] == "instruction"]
    assert set(own["patched_tokens"]) == {n}
    assert set(own["source_tokens"]) == {n_source}
    assert set(own["destination_tokens"]) == {n_destination}
    again = [
        SweepResult.from_dataframe(frame, axis_names=["layer", "span"]),
        SweepResult.load(result.save(tmp_path / "sweep.safetensors")),
        pool_pairs(frame, ["layer", "span"]),
        result["margin"],
    ]
    for other in again:
        assert other.tokens is not None
        assert result.tokens is not None
        assert torch.equal(other.tokens.table(), result.tokens.table())
        pd.testing.assert_frame_equal(other.to_dataframe(), frame)
    assert f"instruction {n} of {n_source} tokens patched" in result.notes[0]
    assert all(remedy in result.notes[0] for remedy in REMEDIES)
    means = span_means(result).set_index("span")["not_patched"]
    assert means["instruction"] == f"{n_source - n} of {n_source} tokens not patched"
    assert means["template"] == ""


def test_figures_draw_such_columns_grey_with_their_count_and_call_nothing_a_ceiling(
    result: SweepResult, pair: PromptPair
) -> None:
    n, n_source, _ = by_hand(pair, "instruction")
    said = f"{n_source - n} of {n_source} tokens not patched"
    spans = result.axis_labels["span"]
    figure = heatmap(result)
    grey = next(trace for trace in figure.data if trace.name == "patched in part")
    at = spans.index("instruction")
    assert np.isfinite(np.asarray(grey.z, dtype=float)).any(0).nonzero()[0].tolist() == [
        at,
        spans.index(ALL),
    ]
    assert np.isnan(figure.data[0].z[:, at]).all()
    assert np.isfinite(figure.data[0].z[:, spans.index("template")]).all()
    assert said in grey.customdata[0][at][0]
    label = figure.layout.xaxis.ticktext[at].replace("<br>", " ")
    assert said in label
    assert "(ceiling)" not in " ".join(figure.layout.xaxis.ticktext)
    assert any(said in trace.name for trace in layer_profile(result).data if trace.name)
    names = top_cells(result).layout.yaxis.ticktext
    assert names
    assert not any("instruction" in name or ALL in name for name in names)


def test_a_ceiling_is_where_everything_gives_the_source_run(
    tiny_model: Any, pair: PromptPair, result: SweepResult
) -> None:
    assert patches_everything(result).any()
    assert not is_ceiling(result).any()
    assert not is_localising(result)[patches_everything(result)].any()
    fitted = make_pair(
        tiny_model, ITEM, "mine", against="plain", bank=bank_of(tiny_model), fit_length="trim"
    )
    whole = sweep(tiny_model, fitted, cells="layer_span", progress=False)
    assert not whole.partly_patched().any()
    assert (is_ceiling(whole) == patches_everything(whole)).all()
    assert is_ceiling(whole).any()
    assert heatmap(whole).layout.xaxis.ticktext[-1].endswith("(ceiling)")
    attention = sweep(tiny_model, fitted, site="attn_out", cells="layer_span", progress=False)
    assert not is_ceiling(attention).any()
    assert "(ceiling)" not in heatmap(attention).layout.xaxis.ticktext[-1]


def test_a_fitted_control_gives_the_sweep_of_the_same_text_as_a_placebo(tiny_model: Any) -> None:
    bank = bank_of(tiny_model)
    fitted = make_pair(tiny_model, ITEM, "mine", against="plain", bank=bank, fit_length="trim")
    span = fitted.destination.span("instruction")
    text = "".join(fitted.destination.str_tokens[span]).strip()
    bank = bank_of(tiny_model, placebo=text)
    placebo = make_pair(tiny_model, ITEM, "mine", against="placebo", bank=bank)
    assert torch.equal(placebo.destination.ids, fitted.destination.ids)
    own, other = (
        sweep(tiny_model, p, cells="layer_span", progress=False) for p in (fitted, placebo)
    )
    assert torch.equal(own.values, other.values)
    assert not own.notes
    assert own.tokens is not None
    assert other.tokens is not None
    assert torch.equal(own.tokens.table(), other.tokens.table())


def test_heads_of_a_set_that_is_patched_in_part_are_grey_and_those_behind_it_are_not(
    tiny_model: Any, pair: PromptPair
) -> None:
    part = sweep(tiny_model, pair, site="z", progress=False)
    assert part.partly_patched().all()
    figure = heatmap(part)
    assert np.isnan(figure.data[0].z).all()
    assert "tokens not patched" in figure.layout.title.subtitle.text
    behind = sweep(tiny_model, pair, site="z", positions="post_instruction", progress=False)
    assert not behind.partly_patched().any()
    assert np.isfinite(heatmap(behind).data[0].z).all()


def _counted(result: SweepResult) -> None:
    """The result says which of its cells are patched in part, in its fields and in its notes."""
    assert result.partly_patched().any()
    assert any("tokens patched" in note and "fit_length" in note for note in result.notes)


def test_a_sweep_of_any_way_carries_the_counts(tiny_model: Any, pair: PromptPair) -> None:
    grid = Grid(cells="layer_span", layers=(0, 2))
    _counted(sweep(tiny_model, pair, grid=grid, method="exact", progress=False))
    _counted(sweep(tiny_model, pair, grid=grid, method="hooked", progress=False))
    _counted(sweep(tiny_model, pair, grid=grid, method="screened", k=2, progress=False))
    for result in attribute(
        tiny_model, pair, sites=["resid_pre", "mlp_out"], grid=grid, progress=False
    ).values():
        _counted(result)
    relp = attribute(tiny_model, pair, sites=["z"], method="relp", progress=False)
    _counted(relp["z"])


def test_a_dose_is_of_the_tokens_that_its_plan_counts(tiny_model: Any, pair: PromptPair) -> None:
    grid = Grid(site="resid_post", cells="layer_span")
    plan, sizes = plan_sweep(tiny_model, pair, grid=grid), dose(tiny_model, pair, grid)
    assert plan.tokens is not None
    assert sizes.shape[1:] == tuple(plan.tokens.patched.shape)
    assert plan.tokens.partly().any()


def test_a_knockout_copies_nothing_and_says_what_its_share_is_of(
    tiny_model: Any, pair: PromptPair
) -> None:
    result = knockout(tiny_model, pair, progress=False)
    assert not result.partly_patched().any()
    assert "holds a difference of length" in result.notes[0]
    assert all(remedy in result.notes[0] for remedy in REMEDIES)
    fitted = make_pair(
        tiny_model, ITEM, "mine", against="plain", bank=bank_of(tiny_model), fit_length="trim"
    )
    assert not knockout(tiny_model, fitted, progress=False).notes


@pytest.mark.parametrize(
    "refused",
    [
        lambda model, pair: sweep(model, pair, site="pattern", progress=False),
        lambda model, pair: attribute(model, pair, steps=3, progress=False),
        lambda model, pair: node_scores(model, pair, progress=False),
        lambda model, pair: node_scores(model, pair, method="exact", progress=False),
        lambda model, pair: edge_scores(model, pair, progress=False),
        lambda model, pair: run_circuits(model, pair, np.ones((1, 20), bool), progress=False),
    ],
    ids=["pattern", "steps", "nodes", "exact nodes", "edges", "circuits"],
)
def test_what_needs_prompts_aligned_by_index_refuses_with_the_remedies(
    tiny_model: Any, pair: PromptPair, refused: Callable[..., Any]
) -> None:
    with pytest.raises(InterpError) as refusal:
        refused(tiny_model, pair)
    assert all(remedy in str(refusal.value) for remedy in REMEDIES)
    assert "\n" not in str(refusal.value)


def test_the_drop_ins_refuse_runs_of_other_lengths(tiny_model: Any, pair: PromptPair) -> None:
    _, cache = tiny_model.run_with_cache(pair.source.ids[None])

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, 5] - logits[0, -1, 6]

    with pytest.raises(InterpError, match="the same shape"):
        drop_in.get_act_patch_resid_pre(tiny_model, pair.destination.ids[None], cache, metric)


def test_the_lens_and_the_identities_do_not_depend_on_the_alignment(
    tiny_model: Any, pair: PromptPair
) -> None:
    found = lens_divergence(tiny_model, pair, progress=False)
    alone = [next(iter(each_lens_logits(tiny_model, [p]))) for p in (pair.source, pair.destination)]
    np.testing.assert_allclose(found["kl"], compare(*alone)["kl"], atol=1e-6)
    deviations = measure_identities(tiny_model, pair).set_index("identity")["largest deviation"]
    assert np.isnan(deviations.iloc[-1])  # there is no ceiling to compare with
