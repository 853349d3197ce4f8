from collections import Counter
from dataclasses import replace

import jaxtyping
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.bundle import Instruction, bundled_choices, bundled_completions
from interp.errors import InterpError
from interp.prompts import (
    CONDITION_NAMES,
    Condition,
    ConditionSpec,
    TextBank,
    condition_conversation,
    load_conditions,
)

ITEM = bundled_choices()[0]
ANSWER = ITEM.choices[ITEM.gold].text


class WordTokenizer:
    """One token per word, so that counts can be read off."""

    def __call__(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": text.split()}


def bank_of(**texts):
    """A bank from lists of texts per kind, ids ``kind-1`` ..."""
    rows = [
        Instruction(f"{kind}-{k}", kind, text)
        for kind, several in texts.items()
        for k, text in enumerate(several, start=1)
    ]
    return TextBank(WordTokenizer(), rows)


def bank_of_seed(seed):
    rows = [Instruction(f"instructed-{k}", "instructed", f"w {k}") for k in range(1, 5)]
    return TextBank(WordTokenizer(), rows, seed=seed)


BANK = bank_of(
    instructed=["a b c", "a b c d", "a b c d e"],
    negated=["n n n n"],
    revealing=["say {answer} now", "{answer}"],
    placebo=["p p", "p p p p", "q q q q", "p p p p p p p", "r r r"],
)


def test_each_placebo_is_drawn_among_the_nearest_still_free():
    treated = BANK.texts("instructed", ITEM, 3)
    placebos = BANK.placebos(treated)
    best = {3: {"r r r"}, 4: {"p p p p", "q q q q"}, 5: {"p p p p", "q q q q"}}
    assert all(p.text in best[len(t.text.split())] for p, t in zip(placebos, treated, strict=True))
    assert [(p.name, p.slot, p.control_of) for p in placebos] == [
        ("placebo", k, "instructed") for k in range(3)
    ]


def test_no_placebo_is_used_twice_even_when_all_texts_want_the_same():
    bank = bank_of(instructed=["a b"] * 3, placebo=["p p", "p p p", "p p p p", "p"])
    placebos = bank.placebos(bank.texts("instructed", ITEM, 3))
    assert placebos[0].text_id == "placebo-1"
    assert {p.text_id for p in placebos[1:]} == {"placebo-2", "placebo-4"}


def test_wordings_and_placebos_are_drawn_anew_per_seed_and_alike_for_one_seed(tokenizer):
    def drawn(seed, name="instructed"):
        bank = TextBank(tokenizer, seed=seed)
        treated = bank.texts(name, ITEM, 6)
        return [t.text_id for t in treated], [p.text_id for p in bank.placebos(treated)]

    sets = [drawn(seed) for seed in range(8)]
    assert sets == [drawn(seed) for seed in range(8)]
    for side in (0, 1):
        assert len({frozenset(s[side]) for s in sets}) == 8
        assert all(len(set(s[side])) == 6 for s in sets)
    assert drawn(0, "specificity_1") == drawn(0)  # conditions of one bank draw alike
    assert drawn(0, "negated")[1] != drawn(0)[1]


def test_every_wording_of_a_bank_is_drawn_about_equally_often():
    counts = Counter(
        text.text_id for seed in range(300) for text in bank_of_seed(seed).wordings("instructed", 2)
    )
    assert set(counts) == {"instructed-1", "instructed-2", "instructed-3", "instructed-4"}
    assert all(120 <= n <= 180 for n in counts.values())


def test_all_texts_of_a_bank_are_the_same_set_under_every_seed_and_listed_ones_keep_their_order():
    banks = [TextBank(WordTokenizer(), seed=seed) for seed in (0, 1)]
    one, other = ({t.text_id for t in b.wordings("instructed", 30)} for b in banks)
    assert one == other
    for bank in banks:
        assert [t.text_id for t in bank.wordings("gender", 3)] == [
            "gender-01", "gender-02", "gender-03",
        ]  # fmt: skip
        assert [t.text_id for t in bank.wordings("reported", 4)] == [
            "instructed-01", "reported-01", "reported-02", "reported-03",
        ]  # fmt: skip


def test_statements_are_a_second_kind_of_placebo(tokenizer):
    bank = TextBank(tokenizer)
    treated = bank.texts("instructed", ITEM, 4)
    statements = bank.placebos(treated, kind="statement")
    assert {s.name for s in statements} == {"statement"}
    assert [s.control_of for s in statements] == ["instructed"] * 4
    assert all(s.text_id.startswith("statement-") for s in statements)
    assert bank.placebos(treated)[0].text_id.startswith("placebo-")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("placebo", "placebo"), ("request", "placebo"), ("statement", "statement")],
)
def test_a_placebo_that_stands_as_a_condition_never_gets_itself_as_its_placebo(
    tokenizer, name, kind
):
    request = ConditionSpec(name="request", description="placebos as a condition", bank="placebo")
    for seed in range(5):
        specs = {**load_conditions(), "request": request}
        bank = TextBank(tokenizer, conditions=specs, seed=seed)
        treated = bank.texts(name, ITEM, 12)
        placebos = bank.placebos(treated, kind=kind)
        assert all(t.text_id.startswith(kind) for t in treated)
        assert not {t.text_id for t in treated} & {p.text_id for p in placebos}
        assert bank.placebos(treated[:5], kind=kind) == placebos[:5]


