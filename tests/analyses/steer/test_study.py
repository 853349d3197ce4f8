"""``interp direction steer``: outcomes against oracles, planted effects, resumption, what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

import analyses.steer as steering
from analyses import steer_story as story
from analyses.commands import steer as command
from analyses.config import checked
from analyses.steer import SteerConfig, SteerRun, run, split_groups
from analyses.steer_outcomes import Outcomes, kept_share
from analyses.steer_tables import effect_table, place_among, swing_table
from interp.behaviour import ScoringPlan, score_item
from interp.data import load_items, load_texts
from interp.data.bundle import bundled_completions
from interp.directions import fit_direction, load_direction, sentence_ids
from interp.directions.steering import add_vector
from interp.errors import InterpError
from interp.prompts import TextBank
from interp.runs import read_manifest, read_table
from interp.stats import Interval, interval_columns

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

Folder = Callable[..., Path]
SMALL = {
    "items": "bundled",
    "limit": 2,
    "strengths": (1.0, 2.0),
    "groups": 3,
    "plain": 6,
    "completions": 2,
    "covariance": 2,
    "placebos": 2,
}
TABLES = {"steering", "effects", "swings", "completions", "texts", "nulls", "place"}


def config(folder: Path, out: Path, **changes: Any) -> SteerConfig:
    """A small run on a local model and bundled items."""
    return SteerConfig(model=str(folder), out=out, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def done(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> SteerRun:
    return run(
        config(tiny_folder("llama"), tmp_path_factory.mktemp("steer") / "run"), progress=False
    )


def make_outcomes(model: Any, limit: int = 2) -> Outcomes:
    return Outcomes(
        model,
        load_items("bundled", limit=limit, seed=0),
        sentences=load_texts("bundled:morality")[:8],
        plain=load_texts("bundled:contrasts")[:4],
        completions=bundled_completions()[:2],
    )


def random_step(model: Any, length: float = 3.0) -> torch.Tensor:
    step = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(3))
    return length * step / step.norm()


def values(rows: pd.DataFrame, outcome: str) -> pd.Series:
    return rows[rows["outcome"] == outcome].set_index("item")["value"]


@torch.no_grad()
def total_by_hand(model: Any, ids: torch.Tensor, start: int = 1) -> float:
    log_probs = model(ids[None])[0].double().log_softmax(-1)
    return float(sum(log_probs[k - 1, ids[k]] for k in range(start, len(ids))))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_every_outcome_equals_its_oracle_under_a_step(load_tiny: Any, architecture: str) -> None:
    model = load_tiny(architecture)
    outcomes = make_outcomes(model)
    step = random_step(model)
    rows = outcomes.measure(add_vector(model, "resid_post", 1, step), generate=True)
    items = load_items("bundled", limit=2, seed=0)
    sentences, plain = load_texts("bundled:morality")[:8], load_texts("bundled:contrasts")[:4]
    bank, plan = TextBank(model.tokenizer), ScoringPlan(conditions=("clean",))
    with add_vector(model, "resid_post", 1, step):
        margins = [score_item(model, bank, item, plan)["margin"].mean() for item in items]
        totals = [total_by_hand(model, ids) for ids in sentence_ids(model, sentences)]
        nlls = [-total_by_hand(model, i) / (len(i) - 1) for i in sentence_ids(model, plain)]
    np.testing.assert_allclose(values(rows, "margin"), margins, rtol=1e-3, atol=1e-3)
    quadruples = np.array(totals).reshape(2, 4) @ [0.5, -0.5, 0.5, -0.5]  # labels 1, 0, 1, 0
    np.testing.assert_allclose(values(rows, "preference"), quadruples, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(values(rows, "nll"), nlls, rtol=1e-4, atol=1e-4)
    for name, share in values(rows, "kept").items():
        prompt = next(p for p in outcomes._written if p.label == name)
        start = prompt.spans["generated"].start
        with add_vector(model, "resid_post", 1, step), torch.no_grad():
            first = model(prompt.ids[None])[0].argmax(-1)[start - 1 : -1]
        assert share == pytest.approx(float((first == prompt.ids[start:]).double().mean()))


def test_continuations_are_judged_by_the_model_as_it_is(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    step = random_step(tiny_model, 8.0)
    rows = outcomes.measure(add_vector(tiny_model, "resid_post", 1, step), generate=True)
    with add_vector(tiny_model, "resid_post", 1, step):
        again = [outcomes._complete(prompt) for prompt in outcomes._begun]
    for begun, old, new in zip(outcomes._begun, outcomes._written, again, strict=True):
        n = len(begun)
        assert values(rows, "overlap")[begun.label] == pytest.approx(
            kept_share(old.ids[n:].tolist(), new.ids[n:].tolist())
        )
        expected = total_by_hand(tiny_model, new.ids, n) / (len(new) - n)
        assert values(rows, "fluency")[begun.label] == pytest.approx(expected, rel=1e-3)
    assert (values(rows, "overlap") < 1).any()


def test_kept_share_counts_tokens_in_order() -> None:
    assert kept_share([1, 2, 3, 4], [2, 3, 9]) == 0.5
    assert kept_share([1, 2], [1, 2]) == 1.0
    assert kept_share([1, 2], []) == 0.0


def test_a_step_of_length_zero_changes_nothing_at_all(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    before = outcomes.measure(generate=True)
    nothing = torch.zeros(tiny_model.cfg.d_model)
    after = outcomes.measure(add_vector(tiny_model, "resid_post", 1, nothing), generate=True)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert (values(before, "kept") == 1).all()
    assert (values(before, "overlap") == 1).all()


def test_nothing_is_left_behind(tiny_model: Any) -> None:
    outcomes = make_outcomes(tiny_model)
    before = outcomes.measure()
    outcomes.measure(add_vector(tiny_model, "resid_post", 1, random_step(tiny_model)))
    pd.testing.assert_frame_equal(before, outcomes.measure(), check_exact=True)


def test_a_planted_direction_moves_the_margin_as_known(tiny_model: Any) -> None:
    """Along W_U[a] - W_U[b] after the last layer: final norm and unembedding by hand."""
    outcomes = make_outcomes(tiny_model, limit=1)
    (asked,) = outcomes._asked
    assert len(set(asked.tokens)) == 1
    a, b = asked.tokens[0]
    last = tiny_model.cfg.n_layers - 1
    weights = tiny_model.original_model.lm_head.weight.detach()
    planted = (weights[a] - weights[b]) / (weights[a] - weights[b]).norm()
    norm = tiny_model.original_model.model.norm
    margins = []
    for strength in (-20.0, -5.0, 0.0, 5.0, 20.0):
        rows = outcomes.measure(add_vector(tiny_model, "resid_post", last, strength * planted))
        margins.append(float(values(rows, "margin").iloc[0]))
        by_hand = []
        for ids in asked.prompts:
            with torch.no_grad():
                _, cache = tiny_model.run_with_cache(ids[None])
                h = cache[f"blocks.{last}.hook_resid_post"][0, -1] + strength * planted
                by_hand.append(float(norm(h[None])[0] @ (weights[a] - weights[b])))
        assert margins[-1] == pytest.approx(np.mean(by_hand), rel=1e-3, abs=1e-3)
    assert margins == sorted(margins)
    assert margins[-1] - margins[2] > 1


def test_sentences_need_both_labels_in_a_group(tiny_model: Any) -> None:
    items = load_items("bundled", limit=1, seed=0)
    moral = [text for text in load_texts("bundled:morality")[:8] if text.label]
    plain = load_texts("bundled:contrasts")[:2]
    with pytest.raises(InterpError, match="none of the 2 groups of sentences has both labels"):
        Outcomes(tiny_model, items, sentences=moral, plain=plain, completions=())


def test_halves_share_no_group_and_hold_every_category() -> None:
    texts = load_texts("bundled:morality")
    fit, rest = split_groups(texts, seed=0)
    assert not {t.group for t in fit} & {t.group for t in rest}
    assert len(fit) == len(rest) == 280
    assert {t.category for t in fit} == {t.category for t in rest}
    assert split_groups(texts, seed=1)[0] != fit


def test_the_run_steps_equally_far_along_every_direction(done: SteerRun) -> None:
    best = done.stack.best
    nulls = read_table(done.config.out, "nulls")
    units = steering._units(best, nulls, done.config.strengths)
    assert done.config.strengths == (-2.0, 1.0, 2.0)
    lengths = {(u.kind, abs(u.strength)): float(u.step.norm()) for u in units}
    for kind in ("covariance", "placebo", "contrast"):
        assert lengths[kind, 2.0] == pytest.approx(lengths["learned", 2.0], rel=1e-5)
    assert lengths["unsteered", 0.0] == 0
    counts = nulls["kind"].value_counts()
    assert counts.to_dict() == {"contrast": 12, "covariance": 2, "placebo": 1}
    assert set(done.rows["strength"]) == {-2.0, 0.0, 1.0, 2.0}
    n_units = done.rows.groupby(["kind", "direction", "strength"]).ngroups
    assert n_units == len(units) == 1 + 3 + 2 * 15


def test_tables_are_the_paired_differences(done: SteerRun) -> None:
    rows = done.rows
    baseline = rows[rows["kind"] == "unsteered"]
    cell = rows[(rows["direction"] == "tense") & (rows["outcome"] == "preference")]
    before = values(baseline, "preference")
    up, down = (cell[cell["strength"] == s].set_index("item")["value"] - before for s in (2, -2))
    swing = done.swings.set_index(["outcome", "direction"]).loc[("preference", "tense")]
    assert swing["estimate"] == pytest.approx((up - down).mean() / 2)
    assert swing["low"] <= swing["estimate"] <= swing["high"]
    effects = done.effects.set_index(["outcome", "direction", "strength"])["estimate"]
    assert effects.loc[("preference", "tense", 2.0)] == pytest.approx(up.mean())
    cost = done.swings.set_index(["outcome", "direction"]).loc[("nll", "tense"), "estimate"]
    ends = [effects.loc[("nll", "tense", s)] for s in (2.0, -2.0)]
    assert cost == pytest.approx(np.mean(ends))
    assert swing["cost"] == pytest.approx(cost)
    own = done.swings[done.swings["outcome"] == "preference"].set_index("direction")
    sizes = own["estimate"].abs()
    assert own.loc["learned", "p"] == pytest.approx((sizes >= sizes["learned"]).mean())
    assert own["p"].notna().sum() == 1


def test_place_among_counts_the_direction_itself() -> None:
    assert place_among(3.0, [1.0, 2.0]) == pytest.approx(1 / 3)
    assert place_among(1.5, [1.0, 2.0]) == pytest.approx(2 / 3)
    assert place_among(2.0, [2.0]) == 1.0


def make_rows(effects: dict[str, dict[float, float]], n: int = 8) -> pd.DataFrame:
    """Margins and costs: item k is 10 k without a step; every step adds its effect to all."""
    rows = [("unsteered", "unsteered", 0.0, o, "all", f"i{k}", f"c{k}", 10.0 * k)
            for o in ("margin", "nll") for k in range(n)]  # fmt: skip
    for direction, at in effects.items():
        kind = "learned" if direction == "learned" else "contrast"
        for strength, effect in at.items():
            for k in range(n):
                item = ("all", f"i{k}", f"c{k}")
                rows.append((kind, direction, strength, "margin", *item, 10.0 * k + effect))
                rows.append((kind, direction, strength, "nll", *item, 10.0 * k + 0.5))
    columns = ["kind", "direction", "strength", "outcome", "subset", "item", "cluster", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_swings_of_planted_effects_are_exact() -> None:
    planted = {
        "learned": {-2.0: -1.0, 2.0: 3.0},
        "a": {-2.0: 5.0, 2.0: 5.0},
        "b": {-2.0: 3.0, 2.0: -3.0},
    }
    rows = make_rows(planted)
    swings = swing_table(rows, seed=0).set_index(["outcome", "direction"])
    assert swings.loc["margin", "estimate"].to_dict() == {"learned": 2.0, "a": 0.0, "b": -3.0}
    assert swings.loc[("margin", "learned"), "p"] == pytest.approx(2 / 3)
    assert swings.loc[("margin", "learned"), "per_cost"] == pytest.approx(4.0)
    assert swings.loc[("nll", "a"), "estimate"] == pytest.approx(0.5)
    effects = effect_table(rows, seed=0).set_index(["outcome", "direction", "strength"])["estimate"]
    assert effects.loc[("margin", "a", -2.0)] == 5.0


def test_there_is_no_effect_per_cost_where_no_cost_is_shown() -> None:
    rows = make_rows({"learned": {-2.0: -1.0, 2.0: 3.0}, "a": {-2.0: 5.0, 2.0: 5.0}})
    steered = (rows["outcome"] == "nll") & (rows["kind"] == "learned")
    rows.loc[steered & (rows["item"] < "i4"), "value"] -= 0.8  # costs of -.3 and .5
    swings = swing_table(rows, seed=0).set_index(["outcome", "direction"])
    assert swings.loc[("margin", "learned"), "cost"] == pytest.approx(0.1)
    assert np.isnan(swings.loc[("margin", "learned"), "per_cost"])
    assert np.isnan(swings.loc[("margin", "learned"), "p_per_cost"])
    assert swings.loc[("margin", "a"), "per_cost"] == 0.0


def bytes_of(out: Path) -> dict[str, bytes]:
    patterns = ("*.parquet", "*.csv", "report.html", "figures/*.html")
    return {p.name: p.read_bytes() for pattern in patterns for p in out.glob(pattern)}


def test_run_folder_holds_tables_figures_and_report(done: SteerRun) -> None:
    out = done.config.out
    assert {p.stem for p in out.glob("*.parquet")} == TABLES
    assert {p.stem for p in (out / "figures").glob("*.html")} == {"margin", "preference", "cost"}
    report = done.report.read_text()
    for title in ("Does it move the margin?", "At what cost?", "What does it write?"):
        assert title in report
    assert read_manifest(out)["status"] == "complete"
    texts = done.texts.groupby("strength")["prompt"].nunique()
    assert texts.to_dict() == dict.fromkeys((-2.0, 0.0, 1.0, 2.0), 2)


def test_interrupted_and_resumed_gives_the_same_bytes(
    done: SteerRun, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Outcomes.measure, []

    def stops(self: Outcomes, *args: Any, **options: Any) -> pd.DataFrame:
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(1)
        return original(self, *args, **options)

    out = tmp_path / "stopped"
    monkeypatch.setattr(Outcomes, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        run(config(tiny_folder("llama"), out), progress=False)
    seen.clear()
    monkeypatch.setattr(steering, "fit_direction", None)  # the fitted one is kept with the run
    monkeypatch.setattr(steering, "contrast_axes", None)
    with pytest.raises(KeyboardInterrupt):
        run(config(tiny_folder("llama"), out), progress=False)
    monkeypatch.setattr(Outcomes, "measure", original)
    run(config(tiny_folder("llama"), out), progress=False)
    assert bytes_of(out) == bytes_of(done.config.out)


def test_a_file_is_read_on_sentences_it_has_not_seen(
    done: SteerRun, tiny_folder: Folder, tmp_path: Path
) -> None:
    path = done.config.out / "directions" / "morality.safetensors"
    again = run(
        config(tiny_folder("llama"), tmp_path / "run", direction=path, strengths="2"),
        progress=False,
    )
    assert again.sentences.startswith("bundled:statements, because the direction was fitted on")
    groups = set(values(again.rows, "preference").index)
    assert groups <= {text.group for text in load_texts("bundled:statements")}
    assert again.config.strengths == (-2.0, 2.0)
    same = load_direction(path).best
    assert again.stack.best.layer == same.layer


def test_a_direction_fitted_on_everything_is_said_to_have_seen_it(tiny_model: Any) -> None:
    seen = "bundled:morality, bundled:statements"
    given = SimpleNamespace(facts=SimpleNamespace(source=seen))
    _, texts, name = steering._sentences(SteerConfig(groups=3), given)  # type: ignore[arg-type]
    assert "not a held-out reading" in name
    assert len({text.group for text in texts}) == 3


def test_a_direction_of_another_model_is_refused(
    load_tiny: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    texts = load_texts("bundled:statements")
    fitted = fit_direction(load_tiny("gpt2"), texts, n_shuffles=0, progress=False)
    path = fitted.save(tmp_path / "other.safetensors")
    with pytest.raises(InterpError, match="fitted on other weights"):
        run(config(tiny_folder("llama"), tmp_path / "run", direction=path), progress=False)
    with pytest.raises(InterpError, match="not a readable direction"):
        run(config(tiny_folder("llama"), tmp_path / "run", direction=tmp_path / "no.st"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["one,two", "0", "", "nan", "inf,1"])
def test_strengths_that_are_no_steps_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InterpError, match="--strengths") as caught:
        checked(SteerConfig, strengths=text)
    assert "\n" not in str(caught.value)


def test_the_largest_strength_is_read_with_both_signs() -> None:
    assert checked(SteerConfig, strengths="0,-1,3").strengths == (-3.0, -1.0, 3.0)


def app() -> typer.Typer:
    one = typer.Typer()
    one.command(epilog=command.EPILOG)(command.steer)
    return one


def test_the_command_passes_every_option_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(
        steering, "run", lambda c: asked.append(c) or SimpleNamespace(report="r.html")
    )
    words = ["--strengths", "-2,-1", "--items", "bundled", "--limit", "3", "--seed", "5"]
    words += ["--direction", "v.safetensors", "--out", str(tmp_path), "--compatibility-mode"]
    result = CliRunner().invoke(app(), words)
    assert result.exit_code == 0, result.output
    assert "report: r.html" in result.output
    (found,) = asked
    assert found.strengths == (-2.0, -1.0, 2.0)
    assert (found.items, found.limit, found.seed, found.out) == ("bundled", 3, 5, tmp_path)
    assert (found.direction, found.compatibility_mode) == (Path("v.safetensors"), True)


def test_unknown_items_are_refused_in_one_line(tiny_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="neither a path nor a data set"):
        run(config(tiny_folder("llama"), tmp_path / "run", items="bundeld"), progress=False)
    assert not (tmp_path / "run").exists()


def spoken(swing: float, low: float, high: float, p: float, *, clusters: int = 9) -> str:
    """What is said of a margin with these numbers."""
    row = {"outcome": "margin", "subset": "ambiguous"}
    null = {**row, "kind": "contrast", "direction": "tense"}
    null |= interval_columns(Interval(0.1, 0.0, 0.0, 12, clusters))
    own = {**row, "kind": "learned", "direction": "learned", "p": p}
    own |= interval_columns(Interval(swing, low, high, 12, clusters))
    auc = Interval(*(np.array([v]) for v in (0.7, 0.6, 0.8, 9, 9)), reason=np.array([""]))
    fake = SimpleNamespace(
        swings=pd.DataFrame([own, null]),
        sentences="held out",
        stack=SimpleNamespace(layers=(3,), best_layer=3, auc=auc),
    )
    return story.read_outcome(fake, "margin", "ambiguous")  # type: ignore[arg-type]


def test_only_what_passes_every_gate_is_said_to_move_the_margin() -> None:
    said = "more than directions without a meaning do"
    assert "contains 0, no effect is shown" in spoken(0.2, -0.1, 0.5, 0.01)
    assert f"it does not move the margin of ambiguous items {said}" in spoken(0.2, 0.1, 0.3, 0.4)
    assert "3 clusters are too few" in spoken(0.2, 0.1, 0.3, 0.01, clusters=3)
    for_better = spoken(0.2, 0.1, 0.3, 0.01)
    assert f"it moves the margin of ambiguous items {said}, towards the better" in for_better
    assert "against the better answer" in spoken(-0.2, -0.3, -0.1, 0.01)
