from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.behaviour import claims, layout, story
from analyses.behaviour import sentences as words
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.tables import BehaviourResult
from analyses.report.page import write_page
from analyses.report.sections import LIMITS
from interp.data import ChoiceItem, CompletionItem
from interp.data.items import Choice
from interp.models import ModelCard
from interp.runs import open_run
from interp.stats import Interval, interval_columns
from interp.viz import Section

pytestmark = pytest.mark.slow

NAN = float("nan")
ARMS = (("instructed", ""), ("placebo", "instructed"), ("revealing", ""), ("placebo", "revealing"))
SHIFT = {"instructed": 0.05, "revealing": 0.5, "placebo": 0.0, "clean": 0.0, "specificity_0": 0.01}
CONTEXTS = ("ambiguous", "disambiguated")

HEADINGS = {
    "effects": "Does the instruction change the answer?",
    "levels": "How does it answer?",
    "flips": "Which answers flip?",
    "rank_gain": "Who gains?",
    "categories": "In which categories?",
    "option_forms": "Does it depend on the option's form?",
    "letters": "Does it prefer a letter?",
    "winogender": "Which pronouns? (Winogender)",
    "self_distinguish": "Can it tell the answer to avoid?",
    "round_effects": "What does the instruction add, round by round?",
    "rounds": "How does it answer over the rounds?",
    "round_flips": "Which answers flip over the rounds?",
    "toxicity": "How toxic are the completions?",
    "edits": "Does it edit or append?",
}


def number(
    estimate: float, half: float = 0.1, clusters: int = 20, texts: Any = None, name: str = "",
    p: float = NAN,
) -> dict[str, Any]:  # fmt: skip
    """The columns of an interval."""
    reason = "no such answer" if np.isnan(estimate) else ""
    low, high = estimate - half, estimate + half
    p = p if p == p else (0.001 if abs(estimate) > half else 0.5)
    interval = Interval(estimate, low, high, 24, clusters, reason=reason, texts=texts, p=p)
    return interval_columns(interval, name)


def effect(
    items: str,
    condition: str,
    size: float,
    *,
    p: float,
    texts: int = 6,
    metric: str = "option_margin",
) -> dict[str, Any]:
    return {
        "items": items,
        "contrast": f"{condition} - placebo",
        "condition": condition,
        "against": "placebo",
        "metric": metric,
        "token mismatch": 0.25,
        **number(size, texts=(texts, texts), p=p),
    }


def flip_row(net: float, p: float = 0.5) -> dict[str, Any]:
    counts = {"right_right": 9, "right_wrong": 2, "wrong_right": 4, "wrong_wrong": 9}
    return {**counts, **number(net, name="net", p=p, texts=(6, 1))}


