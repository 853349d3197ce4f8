from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.models import pack

token_lists = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=6)


def tensors(*sequences: list[int]) -> list[Tensor]:
    return [torch.tensor(sequence) for sequence in sequences]


def test_tree_drawn_by_hand_has_this_layout_and_this_mask() -> None:
    #  7 - 8 - 9        (first)
    #       \- 5 - 6    (second)
    #  \- 5             (third)
    packed = pack(tensors([7, 8, 9], [7, 8, 5, 6], [7, 5]))
    assert packed.ids.tolist() == [7, 8, 9, 5, 6, 5]
    assert packed.depth.tolist() == [0, 1, 2, 2, 3, 1]
    assert [path.tolist() for path in packed.nodes] == [[0, 1, 2], [0, 1, 3, 4], [0, 5]]
    assert packed.mask().int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 0, 0, 0, 0, 1],
    ]


def test_nothing_is_shared_from_share_until_on() -> None:
    packed = pack(tensors([7, 8, 9], [7, 8, 9]), share_until=1)
    assert packed.ids.tolist() == [7, 8, 9, 8, 9]
    assert [path.tolist() for path in packed.nodes] == [[0, 1, 2], [0, 3, 4]]
    assert packed.mask()[3].int().tolist() == [1, 0, 0, 1, 0]
    assert len(pack(tensors([7, 8], [7, 8]), share_until=0).ids) == 4
    assert len(pack(tensors([7, 8], [7, 8])).ids) == 2


def test_a_prompt_that_ends_inside_another_adds_no_node() -> None:
    packed = pack(tensors([4, 5, 6], [4, 5], [4, 5, 6]))
    assert packed.ids.tolist() == [4, 5, 6]
    assert [len(path) for path in packed.nodes] == [3, 2, 3]


@given(token_lists, st.none() | st.integers(0, 8))
@settings(deadline=None)
def test_each_prompt_sees_exactly_its_own_tokens_in_order(
    sequences: list[list[int]], share_until: int | None
) -> None:
    packed = pack(tensors(*sequences), share_until=share_until)
    mask = packed.mask()
    for sequence, path in zip(sequences, packed.nodes, strict=True):
        assert packed.ids[path].tolist() == sequence
        assert packed.depth[path].tolist() == list(range(len(sequence)))
        for position, node in enumerate(path):
            assert mask[node].nonzero().ravel().tolist() == sorted(path[: position + 1].tolist())
