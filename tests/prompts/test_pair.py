from dataclasses import replace

import jaxtyping
import pytest
import torch

from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem
from interp.errors import InterpError
from interp.prompts import (
    Condition,
    ConditionSpec,
    TextBank,
    condition_prompt,
    encode_continuation,
    load_conditions,
    make_pair,
    margin_target,
    pair_of_conditions,
)

AMBIGUOUS = bundled_choices()[0]
DISAMBIGUATED = next(i for i in bundled_choices() if i.context_condition == "disambiguated")


def item_of(*texts, roles=("unknown", "stereotyped", "counter")):
    choices = tuple(Choice(text, role) for text, role in zip(texts, roles, strict=True))
    return ChoiceItem("x-1", "b", "c", "Two met.", "Who?", choices, 0, "ambiguous", "x")


def before(pair, name):
    """Ids of both prompts up to the start of a span of the source."""
    start = pair.source.span(name).start
    return pair.source.ids[:start].tolist(), pair.destination.ids[:start].tolist()


def test_the_margin_is_read_between_the_contrasts_options(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed")
    assert (pair.target.a_text, pair.target.b_text) == (
        "It cannot be determined",
        "The grandmother",
    )
    gold, other = DISAMBIGUATED.contrast()
    pair = make_pair(tiny_model, DISAMBIGUATED, "instructed")
    assert pair.target.a_text == DISAMBIGUATED.choices[gold].text
    assert pair.target.b_text == DISAMBIGUATED.choices[other].text


def test_leading_tokens_that_both_options_share_move_into_the_answer_prefix(tiny_model):
    item = item_of("The teacher and all", "The teacher or one", "The river")
    prompt = condition_prompt(tiny_model, item, Condition("clean", "clean", None))
    a, b = (
        encode_continuation(tiny_model.tokenizer, prompt, f" {choice.text}").tolist()
        for choice in item.choices[:2]
    )
    target, shared = margin_target(tiny_model.tokenizer, item, prompt)
    n = len(shared)
    assert n > 0
    assert shared.tolist() == a[:n] == b[:n]
    assert (target.a, target.b) == (a[n], b[n])
    assert target.a != target.b
    pair = make_pair(tiny_model, item, "instructed", against="clean")
    for side in (pair.source, pair.destination):
        assert side.ids[-n:].tolist() == a[:n]
        assert side.span("answer_prefix").stop == len(side)
        assert side.text.endswith("answer choice is The teacher")


def test_without_shared_tokens_the_prompt_ends_in_the_answer_prefix(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed")
    _, shared = margin_target(tiny_model.tokenizer, AMBIGUOUS, pair.destination)
    assert len(shared) == 0
    assert pair.source.text.endswith("answer choice is")


def test_an_option_that_begins_with_all_of_the_other_has_no_margin(tiny_model):
    item = item_of("The teacher", "The teacher and all", "The river")
    pair = make_pair(tiny_model, item, "instructed")
    assert pair.target is None
    assert pair.source.text.endswith("answer choice is")


def test_an_item_without_a_contrast_has_no_margin(tiny_model):
    item = item_of("a", "b", "c", roles=("unknown", "other", "other"))
    assert item.contrast() is None
    assert make_pair(tiny_model, item, "instructed").target is None


@pytest.mark.parametrize("against", ["placebo", "negated", "revealing"])
def test_an_instruction_after_the_question_leaves_all_earlier_ids_equal(tiny_model, against):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", against=against)
    here, there = before(pair, "instruction")
    assert here == there
    assert pair.alignment.first_difference >= pair.source.span("instruction").start
    assert pair.source.span("instruction").start > pair.source.span("options").start


def test_against_clean_ids_are_equal_up_to_what_the_instruction_brings(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", against="clean")
    here, there = before(pair, "separator")
    assert here == there
    assert "instruction" not in pair.destination.spans
    matched = pair.alignment.to_destination
    assert (matched[pair.source.span("instruction")] == -1).all()
    for name in ("context", "question", "options", "template", "answer_prefix"):
        assert (matched[pair.source.span(name)] >= 0).all()


def test_an_instruction_before_the_question_is_the_first_thing_that_differs(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", placement="before")
    assert pair.source.span("instruction").start == pair.source.span("header").stop
    assert pair.source.span_of(pair.alignment.first_difference) == "instruction"
    assert pair.source.span("instruction").stop <= pair.source.span("context").start


def test_the_prompts_of_a_pair_differ_in_nothing_but_the_instruction(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", order=1)
    bank = TextBank(tiny_model.tokenizer)
    (text,) = bank.texts("instructed", AMBIGUOUS, 1)
    (placebo,) = bank.placebos((text,))
    assert pair.source.text.replace(text.text, placebo.text) == pair.destination.text
    assert "(a) The grandmother" in pair.source.text


def test_a_placebo_is_matched_to_the_text_on_the_other_side(tiny_model):
    bank = TextBank(tiny_model.tokenizer)
    for name in ("instructed", "negated", "revealing"):
        (placebo,) = bank.placebos(bank.texts(name, AMBIGUOUS, 1))
        there = make_pair(tiny_model, AMBIGUOUS, name, against="placebo").destination
        here = make_pair(tiny_model, AMBIGUOUS, "placebo", against=name).source
        assert placebo.text in there.text
        assert here.ids.tolist() == there.ids.tolist()


def test_a_slot_gives_the_placebo_that_scoring_gives_that_text(tiny_model):
    bank = TextBank(tiny_model.tokenizer)
    scored = bank.conditions(AMBIGUOUS, ["instructed", "placebo"], n_texts=4)
    texts = {(c.name, c.slot): c.text for c in scored}
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", slot=2)
    assert texts[("instructed", 2)] in pair.source.text
    assert texts[("placebo", 2)] in pair.destination.text


def test_a_pair_with_itself_is_aligned_everywhere(tiny_model):
    for name in ("placebo", "instructed"):
        pair = make_pair(tiny_model, AMBIGUOUS, name, against=name)
        assert pair.alignment.first_difference is None
        assert pair.alignment.by_index


def test_the_reversed_pair_exchanges_the_roles_and_keeps_the_margin(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", against="clean")
    back = pair.swap()
    assert back.source is pair.destination
    assert back.destination is pair.source
    assert back.target == pair.target
    assert sorted(map(tuple, back.alignment.pairs().tolist())) == sorted(
        (j, i) for i, j in pair.alignment.pairs().tolist()
    )
    assert back.swap().label == pair.label


def test_labels_name_both_sides_and_the_item(tiny_model):
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed")
    assert pair.label == f"instructed -> placebo ({AMBIGUOUS.id})"
    assert pair.swap().label == f"placebo -> instructed ({AMBIGUOUS.id})"
    assert AMBIGUOUS.id in pair.source.label
    assert "It cannot be determined" in pair._repr_html_()


def test_conditions_of_ones_own_reach_the_pair_by_their_name(tiny_model):
    mine = ConditionSpec(name="mine", description="x", texts=("Please take care: {answer}.",))
    bank = TextBank(tiny_model.tokenizer, conditions={**load_conditions(), "mine": mine})
    pair = make_pair(tiny_model, AMBIGUOUS, "mine", bank=bank)
    assert "Please take care: It cannot be determined." in pair.source.text
    (placebo,) = bank.placebos(bank.texts("mine", AMBIGUOUS, 1))
    assert placebo.text in pair.destination.text
    with pytest.raises(InterpError, match="no condition 'mine'"):
        make_pair(tiny_model, AMBIGUOUS, "mine")


@pytest.mark.parametrize("names", [("critique", "placebo"), ("clean", "critique")])
def test_a_condition_of_several_calls_is_no_single_prompt(tiny_model, names):
    with pytest.raises(InterpError, match="'critique' takes 3 calls of the model and cannot be"):
        make_pair(tiny_model, AMBIGUOUS, names[0], against=names[1])


def test_explicit_conditions_make_a_pair_of_their_texts(tiny_model):
    here, there = Condition("instructed", "mine", "Be fair."), Condition("clean", "clean", None)
    pair = pair_of_conditions(tiny_model, AMBIGUOUS, here, there)
    assert "Be fair." in pair.source.text
    assert (pair.source_name, pair.destination_name) == ("instructed", "clean")


def test_two_token_tensors_make_a_pair_of_one_span(tiny_model):
    a, b = torch.tensor([0, 5, 6, 7]), torch.tensor([[0, 5, 8, 7]])
    pair = make_pair(tiny_model, a, b, target=(9, 10))
    assert pair.alignment.to_destination.tolist() == [0, 1, 2, 3]
    assert pair.alignment.first_difference == 2
    assert (pair.target.a, pair.target.b) == (9, 10)
    assert pair.target.a_text == tiny_model.tokenizer.decode([9])
    assert pair.label == "source -> destination"
    assert pair.item is None
    assert make_pair(tiny_model, a, b).target is None


def test_token_tensors_of_other_lengths_align_equal_tokens(tiny_model):
    pair = make_pair(tiny_model, torch.tensor([0, 5, 6, 7]), torch.tensor([0, 5, 9, 9, 7]))
    assert pair.alignment.to_destination.tolist() == [0, 1, -1, 4]


@pytest.mark.parametrize(
    ("source", "condition", "complaint"),
    [
        (torch.tensor([0, 1]), "instructed", "need answers="),
        (AMBIGUOUS, torch.tensor([0, 1]), "give two prompts, or an item and a condition"),
        (torch.tensor([0]), torch.tensor([], dtype=torch.long), "destination has no tokens"),
        (torch.zeros(2, 3, dtype=torch.long), torch.tensor([0]), "source is a batch of 2"),
    ],
)
def test_what_is_no_pair_is_refused(tiny_model, source, condition, complaint):
    with pytest.raises(InterpError, match=complaint):
        make_pair(tiny_model, source, condition)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"slot": 99}, r"'instructed' has texts 1 to \d+, asked for 100"),
        ({"slot": -1}, "slot is -1, texts are counted from 0"),
        ({"target": (3, 4)}, "target is for prompts of your own"),
    ],
)
def test_options_that_do_not_fit_an_item_are_refused(tiny_model, options, complaint):
    with pytest.raises(InterpError, match=complaint):
        make_pair(tiny_model, AMBIGUOUS, "instructed", **options)


@pytest.mark.parametrize("names", [("moral", "clean"), ("clean", "moral"), ("placebo", "moral")])
def test_an_unknown_condition_is_refused_on_either_side(tiny_model, monkeypatch, names):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match="no condition 'moral'; known: clean"):
        make_pair(tiny_model, AMBIGUOUS, names[0], against=names[1])


def test_a_prompt_beyond_the_context_names_the_item(tiny_model):
    item = replace(AMBIGUOUS, context="The old teacher met the farmer. " * 200)
    with pytest.raises(InterpError, match=rf"item {item.id}: \d+ tokens, .*context is 1024"):
        make_pair(tiny_model, item, "instructed")


def test_shared_leading_tokens_count_against_the_context_too(tiny_model, monkeypatch):
    item = item_of("The teacher and all", "The teacher or one", "The river")
    n = len(make_pair(tiny_model, item, "instructed").source)
    monkeypatch.setattr(tiny_model.cfg, "n_ctx", n - 1)
    with pytest.raises(InterpError, match=f"item x-1: {n} tokens, the model's context is {n - 1}"):
        make_pair(tiny_model, item, "instructed")


@pytest.mark.model
@pytest.mark.parametrize("against", ["placebo", "clean"])
def test_states_before_the_instruction_are_equal_in_two_separate_runs(default_model, against):
    pair = make_pair(default_model, AMBIGUOUS, "instructed", against=against)
    end = pair.alignment.first_difference
    assert end >= pair.source.span("separator").start
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(default_model.cfg.n_layers)]
    with torch.no_grad():
        caches = [
            default_model.run_with_cache(
                prompt.ids[None], return_type=None, names_filter=lambda name: name in names
            )[1]
            for prompt in (pair.source, pair.destination)
        ]
    for name in names:
        here, there = (cache[name][0] for cache in caches)
        error = (here[:end] - there[:end]).norm(dim=-1) / here[:end].norm(dim=-1)
        assert float(error.max()) <= 1e-5
    assert float((here[end] - there[end]).norm()) > 1e-2 * float(here[end].norm())


def test_a_statement_is_matched_like_a_placebo(tiny_model):
    bank = TextBank(tiny_model.tokenizer)
    pair = make_pair(tiny_model, AMBIGUOUS, "instructed", against="statement", bank=bank)
    (statement,) = bank.placebos(bank.texts("instructed", AMBIGUOUS, 1), kind="statement")
    assert statement.text in pair.destination.text
    assert pair.label.startswith("instructed -> statement")
    both = make_pair(tiny_model, AMBIGUOUS, "placebo", against="statement", bank=bank)
    assert statement.text in both.destination.text
    assert bank.placebos(bank.texts("instructed", AMBIGUOUS, 1))[0].text in both.source.text
