import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.data.bundle import bundled_instructions
from interp.prompts.placebos import FILLERS, PlaceboPool

BANK = [(i.id, i.text) for i in bundled_instructions() if i.kind == "placebo"]


def words(text):
    return len(text.split())


def pool_of(tokenizer):
    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return PlaceboPool(count, BANK), count


def test_fillers_are_plain_sentences_without_slots_or_repeats():
    assert len(set(FILLERS)) == len(FILLERS)
    for filler in FILLERS:
        assert filler.endswith(".")
        assert filler.count(".") == 1
        assert not set("{}\"'\n") & set(filler)


def test_a_built_placebo_is_the_longest_of_the_bank_with_the_fewest_fillers():
    pool = PlaceboPool(words, [("p-1", "one two."), ("p-2", "one two three four.")])
    assert pool.build(4, ()).id == "p-2"
    built = pool.build(7, ())
    assert (built.id, built.text) == ("p-2+filler-03", "one two three four. It is typed.")
    assert built.n_tokens == 7
    assert pool.build(6, ()).id == "p-2+filler-01"
    assert pool.build(6, ("p-2",)).id == "p-1+filler-04"
    assert pool.build(3, ()).id == "filler-03"  # no filler has one word


@given(st.integers(2, 200))
def test_whatever_the_count_a_built_placebo_has_it_in_words_of_bank_and_fillers(n):
    built = PlaceboPool(words, BANK).build(n, ())
    assert words(built.text) == n
    texts = dict(BANK) | {f"filler-{k:02d}": text for k, text in enumerate(FILLERS, start=1)}
    parts = built.id.split("+")
    assert built.text == " ".join(texts[part] for part in parts)
    assert len(set(parts)) == len(parts)
    assert built.base == parts[0]


@pytest.mark.slow
@given(st.lists(st.integers(6, 60), min_size=1, max_size=20))
def test_built_placebos_that_use_each_other_up_are_all_different(wanted):
    pool, used, texts = PlaceboPool(words, BANK), set(), []
    for n in wanted:
        built = pool.build(n, used)
        if built is not None:
            used.add(built.base)
            texts.append(built.text)
    assert len(set(texts)) == len(texts)


def test_a_count_that_no_combination_has_is_not_built():
    pool = PlaceboPool(words, BANK)
    assert pool.build(1, ()) is None
    assert pool.build(10_000, ()) is None


def test_with_small_pieces_every_count_from_8_to_300_is_built_exactly(tokenizer):
    pool, count = pool_of(tokenizer)
    for n in (6, *range(8, 301)):
        built = pool.build(n, ())
        assert built is not None, n
        assert built.n_tokens == count(built.text) == n


@pytest.mark.model
def test_on_the_default_tokenizer_every_count_from_3_to_200_is_built_exactly():
    from interp.models import load_tokenizer

    pool, count = pool_of(load_tokenizer())
    for n in range(3, 201):
        built = pool.build(n, ())
        assert built is not None, n
        assert built.n_tokens == count(built.text) == n
