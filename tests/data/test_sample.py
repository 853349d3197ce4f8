from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.items import Choice, ChoiceItem
from interp.data.sample import sample_items
from interp.errors import InterpError

WITH_CONTRAST = (Choice("a", "stereotyped"), Choice("b", "counter"), Choice("c", "unknown"))
WITHOUT = (Choice("a", "other"), Choice("b", "other"), Choice("c", "unknown"))


def make_item(
    number: int,
    category: str = "Pets",
    cluster: int = 0,
    condition: str = "ambiguous",
    polarity: str = "neg",
    contrast: bool = True,
) -> ChoiceItem:
    return ChoiceItem(
        id=f"{number:04d}",
        benchmark="b",
        category=category,
        context="",
        question="q?",
        choices=WITH_CONTRAST if contrast else WITHOUT,
        gold=2 if condition == "ambiguous" else 0,
        context_condition=condition,  # type: ignore[arg-type]
        cluster=f"{category}/{cluster}",
        meta={"polarity": polarity},
    )


def full_grid(categories: int, clusters: int, copies: int = 3) -> list[ChoiceItem]:
    """Every category with equally many clusters, conditions, polarities and copies."""
    cells = [
        (f"cat{c}", k, condition, polarity)
        for c in range(categories)
        for k in range(clusters)
        for condition in ("ambiguous", "disambiguated")
        for polarity in ("neg", "nonneg")
        for _ in range(copies)
    ]
    return [make_item(i, *cell) for i, cell in enumerate(cells)]


item_lists = st.lists(
    st.tuples(
        st.sampled_from(["Pets", "Plants", "Stones"]),
        st.integers(0, 4),
        st.sampled_from(["ambiguous", "disambiguated"]),
        st.sampled_from(["neg", "nonneg"]),
        st.booleans(),
    ),
    max_size=60,
).map(lambda cells: [make_item(i, *cell) for i, cell in enumerate(cells)])
limits = st.integers(1, 40)
seeds = st.integers(0, 5)


@given(items=item_lists, limit=limits, seed=seeds, per_cluster=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_the_cap_holds_nothing_repeats_and_no_allowed_item_is_withheld(
    items: list[ChoiceItem], limit: int, seed: int, per_cluster: int
) -> None:
    sample = sample_items(items, limit, seed=seed, per_cluster=per_cluster)
    cells = Counter((item.cluster, item.context_condition) for item in items)
    taken = Counter((item.cluster, item.context_condition) for item in sample)
    assert all(count <= per_cluster for count in taken.values())
    assert len({item.id for item in sample}) == len(sample)
    allowed = sum(min(count, per_cluster) for count in cells.values())
    assert len(sample) == min(limit, allowed)


@given(items=item_lists, limit=limits, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_the_sample_depends_on_items_and_seed_and_not_on_their_order(
    items: list[ChoiceItem], limit: int, seed: int
) -> None:
    sample = sample_items(items, limit, seed=seed)
    assert sample_items(items[::-1], limit, seed=seed) == sample


@given(items=item_lists, limit=limits, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_a_smaller_limit_gives_the_beginning_of_a_larger_sample(
    items: list[ChoiceItem], limit: int, seed: int
) -> None:
    larger = sample_items(items, limit + 7, seed=seed)
    assert sample_items(items, limit, seed=seed) == larger[:limit]


@pytest.mark.slow
@given(items=item_lists, limit=limits, seed=seeds)
@settings(max_examples=150, deadline=None)
def test_categories_differ_by_at_most_one_unless_one_ran_out(
    items: list[ChoiceItem], limit: int, seed: int
) -> None:
    sample = sample_items(items, limit, seed=seed)
    everything = Counter(item.category for item in sample_items(items, 10_000, seed=seed))
    taken = Counter(item.category for item in sample)
    not_exhausted = [taken[c] for c in everything if taken[c] < everything[c]]
    if not_exhausted:
        assert max(taken.values(), default=0) - min(not_exhausted) <= 1


@given(
    categories=st.integers(1, 4), clusters=st.integers(2, 5), limit=st.integers(1, 30), seed=seeds
)
@settings(max_examples=80, deadline=None)
def test_a_full_grid_is_balanced_within_one_over_categories_and_conditions(
    categories: int, clusters: int, limit: int, seed: int
) -> None:
    sample = sample_items(full_grid(categories, clusters), limit, seed=seed)
    by_category = [sum(i.category == f"cat{c}" for i in sample) for c in range(categories)]
    assert max(by_category) - min(by_category) <= 1
    by_condition = [
        sum(i.context_condition == condition for i in sample)
        for condition in ("ambiguous", "disambiguated")
    ]
    assert abs(by_condition[0] - by_condition[1]) <= 1
    for c in range(categories):
        inside = Counter(i.context_condition for i in sample if i.category == f"cat{c}")
        assert abs(inside["ambiguous"] - inside["disambiguated"]) <= 1


def test_two_items_of_a_cluster_have_different_polarities() -> None:
    items = full_grid(categories=2, clusters=4)
    sample = sample_items(items, 10_000, seed=3)
    pairs = Counter((i.cluster, i.context_condition, i.meta["polarity"]) for i in sample)
    assert set(pairs.values()) == {1}
    assert len(pairs) == 2 * 4 * 2 * 2


def test_single_items_of_many_clusters_alternate_in_polarity() -> None:
    sample = sample_items(full_grid(categories=1, clusters=10), 20, seed=0, per_cluster=1)
    for condition in ("ambiguous", "disambiguated"):
        of_condition = [i for i in sample if i.context_condition == condition]
        assert Counter(i.meta["polarity"] for i in of_condition) == {"neg": 5, "nonneg": 5}


@pytest.mark.parametrize("categories", [2, 4, 8])
def test_the_first_four_items_already_cross_conditions_with_polarities(categories: int) -> None:
    sample = sample_items(full_grid(categories, clusters=3), 4, seed=1)
    assert len({(i.context_condition, i.meta["polarity"]) for i in sample}) == 4


def test_items_with_a_contrast_come_first_inside_a_cluster_and_between_clusters() -> None:
    items = [make_item(i, contrast=False) for i in range(5)] + [make_item(9)]
    assert sample_items(items, 1, seed=0, per_cluster=1) == (items[-1],)
    items = [make_item(i, cluster=i, contrast=i == 4) for i in range(5)]
    assert sample_items(items, 2, seed=0)[0] == items[4]


def test_different_seeds_give_different_samples() -> None:
    items = full_grid(categories=2, clusters=5)
    assert len({sample_items(items, 8, seed=seed) for seed in range(5)}) == 5


def test_a_cluster_that_spans_categories_is_capped_as_one() -> None:
    items = [replace(make_item(i, category=f"cat{i}"), cluster="shared") for i in range(6)]
    assert len(sample_items(items, 6, seed=0)) == 2


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InterpError, match="limit and per_cluster must be at least 1, are 0 and 2"):
        sample_items([make_item(0)], 0, seed=0)


def test_no_items_give_an_empty_sample() -> None:
    assert sample_items([], 5, seed=0) == ()
