from __future__ import annotations

import importlib
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.models import pack
from interp.models.steps import Step, plan_steps

steps = importlib.import_module("interp.models.steps")
token_lists = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=8)


def tensors(*sequences: Sequence[int]) -> list[Tensor]:
    return [torch.tensor(list(sequence)) for sequence in sequences]


def tree(n_orders: int, n_answers: int) -> list[Tensor]:
    """A stem of 40 tokens, branches of 20, each with answers of 5."""
    stem = list(range(40))
    return tensors(
        *(
            [*stem, *range(100 * order, 100 * order + 20), *range(9000 + answer, 9005 + answer)]
            for order in range(1, n_orders + 1)
            for answer in range(0, 10 * n_answers, 10)
        )
    )


def test_a_small_tree_is_one_forward() -> None:
    assert list(plan_steps(tree(2, 2), max_nodes=100)) == [Step((0, 1, 2, 3))]


def test_a_stem_is_kept_and_small_branches_are_packed_together() -> None:
    plan = list(plan_steps(tree(4, 2), max_nodes=60))  # 40 + 4 x (20 + 2 x 5)
    assert plan == [
        Step(tuple(range(8)), 0, 40, 0),
        Step((0, 1, 2, 3), 40, None, 1),
        Step((4, 5, 6, 7), 40, None, 1),
    ]


def test_a_large_branch_is_taken_apart_again_on_a_stem_of_its_own() -> None:
    plan = list(plan_steps(tree(2, 20), max_nodes=60))
    stems = [(step.start, step.stop, step.depth) for step in plan if step.stop is not None]
    assert stems == [(0, 40, 0), (40, 60, 1), (40, 60, 1)]
    assert {step.depth for step in plan if step.stop is None} == {2}
    assert sorted(i for step in plan if step.stop is None for i in step.prompts) == list(range(40))


def test_without_stems_branches_repeat_what_stands_before_them() -> None:
    plan = list(plan_steps(tree(4, 2), max_nodes=75, stems=False))
    assert [step.start for step in plan] == [0] * 4
    assert [step.prompts for step in plan] == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_a_stem_that_saves_little_is_not_kept() -> None:
    sequences = tensors(*([7, 8, 9, *range(100 * k, 100 * k + 50)] for k in range(1, 5)))
    assert all(step.stop is None for step in plan_steps(sequences, max_nodes=60))


def test_prompts_that_are_not_asked_for_are_not_planned() -> None:
    plan = list(plan_steps(tree(2, 2), prompts=[1, 3], max_nodes=1000))
    assert plan == [Step((1, 3))]
    assert list(plan_steps(tree(2, 2), prompts=[], max_nodes=1000)) == []


def test_equal_prompts_are_one_path_however_long() -> None:
    sequences = tensors(range(30), range(30), range(30))
    assert list(plan_steps(sequences, max_nodes=10)) == [Step((0, 1, 2))]


@given(token_lists, st.none() | st.integers(0, 9), st.integers(1, 20), st.booleans())
@settings(deadline=None, max_examples=200)
def test_every_position_is_computed_once_on_its_stems_and_within_the_budget(
    lists: list[list[int]], share_until: int | None, max_nodes: int, stems: bool
) -> None:
    sequences = tensors(*lists)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MIN_SAVED", 1)
        plan = list(
            plan_steps(sequences, share_until=share_until, max_nodes=max_nodes, stems=stems)
        )
    covered = [0] * len(sequences)
    kept: list[Step] = []
    for step in plan:
        del kept[step.depth :]
        assert step.start == (kept[-1].stop if kept else 0)
        assert all(set(step.prompts) <= set(stem.prompts) for stem in kept)
        tails = [sequences[index][step.start : step.stop] for index in step.prompts]
        until = None if share_until is None else max(share_until - step.start, 0)
        n_nodes = len(pack(tails, share_until=until).ids)
        longest = max(len(tail) for tail in tails)
        assert step.stop is not None or n_nodes <= max_nodes or n_nodes == longest
        if step.stop is not None:
            assert n_nodes == step.stop - step.start > 0  # a single path
            kept.append(step)
        for index, tail in zip(step.prompts, tails, strict=True):
            assert covered[index] == step.start or len(tail) == 0
            covered[index] = max(covered[index], step.start + len(tail))
    assert covered == [len(sequence) for sequence in sequences]
    assert stems or not any(step.stop for step in plan)