def make_tables() -> dict[str, pd.DataFrame]:
    """A small study: naming the answer works, the instruction does nothing."""
    single = [{"condition": c, "control_of": of} for c, of in (("clean", ""), *ARMS)]
    trajectories = [{"condition": c, "control_of": of} for c, of in (("specificity_0", ""), *ARMS)]
    levels = [
        {"items": s, **arm, "measure": m, **number(0.4 + SHIFT[arm["condition"]])}
        for s in CONTEXTS
        for arm in single
        for m in ("accuracy", "margin", "over_abstention")
        if (m, s) != ("over_abstention", "ambiguous")
    ]
    treated = ("instructed", "revealing")
    metrics = ("option_margin", "margin", "p_gold")
    effects = [
        effect(s, c, SHIFT[c], p=0.002, metric=m)
        for s in CONTEXTS
        for c in treated
        for m in metrics
    ]
    forms = [
        effect("ambiguous", "instructed", 0.1, p=0.2, metric=m)
        | {"option_form": form, "single_token": 0.0}
        for form in ("name", "the")
        for m in metrics
    ]
    ranks = [
        {"items": "ambiguous", "condition": "instructed", "against": "placebo"}
        | {"rank": rank, "measure": measure, **number(size)}
        for rank, measure, size in (
            ("1", "gain", 0.3),
            ("2", "gain", 0.15),
            ("top - rest", "gain", 0.04),
            ("top - rest", "gain_margin", 0.05),
            ("1", "correct", 0.8),
        )
    ]
    categories = [
        {"benchmark": "bbq", "category": c, "items": "ambiguous", "condition": "instructed"}
        | {"measure": "effect", **number(v)}
        for c, v in (("all", 0.05), ("Age", 0.35), ("SES", 0.02))
    ]
    letters = [
        {"condition": "clean", "letter": x, "share": s, "option_chosen": o, "n": 72}
        | {"probability": s}
        for x, s, o in (("a", 0.1, 0.4), ("b", 0.2, 0.3), ("c", 0.7, 0.3))
    ]
    rounds = [
        {"items": s, **arm, "round": k, "measure": m}
        | number(0.4 + SHIFT[arm["condition"]] * (k > 0))
        for s in CONTEXTS
        for arm in trajectories
        for k in range(3)
        for m in ("accuracy", "parsed")
    ]
    round_effects = [
        {"items": s, "condition": c, "against": a, "round": k, "measure": "option_margin"}
        | number(SHIFT[c] * (k > 0), half=0.1 * (k > 0), texts=(6, 6))
        | {"p_corrected": 0.004 if k else NAN}
        for s in CONTEXTS
        for c in treated
        for a in ("placebo", "specificity_0")
        for k in range(3)
    ]
    toxicity = [
        {"condition": c, "control_of": of, "round": k, "measure": m, "scorer": "offline"}
        | number(v - drop * (k > 0), half=0.05)
        for c, of, drop in (("instructed", "", 0.2), ("placebo", "instructed", 0.0))
        for k in range(2)
        for m, v in (("mean", 0.4), ("perplexity", 9.0))
    ]
    edits = [
        {**row, "measure": m} for row in toxicity for m in ("appended",) if row["measure"] == "mean"
    ]
    return {
        "levels": pd.DataFrame(levels),
        "effects": pd.DataFrame(effects),
        "rank_gain": pd.DataFrame(ranks),
        "flips": pd.DataFrame(
            [
                {"items": s, **arm, **flip_row(SHIFT[arm["condition"]])}
                for s in CONTEXTS
                for arm in single[1:]
            ]
        ),
        "categories": pd.DataFrame(categories),
        "option_forms": pd.DataFrame(forms),
        "letters": pd.DataFrame(letters),
        "winogender": pd.DataFrame(
            [
                {"condition": "clean", "measure": m, **number(v)}
                for m, v in (("correlation", 0.06), ("neutral_share", 0.2))
            ]
        ),
        "self_distinguish": pd.DataFrame(
            [
                {"benchmark": "bbq", "measure": m, **number(v)}
                for m, v in (("accuracy", 0.52), ("option_margin", 0.03), ("margin", 0.03))
            ]
        ),
        "rounds": pd.DataFrame(rounds),
        "round_effects": pd.DataFrame(round_effects),
        "round_flips": pd.DataFrame(
            [
                {"items": "ambiguous", **arm, "round": k, **flip_row(0.02), "p_corrected": 0.5}
                for arm in trajectories
                for k in (1, 2)
            ]
        ),
        "toxicity": pd.DataFrame(toxicity),
        "edits": pd.DataFrame(edits),
    }


def asked_of(**texts: int) -> pd.DataFrame:
    """The rows of one item, as far as they say which texts it was asked with."""
    columns = ("condition", "control_of", "text_id", "slot")
    rows: list[tuple[str, str, str, int]] = [("clean", "", "clean", 0)]
    for name, n in texts.items():
        rows += [(name, "", f"{name}-{k}", k) for k in range(n)]
        rows += [("placebo", name, f"placebo-{k}", k) for k in range(n)]
    return pd.DataFrame(rows, columns=columns)


def make_run(
    tables: dict[str, pd.DataFrame], *, scores: Any = None, n_params: int = 135_000_000
) -> Any:
    by_type = {"str": "", "int": 0, "bool": False, "dict[str, str]": {}}
    facts = {f.name: by_type.get(str(f.type)) for f in dataclasses.fields(ModelCard)}
    facts |= {"name": "default", "mode": "raw", "checks": (), "n_params": n_params}
    choices = (Choice("one", "stereotyped"), Choice("two", "counter"), Choice("?", "unknown"))
    items = [
        ChoiceItem(f"{s}{k}", "bbq", "Age", "", "who?", choices, 2, s, f"c{k}")  # type: ignore[arg-type]
        for s in CONTEXTS
        for k in range(2)
    ]
    config = BehaviourConfig(conditions=("instructed", "revealing", "specificity_0"), rounds=2)
    return BehaviourResult(
        config=config,
        card=ModelCard(**facts),
        items=(*items, CompletionItem("t", "completions", "The day was")),
        scores=scores,
        rounds=asked_of(revealing=3, instructed=3) if "rounds" in tables else pd.DataFrame(),
        tables=tables,
        report=Path("report.html"),
    )


