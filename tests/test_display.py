"""Hostile text in everything that becomes HTML: no live tag reaches a notebook or a page."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

import interp
from interp.behaviour import score_options
from interp.data import Choice, ChoiceItem, LabelledText
from interp.directions import decompose, fit_directions, transfer_matrix
from interp.display import escape_html, html_paragraph, html_table, visible_token
from interp.lens import lens_conditions
from interp.models import ModelCard
from interp.patching import SweepResult, plan_sweep
from interp.stats import Interval, interval_columns
from interp.superficiality import Finding, Scorecard

pytestmark = pytest.mark.slow  # left out of the everyday tests

BAD = "<img src=x onerror=alert(1)>\"'&"
_FILES = Path(interp.__file__).parent


def make_item(k: int = 0) -> ChoiceItem:
    choices = (
        Choice(f"Not {BAD}", "unknown"),
        Choice(f"The farmer {BAD}", "stereotyped"),
        Choice("The teacher", "counter"),
    )
    return ChoiceItem(
        f"q{k}{BAD}",
        f"own{BAD}",
        f"kind{BAD}",
        f"The teacher met the farmer. {BAD}",
        f"Who was late? {BAD}",
        choices,
        0,
        "ambiguous",
        f"c{k}{BAD}",
    )


@pytest.fixture(scope="module")
def pair(tiny_model: Any) -> Any:
    return interp.make_pair(tiny_model, make_item(), "instructed", against="placebo")


@pytest.fixture(scope="module")
def sweep(tiny_model: Any, pair: Any) -> SweepResult:
    metric = {f"mine{BAD}": lambda logits, pair: logits[..., 3]}
    return interp.sweep(tiny_model, pair, site="z", metric=metric, progress=False)


@pytest.fixture(scope="module")
def texts() -> list[LabelledText]:
    return [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}{BAD}", f"file{BAD}", f"kind{BAD}")
        for k in range(8)
        for verb, label in (("was", 1), ("was not", 0))
    ]


@pytest.fixture(scope="module")
def shown(
    tiny_model: Any, pair: Any, sweep: SweepResult, texts: list[LabelledText]
) -> dict[str, Any]:
    """An object of every class that shows itself as HTML, made of hostile text."""
    model = tiny_model
    directions = fit_directions(model, texts, n_folds=2, n_shuffles=3, progress=False)
    stack = interp.fit_direction(model, texts, n_folds=2, n_shuffles=3, progress=False)
    card = interp.models.model_card(model)
    bad_card = dataclasses.replace(card, **{_text_field(card): BAD})
    sets = {f"one{BAD}": texts, f"two{BAD}": texts}
    scores = score_options(model, [make_item(0), make_item(1)], n_texts=1, progress=False)
    return {
        "TokenizedPrompt": pair.source,
        "Alignment": pair.alignment,
        "PromptPair": pair,
        "SweepResult": dataclasses.replace(sweep, notes=(BAD,)),
        "SweepPlan": plan_sweep(model, pair, site="z"),
        "DirectionStack": stack,
        "DirectionFits": directions,
        "Projections": interp.project(model, pair, stack, progress=False),
        "Decomposition": decompose(model, pair, stack[1], progress=False),
        "Transfer": transfer_matrix(model, sets, n_folds=2, progress=False),
        "LensTrajectory": interp.lens_trajectory(model, pair, progress=False),
        "LensConditions": lens_conditions(model, [make_item()], progress=False),
        "OptionScores": dataclasses.replace(scores, card=bad_card),
        "ModelCard": bad_card,
        "AttentionPatterns": interp.activations.read_attention(model, pair),
        "Scorecard": _hostile_card(),
        "Fragment": interp.viz.coloured_tokens([BAD], {BAD: [1.0]}, unit=BAD),
    }


def _hostile_card() -> Scorecard:
    found = Interval(0.5, 0.3, 0.7, 8, 8, texts=(6, 6), se=0.1, df=7.0, p=0.01)
    table = pd.DataFrame([{"metric": BAD, **interval_columns(found), "delta": 0.1}])
    return Scorecard((Finding("behaviour", BAD, found, 0.01, BAD, 8, BAD, table),), BAD)


def _text_field(card: ModelCard) -> str:
    return next(f.name for f in dataclasses.fields(card) if isinstance(getattr(card, f.name), str))


def classes_with_html() -> list[str]:
    found = []
    for file in _FILES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(part, ast.FunctionDef) and part.name == "_repr_html_"
                for part in node.body
            ):
                found.append(node.name)
    return sorted(found)


@pytest.mark.parametrize("name", classes_with_html())
def test_no_live_tag_leaves_a_result(name: str, shown: dict[str, Any]) -> None:
    html = shown[name]._repr_html_()
    assert html
    assert "<img" not in html
    assert "onerror=alert(1)>" not in html


@pytest.mark.parametrize(
    "name", ["PromptPair", "SweepResult", "DirectionStack", "OptionScores", "Fragment"]
)
def test_the_text_itself_is_shown(name: str, shown: dict[str, Any]) -> None:
    assert "&lt;img" in shown[name]._repr_html_()


def test_pages_hold_no_live_tag(tiny_model: Any, pair: Any, tmp_path: Path) -> None:
    interp.viz.attention_page(tiny_model, pair, path=tmp_path / "a.html", heads=[(0, 1)])
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<img" not in page.split("<body", 1)[-1]


def test_a_report_holds_no_live_tag() -> None:
    frame = pd.DataFrame({f"a{BAD}": [BAD], "b": [1.0]})
    section = interp.viz.Section(BAD, [BAD], [(frame, BAD)], note=BAD)
    page = interp.viz.render_report([section], title=BAD, lead=BAD)
    assert "<img" not in page


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(interp.viz.__all__) - {"save"}))
def test_figures_hold_no_tag_from_outside(name: str, shown: dict[str, Any]) -> None:
    """Every figure that can be drawn of one of the results above."""
    draw = getattr(interp.viz, name)
    one_metric = shown["SweepResult"][shown["SweepResult"].metric_names[0]]
    for result in (*shown.values(), one_metric):
        try:
            figure = draw(result)
        except Exception:
            continue  # drawn of another result
        if isinstance(figure, go.Figure):
            assert "<img" not in json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def test_frames_and_paragraphs_are_escaped_whole() -> None:
    frame = pd.DataFrame({BAD: [BAD]}, index=pd.Index([BAD], name=BAD))
    for html in (html_table(frame, index=True), html_paragraph(BAD, bold=True), escape_html(BAD)):
        assert "<img" not in html
        assert "&lt;img" in html
    assert html_table(pd.DataFrame({"x": [0.12345]}), decimals=2).count("0.12<") == 1


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        (" the", " the"),
        ("a\r\n\tb", "a␍⏎⇥b"),
        ("", "∅"),
        ("\u200b", "‹U+200B›"),
        ("\u202eab", "‹U+202E›ab"),
        ("\u200d", "‹U+200D›"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("\u0301", "◌\u0301"),
        ("\x00", "‹U+0000›"),
        ("\ud83d", "‹U+D83D›"),
    ],
)
def test_what_the_eye_cannot_see_in_a_token_is_a_sign(token: str, seen: str) -> None:
    assert visible_token(token) == seen
