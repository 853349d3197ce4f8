import jaxtyping
import pytest

from interp.data.bundle import Instruction, bundled_choices
from interp.errors import InterpError
from interp.prompts import CONDITION_NAMES, TextBank

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


BANK = bank_of(
    instructed=["a b c", "a b c d", "a b c d e"],
    negated=["n n n n"],
    revealing=["say {answer} now", "{answer}"],
    placebo=["p p", "p p p p", "q q q q", "p p p p p p p", "r r r"],
)


def test_each_placebo_is_the_nearest_still_free_and_ties_go_to_the_earlier():
    placebos = BANK.placebos(BANK.texts("instructed", ITEM, 3))
    assert [p.text_id for p in placebos] == ["placebo-5", "placebo-2", "placebo-3"]
    assert [(p.name, p.slot, p.control_of) for p in placebos] == [
        ("placebo", k, "instructed") for k in range(3)
    ]


def test_no_placebo_is_used_twice_even_when_all_texts_want_the_same():
    bank = bank_of(instructed=["a b"] * 3, placebo=["p p", "p p p", "p p p p", "p"])
    placebos = bank.placebos(bank.texts("instructed", ITEM, 3))
    assert [p.text_id for p in placebos] == ["placebo-1", "placebo-2", "placebo-4"]


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
    assert [t.text for t in texts] == [f"say {ANSWER} now", ANSWER]
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