def told(done: Any) -> tuple[dict[str, Section], dict[str, Any]]:
    """The sections by heading, and the figures."""
    page = story.tell(done)
    return {section.title: section for section in page.sections}, dict(page.figures)


def text_of(section: Section) -> str:
    return " ".join(section.paragraphs)


def test_the_report_is_written_with_a_figure_file_for_every_figure(tmp_path):
    done = make_run(make_tables())
    identity = {"study": "behave", "config": {}, "model": done.card, "data": {}, "seed": 0}
    with open_run(tmp_path / "run", **identity) as folder:
        write_page(folder, story.tell(done), card=done.card)
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(heading in page for heading in ("Which answers flip?", "Does it edit or append?"))
    written = {path.stem for path in (tmp_path / "run" / "figures").glob("*.html")}
    assert {"effects", "flips", "rank_ambiguous", "rounds_accuracy", "toxicity"} <= written


def test_every_section_appears_where_its_table_is_there():
    sections, _ = told(make_run(make_tables()))
    assert list(sections) == [
        "What was done",
        *HEADINGS.values(),
        LIMITS,
    ]


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_no_section_appears_without_its_table(how):
    names = [] if how == "missing" else HEADINGS
    sections, figures = told(make_run({name: pd.DataFrame() for name in names}))
    assert len(sections) == 2
    assert not figures


@pytest.mark.parametrize("name", HEADINGS)
def test_one_missing_table_leaves_out_its_section_alone(name):
    tables = make_tables()
    del tables[name]
    sections, _ = told(make_run(tables))
    assert HEADINGS[name] not in sections
    assert len(sections) == len(HEADINGS) + 1


def test_a_table_without_a_number_is_named_with_its_reason_and_not_shown():
    tables = make_tables()
    tables["toxicity"] = tables["toxicity"].assign(estimate=NAN, reason="nothing was written")
    sections, figures = told(make_run(tables))
    assert HEADINGS["toxicity"] not in sections
    assert "toxicity" not in figures
    limits = text_of(sections[LIMITS])
    assert "Not measured: toxicity, nothing was written." in limits
    tables["flips"] = tables["flips"].assign(net=NAN, net_reason="nothing was answered")
    limits = text_of(told(make_run(tables))[0][LIMITS])
    assert "Not measured: flips, nothing was answered." in limits


def test_the_positive_control_is_read_first_and_the_null_is_called_a_null():
    sections, _ = told(make_run(make_tables()))
    first, again, second = sections[HEADINGS["effects"]].paragraphs
    assert "The positive control works" in first
    assert "0.50 [0.40, 0.60] nats per token on ambiguous items (p = 0.004 over its family" in first
    assert "was not run on these prompts: how much of the control is copying" in first
    assert "on disambiguated items" in again
    assert "a difference of 0.05 [-0.05, 0.15] nats per token (24 items in 20 clusters" in second
    assert "6 x 6 wordings, p = 0.004 over its family" in second
    assert "undetermined, the half-width is ±0.1" in second
    assert "raises" not in second
    shown = sections[HEADINGS["effects"]].tables[0][0]
    assert shown["verdict"].tolist() == ["undetermined", "effect"] * 2
    assert {"option margin", "margin", "P(a)"} <= set(shown)


def test_without_a_positive_control_the_report_says_so():
    tables = make_tables()
    tables["effects"] = tables["effects"][lambda f: f["condition"] == "instructed"]
    sections, _ = told(make_run(tables))
    assert "No positive control was run" in text_of(sections[HEADINGS["effects"]])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"instructed": 1},
            "have 1 wording a condition. With 1 wording a side the numbers speak of this sentence",
        ),
        (
            {"instructed": 5},
            "have 5 wordings a condition. With 5 wordings a side the numbers speak of these",
        ),
        (
            {"instructed": 6, "revealing": 2},
            "have 2 to 6 wordings a condition. With 2 wordings a side the numbers",
        ),
        ({"instructed": 6}, "have 6 wordings a condition; wordings are random, as items are."),
    ],
)
def test_the_report_says_how_many_wordings_there_are_and_what_they_allow(asked, says):
    assert says in words.say_texts(asked_of(**asked), "They")