def test_wordings_keep_their_source():
    bank = TextBank(WordTokenizer())
    sources = {t.text_id: t.source for t in bank.wordings("instructed", 30)}
    assert sources.pop("instructed-01") == "reported: arXiv 2302.07459, 2407.15286"
    assert set(sources.values()) == {"written"}
    first, second = bank.wordings("gender", 2)
    assert (first.source, second.source) == ("reported: arXiv 2407.15286", "written")
    assert all(t.source.startswith("reported: arXiv ") for t in bank.wordings("reported", 4))


def test_the_paraphrasing_arm_is_refused_on_items_with_an_answer():
    with_answer = next(i for i in bundled_choices() if i.choices[i.gold].role != "unknown")
    bank = TextBank(WordTokenizer())
    for name in ("revealing", "mentions"):
        assert len(bank.texts(name, with_answer, 6)) == 6
    assert len(bank.texts("paraphrases", ITEM, 6)) == 6
    with pytest.raises(InterpError) as error:
        bank.texts("paraphrases", with_answer, 1)
    assert str(error.value) == (
        "condition 'paraphrases' says that the text leaves the question open, which is not the gold "
        f"choice of {with_answer.id!r}: use it on items whose gold choice is the abstention"
    )


def test_asking_for_more_texts_changes_no_earlier_pair(tokenizer):
    bank = TextBank(tokenizer)
    many = bank.placebos(bank.texts("instructed", ITEM, 10))
    for n in (1, 4, 10):
        assert bank.placebos(bank.texts("instructed", ITEM, n)) == many[:n]
    assert len({p.text_id for p in many}) == 10


def test_two_banks_of_the_same_texts_choose_alike(tokenizer):
    names = ["clean", "instructed", "placebo", "negated", "revealing"]
    one, other = (TextBank(tokenizer).conditions(ITEM, names) for _ in range(2))
    assert one == other


def test_revealing_texts_name_the_gold_answer_and_other_braces_stay():
    texts = BANK.texts("revealing", ITEM, 2)
    assert {t.text for t in texts} == {f"say {ANSWER} now", ANSWER}
    bundled = TextBank(WordTokenizer()).texts("revealing", ITEM, 8)
    assert all(ANSWER in t.text and "{" not in t.text for t in bundled)


def test_clean_is_one_condition_without_a_text_however_many_are_asked_for():
    (clean,) = BANK.texts("clean", ITEM, 5)
    assert clean.text is None
    assert clean.slot == 0


def test_conditions_come_in_the_order_of_the_names_with_their_slots():
    found = BANK.conditions(ITEM, ["placebo", "clean", "negated", "instructed"], n_texts=2,
                            n_control_texts=1)  # fmt: skip
    assert [(c.name, c.slot, c.control_of) for c in found] == [
        ("placebo", 0, "negated"),
        ("placebo", 0, "instructed"),
        ("placebo", 1, "instructed"),
        ("clean", 0, ""),
        ("negated", 0, ""),
        ("instructed", 0, ""),
        ("instructed", 1, ""),
    ]


def test_placebos_alone_are_those_of_the_instructed_texts():
    alone = BANK.conditions(ITEM, ["placebo"], n_texts=2)
    assert alone == BANK.placebos(BANK.texts("instructed", ITEM, 2))


def test_an_unknown_condition_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for ask in (
        lambda: BANK.texts("moral", ITEM, 1),
        lambda: BANK.conditions(ITEM, ["clean", "moral"]),
    ):
        with pytest.raises(InterpError, match="no condition 'moral'; known: clean, instructed"):
            ask()


def test_no_condition_and_one_named_twice_are_refused():
    with pytest.raises(InterpError, match="no condition named; choose from clean"):
        BANK.conditions(ITEM, [])
    with pytest.raises(InterpError, match="named twice: clean, clean"):
        BANK.conditions(ITEM, ["clean", "clean"])


@pytest.mark.parametrize("n", [0, -1, 4])
def test_more_texts_than_the_bank_has_are_refused_with_both_numbers(n):
    with pytest.raises(InterpError, match=f"'instructed' has texts 1 to 3, asked for {n}"):
        BANK.texts("instructed", ITEM, n)


