from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import interp
from interp.data.items import LabelledText
from interp.errors import InterpError
from interp.known import load_known, names
from interp.known.load import NOISE_DIMENSIONS
from interp.models import model_card
from interp.patching import get_act_patch_resid_pre
from tests.known.interchange import VARIANTS, known, last_logits, of_programs, pair_of


@pytest.mark.parametrize(("name", "variant"), of_programs(list(VARIANTS)))
def test_the_model_computes_what_the_program_answers(name: str, variant: str) -> None:
    model, truth = known(name, variant)
    inputs = truth.inputs()
    expected = torch.stack([truth.logits(truth.answer(ids)) for ids in inputs])
    assert len({truth.answer(ids) for ids in inputs}) > 1
    assert (last_logits(model, torch.stack(inputs)) - expected).abs().max() < 2e-4


def test_there_are_programs_of_every_kind_and_half_are_published() -> None:
    truths = [known(name)[1] for name in names()]
    published = Counter(truth.program.published for truth in truths)
    assert published[True] >= published[False] >= 9
    assert all(truth.program.description.endswith(".") for truth in truths)
    assert all("arXiv" in t.program.source for t in truths if t.program.published)


def test_a_rotation_turns_the_basis_and_changes_nothing_else() -> None:
    plain, truth = load_known("relayed_flag")
    turned, rotated = load_known("relayed_flag", rotated=True)
    again, _ = load_known("relayed_flag", rotated=True)
    other, _ = load_known("relayed_flag", rotated=True, seed=1)
    ids = torch.stack(truth.inputs())
    assert torch.allclose(last_logits(turned, ids), last_logits(plain, ids), atol=2e-4)
    fingerprints = [model_card(m).fingerprint for m in (plain, turned, again, other)]
    assert fingerprints[1] == fingerprints[2]
    assert len(set(fingerprints)) == 3
    vectors = torch.cat([v.vectors for v in rotated.variables.values()])
    assert torch.allclose(vectors @ vectors.T, torch.eye(len(vectors)), atol=1e-5)
    assert float(vectors.abs().max()) < 0.9  # no vector lies along an axis
    on_axes = torch.cat([v.vectors for v in truth.variables.values()])
    assert set(on_axes.unique().tolist()) == {0.0, 1.0}


def test_nothing_reads_the_noise_and_it_is_loud() -> None:
    model, truth = load_known("late_rewrite", rotated=True, noise=3.0)
    assert truth.noise_vectors.shape == (NOISE_DIMENSIONS, model.cfg.d_model)
    ids = torch.stack(truth.inputs())
    project = truth.noise_vectors.T @ truth.noise_vectors

    def without(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        return activation - activation @ project

    hooks = [(f"blocks.{layer}.hook_resid_pre", without) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        cleaned = model.run_with_hooks(ids, fwd_hooks=hooks)[:, -1]
        _, cache = model.run_with_cache(ids)
    assert torch.allclose(cleaned, last_logits(model, ids), atol=2e-4)
    states = cache["blocks.0.hook_resid_post"][:, -1]
    spread = (states - states.mean(0)) @ truth.noise_vectors.T
    signal = (states - states.mean(0)) @ truth.variables["flag"].vectors.T
    assert float(spread.pow(2).sum()) > 2 * float(signal.pow(2).sum())


def test_unknown_programs_and_noise_below_zero_are_refused_in_one_line() -> None:
    with pytest.raises(InterpError, match="no compiled program 'early'; known: copy_previous"):
        load_known("early")
    with pytest.raises(InterpError, match=r"noise is -1\.0"):
        load_known("late_rewrite", noise=-1.0)


def test_a_card_names_the_program_and_passes_its_checks() -> None:
    model, truth = load_known("histogram", rotated=True, noise=1.0)
    card = model_card(model)
    assert card.name == "known:histogram, rotated, noise 1"
    assert card.source == truth.program.source
    assert all(check.passed for check in card.checks if check.required)
    assert interp.load_model(model) is model


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_known_model_goes_through_every_room(variant: str) -> None:
    model, truth = known("late_rewrite", variant)
    source, destination = truth.ids(["flip", "a", "b", "?"]), truth.ids(["plain", "a", "b", "?"])
    pair = pair_of(model, truth, source, destination)
    assert pair.source.str_tokens == ("BOS", "flip", "a", "b", "?")
    assert pair.target is not None
    assert (pair.target.a_text, pair.target.b_text) == ("b", "a")
    sites = ("resid_pre", "attn_out", "mlp_out", "resid_post", "z", "q", "k", "v", "pattern")
    for site in sites:
        result = interp.sweep(model, pair, site=site, progress=False)
        assert result.notes == ()
        assert float(result.source_baseline[0]) == pytest.approx(1, abs=1e-3)
        assert float(result.baseline[0]) == pytest.approx(-1, abs=1e-3)
    interp.attribute(model, pair, progress=False)
    blocked = interp.knockout(model, pair.swap(), queries="last", progress=False)
    assert float(blocked.baseline[0]) == pytest.approx(1, abs=1e-3)
    # the instruction unread, the flag is empty and so is the answer
    assert float(blocked.values[0].flatten()[0]) == pytest.approx(0, abs=1e-3)
    lens = interp.lens_trajectory(model, pair, progress=False).to_dataframe()
    assert lens[lens["run"] == "source"]["margin"].iloc[-1] == pytest.approx(1, abs=1e-3)

    def margin(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, pair.target.a] - logits[0, -1, pair.target.b]  # type: ignore[union-attr]

    _, cache = model.run_with_cache(source[None])
    grid = get_act_patch_resid_pre(model, destination[None], cache, margin, progress=False)
    assert float(grid[0, 1]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_direction_fitted_on_the_programs_sentences_is_the_planted_one(variant: str) -> None:
    model, truth = known("late_rewrite", variant)
    texts = [
        LabelledText(f"BOS {asked} {content} {other} ?", int(asked == "flip"), content + other, "x")
        for asked in ("flip", "plain")
        for content in "ab"
        for other in ("a", "b", "flip", "plain")
    ]
    v = interp.fit_direction(model, texts, site="attn_out", n_folds=4, n_shuffles=2, progress=False)
    planted = truth.variables["flag"].direction("flip", "plain")
    part = v[0].vector - (v[0].vector @ truth.noise_vectors.T) @ truth.noise_vectors
    assert float(part @ planted / part.norm()) == pytest.approx(1, abs=1e-3)
    pair = pair_of(
        model, truth, truth.ids(["flip", "a", "b", "?"]), truth.ids(["plain", "a", "b", "?"])
    )
    shift = interp.project(model, pair, v, progress=False).shift()["shift"]
    assert float(shift.iloc[0]) == pytest.approx(2, abs=1e-2)