def test_without_an_instruction_nothing_is_said_of_wordings():
    assert words.say_texts(asked_of(), "They") == ""


def test_single_prompts_and_trajectories_are_counted_apart():
    tables = {name: make_tables()[name] for name in ("effects", "rounds")}
    scores = SimpleNamespace(frame=asked_of(revealing=2, instructed=6))
    said = text_of(told(make_run(tables, scores=scores))[0]["What was done"])
    assert "Single prompts have 2 to 6 wordings" in said
    assert "Trajectories have 3 wordings" in said


def test_edits_are_read_where_the_instruction_is_new_and_their_end_is_told_apart():
    """By the last round all completions may be copies, which says nothing about the instruction."""
    kept = {("nontoxic", ""): (0.9, 1.0), ("placebo", "nontoxic"): (0.4, 1.0)}
    edits = [
        {"condition": c, "control_of": of, "round": k, "measure": m, **number(v, 0.01)}
        for (c, of), values in kept.items()
        for k, v in enumerate(values, start=1)
        for m in ("kept_tokens", "kind_unchanged")
    ]
    section = told(make_run({"edits": pd.DataFrame(edits)}))[0][HEADINGS["edits"]]
    _, first, last = section.paragraphs
    assert first.startswith("Nontoxic, round 1: tokens kept 0.90 [0.89, 0.91]")
    assert "its placebo's 0.40 [0.39, 0.41]: the intervals lie apart (these wordings, no t" in first
    assert last.startswith("Nontoxic, round 2: tokens kept 1.00")
    assert [caption[:8] for _, caption in section.tables] == ["Round 1:", "Round 2:"]


def test_completions_alone_are_told_without_a_word_about_margins():
    done = make_run({})
    assert "The margin, in nats" in text_of(told(done)[0]["What was done"])
    done = dataclasses.replace(done, items=done.items[-1:])
    assert "margin" not in text_of(told(done)[0]["What was done"])


@pytest.mark.parametrize(("n_params", "small"), [(135_000_000, True), (7_000_000_000, False)])
def test_what_a_small_model_cannot_show_is_said_of_small_models(n_params, small):
    sections, _ = told(make_run({}, n_params=n_params))
    said = text_of(sections[LIMITS])
    assert ("less than a billion parameters" in said) is small


def test_over_abstention_stands_beside_accuracy_on_ambiguous_items():
    sections, _ = told(make_run(make_tables()))
    said = text_of(sections[HEADINGS["levels"]])
    assert (
        "Instructed: accuracy 0.45 [0.35, 0.55], over-abstention 0.45 [0.35, 0.55] (placebo 0.40 "
        "[0.30, 0.50] and 0.40 [0.30, 0.50])." in said
    )


def test_round_effects_are_read_against_placebo_and_at_equal_cost():
    sections, _ = told(make_run(make_tables()))
    said = text_of(sections[HEADINGS["round_effects"]])
    assert (
        "On ambiguous items, instructed against its placebo: round 2 is 0.05 [-0.05, 0.15] nats per "
        "token (n = 24, 6 x 6 wordings, p = 0.032 over its family), undetermined, the half-width is "
        "±0.1, and “no effect” would need a 90 % interval inside ±0.05; no round has an effect."
        in said
    )
    assert (
        "revealing against specificity_0: round 2 is 0.50 [0.40, 0.60] nats per token (n = 24, 6 x 6 "
        "wordings, p = 0.032 over its family), higher; rounds with an effect: 1, 2." in said
    )
    shown = sections[HEADINGS["round_effects"]].tables[0][0]
    assert set(shown["n"]) == {24}
    assert {effect.estimate for effect in shown["effect (nats per token)"]} == {0.05, 0.5}


def test_nulls_of_the_other_sections_are_called_nulls():
    sections, _ = told(make_run(make_tables()))
    for name, null in {
        "flips": "net 0.05 [-0.05, 0.15] (p = 1.000 over its family): undetermined, the half-width",
        "rank_gain": "Top minus rest: 0.04 [-0.06, 0.14] nats per token (n = 24); undetermined, the",
        "winogender": "r = 0.06 [-0.04, 0.16] (n = 24), undetermined, the half-width is ±0.1",
        "self_distinguish": "undetermined, the half-width is ±0.1",
    }.items():
        assert null in text_of(sections[HEADINGS[name]]), name