def test_more_texts_than_placebos_are_refused():
    bank = bank_of(instructed=["a", "b"], placebo=["p"])
    with pytest.raises(InterpError, match="2 texts need as many placebos, the bank has 1"):
        bank.placebos(bank.texts("instructed", ITEM, 2))


def test_the_bundled_bank_serves_every_condition_with_six_texts():
    bank = TextBank(WordTokenizer())
    for name in CONDITION_NAMES:
        assert len(bank.texts(name, ITEM, 6)) == (1 if name == "clean" else 6)


@pytest.mark.model
def test_on_the_default_tokenizer_the_first_six_texts_have_placebos_of_equal_length():
    from interp.models import load_tokenizer

    bank = TextBank(load_tokenizer())
    treated = bank.texts("instructed", ITEM, 6)
    placebos = bank.placebos(treated)
    assert [bank.count(p.text) for p in placebos] == [bank.count(t.text) for t in treated]
    assert len({p.text_id for p in placebos}) == 6


def bank_with(*specs, **options):
    """The bundled conditions and some more, counted in words."""
    registry = {**load_conditions(), **{spec.name: spec for spec in specs}}
    return TextBank(WordTokenizer(), conditions=registry, **options)


def spec_of(name="mine", texts=("Please take care.",), **fields):
    return ConditionSpec(name=name, description="x", texts=texts, **fields)


def test_every_single_call_condition_is_served_by_its_name():
    item = replace(ITEM, meta={"percent_women": 45.15})
    bank = bank_with(feedback={item.id: "Look again."})
    single = [n for n, s in bank.specs.items() if len(s.calls) == 1 and s.items != "completion"]
    for name in [name for name in single if name != "placebo"]:
        found = bank.conditions(item, [name, "placebo"], n_texts=2, n_control_texts=2)
        spec = bank.specs[name]
        assert [c.name for c in found if c.name == name] == [name] * (2 if spec.has_text else 1)
        partner = name if spec.has_placebo else "instructed"
        assert [c.control_of for c in found if c.name == "placebo"] == [partner] * 2
    assert "45.15 percent" in bank.texts("match_statistics_told", item, 1)[0].text


def test_a_condition_without_control_brings_no_placebos():
    bank = bank_with(spec_of(control="none"))
    found = bank.conditions(ITEM, ["mine", "negated", "placebo"], n_control_texts=1)
    assert [(c.name, c.control_of) for c in found] == [
        ("mine", ""), ("negated", ""), ("placebo", "negated"),
    ]  # fmt: skip


def test_wordings_are_the_texts_before_their_slots_are_filled():
    bank = bank_with(spec_of(texts=("Say {answer}.", "Be brief."), turn="system"))
    first, second = bank.wordings("mine", 2)
    assert (first.text, first.text_id, first.slot, first.turn) == (
        "Say {answer}.", "mine-01", 0, "system",
    )  # fmt: skip
    assert bank.texts("mine", ITEM, 2) == (replace(first, text=f"Say {ANSWER}."), second)
    assert bank.wordings("clean", 3) == (Condition("clean", "clean", None),)
    with pytest.raises(InterpError, match="'mine' has texts 1 to 2, asked for 3"):
        bank.wordings("mine", 3)


def test_a_condition_of_several_calls_is_refused_as_a_single_prompt():
    with pytest.raises(InterpError, match="'critique' takes 3 calls of the model"):
        bank_with().conditions(ITEM, ["clean", "critique"])
    drawn = bank_with().texts("instructed", ITEM, 2)[1].text_id
    assert bank_with().texts("chain_of_thought", ITEM, 2)[1].text_id == drawn


def test_an_item_of_the_other_kind_is_refused():
    completion = bundled_completions()[0]
    with pytest.raises(InterpError, match=f"'nontoxic' is for completion items, '{ITEM.id}' is a"):
        bank_with().texts("nontoxic", ITEM, 1)
    with pytest.raises(InterpError, match="'revealing' is for choice items"):
        bank_with().texts("revealing", completion, 1)
    assert bank_with().texts("nontoxic", completion, 1)[0].text.endswith("non-toxic content.")


def test_a_slot_that_cannot_be_filled_names_condition_and_item():
    with pytest.raises(InterpError, match=f"'match_statistics_told': item '{ITEM.id}' has no lab"):
        bank_with().texts("match_statistics_told", ITEM, 1)


def test_a_verdict_can_be_about_the_answer_that_the_model_gave():
    for option, word in ((ITEM.gold, "correct"), ((ITEM.gold + 1) % 3, "wrong")):
        (text,) = bank_with().texts("verdict_true", ITEM, 1, option=option)
        assert text.text.endswith(f"{word}: {ITEM.choices[option].text}.")


def test_the_seed_of_the_bank_draws_the_verdicts():
    def drawn(seed):
        bank = bank_with(seed=seed)
        return [bank.texts("verdict_random", i, 1)[0].text for i in bundled_choices()[:30]]

    assert drawn(0) == drawn(0) != drawn(1)


