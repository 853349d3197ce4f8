import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.data.bundle import bundled_instructions
from interp.prompts.placebos import FILLERS, REQUEST_FILLERS, STATEMENT_FILLERS, PlaceboPool

BANK = [(i.id, i.text) for i in bundled_instructions() if i.kind == "placebo"]


def words(text):
    return len(text.split())


def by_id(name):
    """A rank in the order of the ids, so that the draw can be read off."""
    return float(name.split("-")[1])


def pool_of(tokenizer):
    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return PlaceboPool(count, BANK), count


def test_fillers_are_plain_sentences_without_slots_or_repeats():
    assert set(FILLERS) == {"placebo", "statement"}
    both = (*REQUEST_FILLERS, *STATEMENT_FILLERS)
    assert len(set(both)) == len(both)
    for filler in both:
        assert filler.endswith(".")
        assert filler.count(".") == 1
        assert not set("{}\"'\n") & set(filler)


def test_fillers_of_requests_ask_and_those_of_statements_do_not():
    verbs = {"Add", "Begin", "Do", "Keep", "Leave", "Let", "Put", "Read", "Set", "Skip", "Stay"}
    assert {filler.split()[0] for filler in REQUEST_FILLERS} == verbs | {"Type", "Use", "Write"}
    assert {filler.split()[0] for filler in STATEMENT_FILLERS} == {"It", "The"}


def test_a_built_placebo_has_the_fewest_fillers_and_then_the_lowest_rank():
    pool = PlaceboPool(words, [("p-1", "one two."), ("p-2", "one two three four.")])
    assert pool.build(4, (), by_id).id == "p-2"
    built = pool.build(7, (), by_id)
    assert (built.id, built.text) == ("p-1+filler-14", "one two. Use one space per gap.")
    assert built.n_tokens == 7
    assert pool.build(6, (), by_id).id == "p-1+filler-07"
    assert pool.build(6, (), lambda name: -by_id(name)).id == "p-2+filler-01"
    assert pool.build(6, ("p-1",), by_id).id == "p-2+filler-01"
    assert pool.build(3, (), by_id).id == "filler-04"  # no placebo and filler have one word


def test_the_nearest_placebo_is_drawn_by_its_rank_among_those_of_one_distance():
    pool = PlaceboPool(words, [("p-1", "a b c."), ("p-2", "a b."), ("p-3", "a."), ("p-4", "b a.")])
    assert pool.nearest(2, (), by_id).id == "p-2"
    assert pool.nearest(2, (), lambda name: -by_id(name)).id == "p-4"
    assert pool.nearest(2, ("p-2", "p-4"), by_id).id == "p-1"
    assert pool.nearest(2, ("p-1", "p-2", "p-3", "p-4"), by_id) is None


@given(st.integers(2, 200))
def test_whatever_the_count_a_built_placebo_has_it_in_words_of_bank_and_fillers(n):
    built = PlaceboPool(words, BANK).build(n, (), by_id)
    assert words(built.text) == n
    fillers = enumerate(REQUEST_FILLERS, start=1)
    texts = dict(BANK) | {f"filler-{k:02d}": text for k, text in fillers}
    parts = built.id.split("+")
    assert built.text == " ".join(texts[part] for part in parts)
    assert len(set(parts)) == len(parts)
    assert built.base == parts[0]


@pytest.mark.slow
@given(st.lists(st.integers(6, 60), min_size=1, max_size=20))
def test_built_placebos_that_use_each_other_up_are_all_different(wanted):
    pool, used, texts = PlaceboPool(words, BANK), set(), []
    for n in wanted:
        built = pool.build(n, used, by_id)
        if built is not None:
            used.add(built.base)
            texts.append(built.text)
    assert len(set(texts)) == len(texts)


def test_a_count_that_no_combination_has_is_not_built():
    pool = PlaceboPool(words, BANK)
    assert pool.build(1, (), by_id) is None
    assert pool.build(10_000, (), by_id) is None


def test_with_small_pieces_every_count_from_12_to_300_is_built_exactly(tokenizer):
    pool, count = pool_of(tokenizer)
    for n in (6, 7, 9, 10, *range(12, 301)):
        built = pool.build(n, (), by_id)
        assert built is not None, n
        assert built.n_tokens == count(built.text) == n


@pytest.mark.model
def test_on_the_default_tokenizer_every_count_from_3_to_200_is_built_exactly():
    from interp.models import load_tokenizer

    pool, count = pool_of(load_tokenizer())
    for n in range(3, 201):
        built = pool.build(n, (), by_id)
        assert built is not None, n
        assert built.n_tokens == count(built.text) == n