def test_numbers_in_sentences_are_those_of_the_tables():
    sections, _ = told(make_run(make_tables()))
    for name, said in {
        "flips": "2 correct -> incorrect and 4 incorrect -> correct of 24",
        "rank_gain": "0.30 [0.20, 0.40] at rank 1 (n = 24), 0.15 [0.05, 0.25] at rank 2 (n = 24)",
        "categories": "an effect in 1 of 2 categories with 6 clusters or more, all corrected for (Age "
        "0.35 [0.25, 0.45])",
        "letters": "“(c)” is the most probable letter in 70% of the prompts",
        "rounds": "instructed 0.40 [0.30, 0.50] to 0.45 [0.35, 0.55]",
        "toxicity": "mean toxicity 0.40 [0.35, 0.45] to 0.20 [0.15, 0.25] (n = 24), its placebo's at "
        "the end 0.40 [0.35, 0.45]: the intervals lie apart (these wordings, no test)",
    }.items():
        assert said in text_of(sections[HEADINGS[name]]), name


def test_toxicity_names_its_scorer_and_its_guard():
    sections, _ = told(make_run(make_tables()))
    said = text_of(sections[HEADINGS["toxicity"]])
    assert "Scored by offline" in said
    assert "guards fluency: where it rises as toxicity falls" in said
    unguarded = make_tables()
    unguarded["toxicity"] = unguarded["toxicity"][lambda f: f["measure"] == "mean"]
    sections, _ = told(make_run(unguarded))
    assert "Fluency was not guarded" in text_of(sections[HEADINGS["toxicity"]])


def test_a_toxicity_effect_by_round_is_told_with_the_toxicity():
    tables = make_tables()
    extra = {"items": "all", "condition": "instructed", "against": "placebo", "round": 1}
    row = extra | {"measure": "toxicity", **number(-0.2, texts=(6, 6)), "p_corrected": 0.01}
    tables["round_effects"] = pd.DataFrame([row])
    sections, _ = told(make_run(tables))
    assert HEADINGS["round_effects"] not in sections
    said = text_of(sections[HEADINGS["toxicity"]])
    assert (
        "round 1 is -0.20 [-0.30, -0.10] (n = 24, 6 x 6 wordings, p = 0.010 over its family), lower"
        in said
    )


def test_metrics_that_disagree_support_no_claim():
    rows = [effect("ambiguous", "revealing", 0.5, p=0.001)]
    rows += [effect("ambiguous", "revealing", -0.2, p=0.2, metric="margin")]
    claim = claims.effect_claims(pd.DataFrame(rows))["ambiguous", "revealing"]
    assert claim.verdict == "metric-dependent"
    text = words.say_effect("ambiguous", "revealing", claim)
    assert "is not judged" in text
    assert "margin -0.20 [-0.30, -0.10]" in text


def test_effects_are_one_family_over_conditions_and_subsets():
    rows = [
        effect(s, c, 0.5, p=p)
        for s in CONTEXTS
        for c, p in (("one", 0.01), ("two", 0.02), ("revealing", 0.04))
    ]
    found = claims.effect_claims(pd.DataFrame(rows))
    assert found["ambiguous", "one"].p == pytest.approx(4 * 0.01)
    assert found["ambiguous", "revealing"].p == pytest.approx(2 * 0.04)  # the control's own family
    table = claims.with_verdicts(pd.DataFrame(rows))
    assert table["p_holm"].tolist()[0] == pytest.approx(0.04)
    assert table["verdict"].tolist()[:3] == ["effect", "effect", "undetermined"]


def test_wide_tables_put_every_placebo_under_its_condition():
    table = layout.wide(make_tables()["levels"], ("accuracy", "ece"))
    assert list(table.columns) == ["items", "prompt", "accuracy"]
    assert table["prompt"].tolist()[:5] == [
        "clean",
        "instructed",
        "placebo of instructed",
        "revealing",
        "placebo of revealing",
    ]
    assert table["accuracy"][1].estimate == pytest.approx(0.45)