def test_placebos_stand_where_their_texts_stand():
    bank = bank_with(spec_of(turn="system"), spec_of("other", placement="before"))
    for name in ("mine", "other"):
        (text,) = bank.texts(name, ITEM, 1)
        (placebo,) = bank.placebos([text])
        assert (placebo.turn, placebo.placement) == (text.turn, text.placement)
        one, other = (condition_conversation(ITEM, c) for c in (text, placebo))
        assert [t.role for t in one.turns] == [t.role for t in other.turns]
        assert [s.span for s in one.turns[0].segments] == [s.span for s in other.turns[0].segments]


def test_the_place_a_condition_fixes_goes_before_the_callers():
    fixed = Condition("mine", "mine-01", "Please.", placement="before")
    spans = [s.span for s in condition_conversation(ITEM, fixed, turn="system").turns[0].segments]
    assert spans[0] == "instruction"
    system = Condition("mine", "mine-01", "Please.", turn="system")
    assert condition_conversation(ITEM, system).turns[0].role == "system"
    free = Condition("mine", "mine-01", "Please.")
    assert condition_conversation(ITEM, free, turn="system").turns[0].role == "system"


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.integers(8, 90), min_size=1, max_size=8))
def test_required_placebos_are_exact_and_never_used_twice(lengths):
    bank = bank_with(require_match=0)
    treated = [Condition("mine", f"mine-{k}", "w " * n, k) for k, n in enumerate(lengths)]
    placebos = bank.placebos(treated)
    assert [bank.count(p.text) for p in placebos] == lengths
    assert len({p.text for p in placebos}) == len(lengths)
    for n in range(len(lengths)):
        assert bank.placebos(treated[:n]) == placebos[:n]


def test_without_a_required_match_the_nearest_of_the_bank_is_taken_as_before():
    long = Condition("mine", "mine-01", "w " * 100)
    (nearest,) = bank_with().placebos([long])
    (built,) = bank_with(require_match=50).placebos([long])
    assert "+" not in nearest.text_id
    assert bank_with().count(nearest.text) < 100
    assert "+filler-" in built.text_id
    assert bank_with().count(built.text) == 100


def test_a_placebo_that_cannot_be_matched_is_refused_in_one_line():
    endless = Condition("mine", "mine-01", "w " * 3000)
    with pytest.raises(InterpError) as error:
        bank_with(require_match=2).placebos([endless])
    assert str(error.value) == (
        "no placebo for 'mine-01' of condition 'mine': it has 3000 tokens, the nearest placebo 29, "
        "require_match allows a difference of 2: change the text, or allow more"
    )
    with pytest.raises(InterpError, match="require_match is -1"):
        bank_with(require_match=-1)


def test_a_condition_has_as_many_texts_as_its_wordings_and_one_without_any():
    bank = TextBank(WordTokenizer())
    for name in load_conditions():
        assert len(bank.wordings(name, bank.n_texts(name))) == bank.n_texts(name)
    counts = {name: bank.n_texts(name) for name in ("clean", "critique", "instructed", "gender")}
    assert counts == {"clean": 1, "critique": 1, "instructed": 30, "gender": 6}
    with pytest.raises(InterpError, match="texts 1 to 30, asked for 31"):
        bank.wordings("instructed", bank.n_texts("instructed") + 1)
    with pytest.raises(InterpError, match="no condition 'moral'; known: clean, instructed"):
        bank.n_texts("moral")


def test_an_instruction_longer_than_the_context_is_refused_in_one_line():
    bank = bank_with(spec_of(texts=("Please.", "w " * 70)), n_ctx=64)
    assert len(bank.texts("mine", ITEM, 1)) == 1
    with pytest.raises(InterpError) as error:
        bank.texts("mine", ITEM, 2)
    assert str(error.value) == (
        "condition 'mine': text 'mine-02' has 70 tokens, the model's context is 64: shorten it"
    )


@pytest.mark.model
@pytest.mark.parametrize("n_texts", [6])
def test_on_the_default_tokenizer_every_condition_has_placebos_of_equal_length(n_texts):
    from interp.models import load_tokenizer

    bank = TextBank(load_tokenizer(), feedback={ITEM.id: "Look again."}, require_match=0)
    item = replace(ITEM, meta={"percent_women": 45.15})
    for name, spec in bank.specs.items():
        if not spec.has_placebo:
            continue
        on = bundled_completions()[0] if spec.items == "completion" else item
        treated = bank.texts(name, on, min(n_texts, bank.n_texts(name)))
        placebos = bank.placebos(treated)
        assert [bank.count(p.text) for p in placebos] == [bank.count(t.text) for t in treated]
        assert len({p.text for p in placebos}) == len(treated)
