"""Scoring against a slow oracle: every prompt with every option alone, in plain arithmetic."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from interp.behaviour import ScoringPlan, score_item, score_options, score_variants
from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem
from interp.errors import InterpError
from interp.prompts import Condition, TextBank

AMBIGUOUS = bundled_choices()[0]
DISAMBIGUATED = next(i for i in bundled_choices() if i.context_condition == "disambiguated")
PLAN = ScoringPlan(("clean", "instructed", "placebo", "revealing"), n_texts=2, n_control_texts=1)
KEYS = ["condition", "control_of", "slot", "order"]
ROLES = ("unknown", "stereotyped", "counter")


def item_of(*texts, roles=ROLES, gold=0):
    choices = tuple(Choice(text, role) for text, role in zip(texts, roles, strict=True))
    return ChoiceItem("x-1", "b", "c", "Two met.", "Who?", choices, gold, "ambiguous", "x")


SHARED_START = item_of("The teacher and all", "The teacher or one", "The river")
PREFIX = item_of("The teacher", "The teacher and all", "The river")


class Oracle:
    """The definitions of the readings, one full run per prompt and continuation."""

    def __init__(self, model):
        self.model = model
        self.tokenizer = model.tokenizer
        self.letters = "abcdefghij"

    def prompt(self, item, instruction, order, placement):
        listed = [f"({self.letters[k]}) {item.choices[i].text}" for k, i in enumerate(order)]
        question = "\n".join([item.context, item.question, *listed])
        parts = [question] if instruction is None else [question, instruction]
        content = "\n\n".join(parts if placement == "after" else reversed(parts))
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return rendered + "The single, most likely answer choice is"

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def logits(self, ids):
        return self.model(torch.tensor([ids]))[0].double()

    def answer(self, prompt, continuation):
        """Its ids, and the logits that predict each of them."""
        n, full = len(self.ids(prompt)), self.ids(f"{prompt} {continuation}")
        return full[n:], self.logits(full)[n - 1 : -1]

    def row(self, item, instruction, order, placement="after"):
        prompt = self.prompt(item, instruction, order, placement)
        answers = [self.answer(prompt, choice.text) for choice in item.choices]
        means = [self.mean_log_probability(*answer) for answer in answers]
        weights = [math.exp(mean - max(means)) for mean in means]
        scores = [weight / sum(weights) for weight in weights]
        a, b = item.contrast()
        row = {
            "margin": self.margin(prompt, answers[a], answers[b]),
            "option_margin": means[a] - means[b],
            "p_gold": scores[item.gold],
            "gold_rank": 1 + sum(score > scores[item.gold] for score in scores),
            "correct": max(scores) == scores[item.gold],
            "chosen_role": item.choices[scores.index(max(scores))].role,
            "chosen_position": list(order).index(scores.index(max(scores))),
        }
        for choice, score in zip(item.choices, scores, strict=True):
            row[f"p_{choice.role}"] = score
        for position, choice in enumerate(order):
            row[f"p_position_{position}"] = scores[choice]
        return row | self.letter_probabilities(prompt, len(order))

    def mean_log_probability(self, ids, logits):
        return float(logits.log_softmax(-1)[range(len(ids)), ids].mean())

    def margin(self, prompt, a, b):
        (ids_a, _), (ids_b, _) = a, b
        pairs = list(zip(ids_a, ids_b, strict=False))
        k = next((k for k, (x, y) in enumerate(pairs) if x != y), None)
        if k is None:
            return math.nan
        last = self.logits(self.ids(prompt) + ids_a[:k])[-1]
        return float(last[ids_a[k]] - last[ids_b[k]])

    def letter_probabilities(self, prompt, n):
        """The letters share the token of the bracket; the next one tells them apart."""
        bracketed = [self.ids(f"{prompt} ({letter})") for letter in self.letters[:n]]
        start = len(self.ids(prompt))
        k = next(k for k in range(start, start + 9) if len({ids[k] for ids in bracketed}) > 1)
        last = self.logits(bracketed[0][:k])[-1]
        p = last[[ids[k] for ids in bracketed]].softmax(0)
        return {f"letter_{letter}": float(x) for letter, x in zip(self.letters, p, strict=False)}


def assert_rows_equal_the_oracle(model, item, frame, plan, *, orders=None):
    oracle, bank = Oracle(model), TextBank(model.tokenizer)
    variants = bank.conditions(
        item, plan.conditions, n_texts=plan.n_texts, n_control_texts=plan.n_control_texts
    )
    text_of = {(v.name, v.control_of, v.slot): v.text for v in variants}
    n = len(item.choices)
    assert len(frame) == len(variants) * n
    checked = frame if orders is None else frame[frame["order"].isin(orders)]
    for row in checked.to_dict("records"):
        instruction = text_of[(row["condition"], row["control_of"], row["slot"])]
        order = [(row["order"] + k) % n for k in range(n)]
        for column, value in oracle.row(item, instruction, order, plan.placement).items():
            close = pytest.approx(value, abs=1e-4, nan_ok=True)
            assert row[column] == (close if isinstance(value, float) else value), column


def rows_of(model, item, plan, **options):
    return score_item(model, TextBank(model.tokenizer), item, plan, **options)


def ordered(frame):
    return frame.sort_values(KEYS).reset_index(drop=True)


def assert_same_values(one, other):
    pd.testing.assert_frame_equal(ordered(one), ordered(other), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True], ids=["raw", "compatibility"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gemma", "neox"])
def test_rows_equal_one_full_run_per_prompt_and_option(load_tiny, architecture, compatibility_mode):
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    plan = ScoringPlan(("clean", "instructed"), n_texts=1)
    for item in (AMBIGUOUS, DISAMBIGUATED, SHARED_START):
        frame = rows_of(model, item, plan)
        assert_rows_equal_the_oracle(model, item, frame, plan)
        assert frame["margin"].abs().min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["before", "after"])
def test_every_condition_and_placement_is_scored_on_its_own_prompt(tiny_model, placement):
    plan = replace(PLAN, placement=placement)
    frame = rows_of(tiny_model, AMBIGUOUS, plan)
    assert_rows_equal_the_oracle(tiny_model, AMBIGUOUS, frame, plan)
    assert frame["margin"].nunique() == len(frame)


@pytest.mark.slow
@pytest.mark.parametrize("max_nodes", [1, 200])
def test_the_size_of_a_packed_forward_does_not_change_the_rows(tiny_model, max_nodes):
    wide = rows_of(tiny_model, AMBIGUOUS, PLAN, max_nodes=100_000)
    assert_same_values(wide, rows_of(tiny_model, AMBIGUOUS, PLAN, max_nodes=max_nodes))


def test_the_same_plan_twice_gives_the_same_bytes(tiny_model):
    one, other = (rows_of(tiny_model, AMBIGUOUS, PLAN) for _ in range(2))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.to_json(double_precision=15) == other.to_json(double_precision=15)


def test_the_order_of_the_conditions_does_not_change_their_rows(tiny_model):
    one = rows_of(tiny_model, AMBIGUOUS, PLAN)
    other = rows_of(tiny_model, AMBIGUOUS, replace(PLAN, conditions=PLAN.conditions[::-1]))
    assert list(other["condition"].unique()) == list(PLAN.conditions[::-1])
    assert_same_values(one, other)


def test_items_do_not_depend_on_the_items_scored_with_them(tiny_model):
    together = score_options(tiny_model, [DISAMBIGUATED, AMBIGUOUS], n_texts=1, progress=False)
    alone = rows_of(tiny_model, AMBIGUOUS, ScoringPlan(n_texts=1))
    kept = together.frame[together.frame["item"] == AMBIGUOUS.id].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, alone)


def test_over_the_cyclic_orders_each_option_is_read_at_each_position(tiny_model):
    frame = rows_of(tiny_model, AMBIGUOUS, ScoringPlan(("clean",)))
    roles = [choice.role for choice in AMBIGUOUS.choices]
    for row in frame.to_dict("records"):
        for position in range(3):
            role = roles[(row["order"] + position) % 3]
            assert row[f"p_position_{position}"] == row[f"p_{role}"]
        assert row["chosen_role"] == roles[(row["order"] + row["chosen_position"]) % 3]
    assert frame["order"].tolist() == [0, 1, 2]


def test_option_scores_and_letters_are_probabilities(tiny_model):
    frame = rows_of(tiny_model, AMBIGUOUS, PLAN)
    for columns in (["p_unknown", "p_stereotyped", "p_counter"],
                    ["p_position_0", "p_position_1", "p_position_2"],
                    ["letter_a", "letter_b", "letter_c"]):  # fmt: skip
        assert np.allclose(frame[columns].sum(axis=1), 1.0, atol=1e-6)
        assert (frame[columns] > 0).all(axis=None)
    assert (frame["p_gold"] == frame["p_unknown"]).all()
    assert ((frame["gold_rank"] == 1) == frame["correct"]).all()


def test_the_option_margin_is_the_log_odds_of_the_contrasts_option_scores(tiny_model):
    frame = rows_of(tiny_model, AMBIGUOUS, PLAN)
    odds = np.log(frame["p_unknown"]) - np.log(frame["p_stereotyped"])
    assert np.allclose(frame["option_margin"], odds, atol=1e-4)


def test_an_option_that_begins_with_all_of_the_other_has_no_margin_and_all_else(tiny_model):
    plan = replace(PLAN, conditions=("clean", "instructed", "placebo"), n_texts=1)
    frame = rows_of(tiny_model, PREFIX, plan)
    assert_rows_equal_the_oracle(tiny_model, PREFIX, frame, plan)
    assert frame["margin"].isna().all()
    rest = frame.drop(columns=["margin", "mismatch"])
    assert rest.notna().all(axis=None)


def test_an_item_without_a_stereotyped_option_has_no_margin_and_no_bias_but_a_rank(tiny_model):
    item = item_of(
        "It is unknown", "The teacher", "The farmer", roles=("unknown", "other", "other")
    )
    frame = rows_of(tiny_model, item, ScoringPlan(("clean",)))
    assert frame[["margin", "option_margin", "p_stereotyped", "p_counter"]].isna().all(axis=None)
    assert frame[["p_gold", "gold_rank", "p_unknown"]].notna().all(axis=None)


def test_an_item_of_two_choices_has_two_orders_two_positions_and_two_letters(tiny_model):
    item = item_of("It is unknown", "The teacher", roles=("unknown", "stereotyped"))
    plan = ScoringPlan(("clean",))
    frame = rows_of(tiny_model, item, plan)
    assert_rows_equal_the_oracle(tiny_model, item, frame, plan)
    assert "letter_c" not in frame
    assert "p_position_2" not in frame


def test_lengths_and_mismatch_are_those_of_the_prompts(tiny_model):
    frame = rows_of(tiny_model, AMBIGUOUS, PLAN)
    clean = frame[frame["condition"] == "clean"]
    assert (clean["instruction_tokens"] == 0).all()
    lengths = frame.set_index(KEYS)["instruction_tokens"]
    for row in frame[frame["condition"] == "placebo"].to_dict("records"):
        partner = lengths[(row["control_of"], "", row["slot"], row["order"])]
        assert row["mismatch"] == row["instruction_tokens"] - partner
    assert frame.loc[frame["condition"] != "placebo", "mismatch"].isna().all()
    longer = frame["prompt_tokens"] - clean["prompt_tokens"].min()
    assert (longer >= frame["instruction_tokens"]).all()


def test_placebos_without_their_instructions_have_no_known_mismatch(tiny_model):
    frame = rows_of(tiny_model, AMBIGUOUS, ScoringPlan(("clean", "placebo"), n_texts=1))
    assert frame["mismatch"].isna().all()


def test_variants_are_scored_as_they_are_given(tiny_model):
    text = "Please take care."
    variants = [Condition("clean", "clean", None), Condition("mine", "mine-01", text, slot=3)]
    frame = score_variants(tiny_model, AMBIGUOUS, variants, placement="before")
    keys = ["condition", "text_id", "slot", "order"]
    assert frame[keys].to_numpy().tolist() == [
        [v.name, v.text_id, v.slot, order] for order in range(3) for v in variants
    ]
    oracle = Oracle(tiny_model)
    for row in frame[frame["order"] == 1].to_dict("records"):
        instruction = text if row["condition"] == "mine" else None
        expected = oracle.row(AMBIGUOUS, instruction, (1, 2, 0), "before")
        assert row["margin"] == pytest.approx(expected["margin"], abs=1e-4)
        assert row["p_gold"] == pytest.approx(expected["p_gold"], abs=1e-4)
    assert frame["mismatch"].isna().all()


def test_a_placebo_is_measured_against_its_text_wherever_that_stands(tiny_model):
    text = Condition("mine", "mine-01", "Please take great care of it.")
    placebo = Condition("placebo", "p-01", "The page is white.", control_of="mine")
    system = [replace(v, turn="system") for v in (placebo, text)]
    for variants in ([text, placebo], [placebo, text], system):
        frame = score_variants(tiny_model, AMBIGUOUS, variants)
        tokens = frame.groupby("condition")["instruction_tokens"].first()
        mismatch = frame.loc[frame["condition"] == "placebo", "mismatch"]
        assert (mismatch == tokens["placebo"] - tokens["mine"]).all()
        assert (mismatch != 0).all()


def test_score_options_puts_the_rows_of_all_items_under_one_card(tiny_model):
    scores = score_options(tiny_model, iter([AMBIGUOUS, DISAMBIGUATED]), n_texts=2, progress=False)
    assert scores.conditions == ("clean", "instructed", "placebo")
    assert len(scores.frame) == 2 * 3 * (1 + 2 + 2)
    assert scores.card.mode == "raw"
    assert list(scores.frame["item"].unique()) == [AMBIGUOUS.id, DISAMBIGUATED.id]


def test_no_items_are_refused(tiny_model):
    with pytest.raises(InterpError, match="no items to score"):
        score_options(tiny_model, [])


def test_an_item_given_twice_is_refused(tiny_model):
    with pytest.raises(InterpError, match=f"item '{AMBIGUOUS.id}' is there twice"):
        score_options(tiny_model, [AMBIGUOUS, DISAMBIGUATED, AMBIGUOUS])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"conditions": ["clean", "moral"]}, "no condition 'moral'; known: clean"),
        ({"conditions": []}, "no condition named"),
        ({"conditions": ["clean", "clean"]}, "named twice"),
        ({"n_texts": 0}, "'instructed' has texts 1 to"),
        ({"conditions": ["negated"], "n_control_texts": 0}, "'negated' has texts 1 to"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(tiny_model, options, complaint):
    with pytest.raises(InterpError, match=complaint):
        score_options(tiny_model, [AMBIGUOUS], progress=False, **options)


def test_a_control_is_asked_with_as_many_texts_as_there_are(tiny_model):
    scores = score_options(
        tiny_model, [AMBIGUOUS], conditions=["negated"], n_control_texts=99, progress=False
    )
    asked = scores.frame.loc[scores.frame["condition"] == "negated", "text_id"].nunique()
    assert 1 <= asked < 99


def test_an_option_that_overruns_the_context_names_the_item(tiny_model, monkeypatch):
    frame = rows_of(tiny_model, AMBIGUOUS, ScoringPlan(("clean",)))
    longest = int(frame["prompt_tokens"].max())
    monkeypatch.setattr(tiny_model.cfg, "n_ctx", longest)
    with pytest.raises(InterpError, match=rf"item {AMBIGUOUS.id}: \d+ tokens, .*{longest}"):
        rows_of(tiny_model, AMBIGUOUS, ScoringPlan(("clean",)))


def test_without_progress_nothing_is_printed(tiny_model, capfd):
    score_options(tiny_model, [AMBIGUOUS], conditions=["clean"], progress=False)
    assert capfd.readouterr() == ("", "")
    score_options(tiny_model, [AMBIGUOUS], conditions=["clean"])
    assert "scoring items" in capfd.readouterr().err


@pytest.mark.model
def test_rows_of_the_default_model_equal_one_full_run_per_prompt_and_option(default_model):
    plan = ScoringPlan(("clean", "instructed"), n_texts=1)
    frame = rows_of(default_model, AMBIGUOUS, plan)
    assert_rows_equal_the_oracle(default_model, AMBIGUOUS, frame, plan, orders=(1,))
