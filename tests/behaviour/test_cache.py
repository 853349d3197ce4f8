"""Kept keys and values: how much is shared, which rows run together, and the model's self-check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from interp.behaviour.cache import (
    CachedPrefix,
    Rows,
    buckets,
    forward_branches,
    forward_cached,
    n_reusable,
    ragged_error,
    reuse_error,
    supports_branches,
    supports_cache_reuse,
    supports_ragged,
)
from interp.behaviour.generation import Decoding, generate
from interp.models import load_model
from interp.models.limits import NotFiniteError
from interp.prompts import TokenizedPrompt

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests


def ids_of(n: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, 400, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("other", "shared"), [([5, 6, 7, 8], 3), ([5, 6], 2), ([5, 9, 7], 1), ([4], 0), ([], 0)]
)
def test_what_is_shared_is_the_longest_common_beginning(other: list[int], shared: int) -> None:
    prefix = CachedPrefix(torch.tensor([5, 6, 7]), ())
    assert prefix.shared_with(torch.tensor(other, dtype=torch.long)) == shared


def test_logits_are_left_to_compute() -> None:
    ids = torch.tensor([5, 6, 7])
    prefix = CachedPrefix(ids, ())
    assert n_reusable(ids, prefix, 1) == 2
    assert n_reusable(ids, prefix, 3) == 0
    assert n_reusable(torch.tensor([5, 6, 7, 8, 9]), prefix, 1) == 3
    assert n_reusable(ids, prefix, 1, cached=False) == n_reusable(ids, None, 1) == 0


def test_buckets_hold_equal_keys_in_order() -> None:
    assert list(buckets(["a", "b", "a", "a", "b"], 2)) == [[0, 2], [3], [1, 4]]
    assert list(buckets([], 2)) == []


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gemma3", "neox", "opt"])
def test_reading_on_equals_reading_whole(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    options = {"sliding_window": 6} if architecture.startswith("gemma") else {}
    model = load_tiny(architecture, compatibility_mode=compatibility_mode, **options)
    sequences = [ids_of(20), ids_of(20, seed=1), torch.cat([ids_of(8), ids_of(9, seed=2)])]
    labels = ["a", "b", "c"]
    first = forward_cached(
        model, sequences[:2], [None, None], labels[:2], keep=[1, 1], batch_size=2
    )
    prefixes = [first[0].prefix, first[1].prefix, first[0].prefix]
    again = forward_cached(model, sequences, prefixes, labels, keep=[4, 1, 3], batch_size=3)
    assert [reading.n_reused for reading in again] == [16, 19, 8]
    whole = forward_cached(
        model, sequences, prefixes, labels, keep=[4, 1, 3], batch_size=3, cached=False
    )
    for a, b, ids in zip(again, whole, sequences, strict=True):
        torch.testing.assert_close(a.logits, b.logits, atol=1e-4, rtol=0)
        assert (b.prefix, b.n_reused) == (None, 0)
        assert a.prefix is not None
        assert torch.equal(a.prefix.ids, ids)
    torch.testing.assert_close(again[1].logits, first[1].logits, atol=1e-4, rtol=0)
    assert supports_cache_reuse(model)


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize(
    "architecture", ["gpt2", "llama", "qwen2", "gemma2", "gemma3", "neox", "opt"]
)
def test_rows_of_different_lengths_go_on_together_as_they_would_alone(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    """Also beyond a sliding window, and when the longest row leaves first."""
    options = {"sliding_window": 6} if architecture.startswith("gemma") else {}
    model = load_tiny(architecture, compatibility_mode=compatibility_mode, **options)
    assert supports_ragged(model)
    begun = [ids_of(n, seed=n) for n in (5, 17, 9)]
    new = ids_of(9, seed=1).reshape(3, 3)
    labels = ["a", "b", "c"]
    read = forward_cached(model, begun, [None] * 3, labels, keep=[1] * 3, batch_size=3)
    rows = Rows(model, begun, [reading.prefix for reading in read])
    first = rows.feed(new[:, :2], labels, keep=2)
    rows.select([0, 2])
    last = rows.feed(new[[0, 2], 2:], ["a", "c"])
    with torch.no_grad():
        for k, ids in enumerate(begun):
            whole = model.original_model(input_ids=torch.cat([ids, new[k]])[None]).logits[0]
            torch.testing.assert_close(first[k], whole[-3:-1].float(), atol=1e-4, rtol=0)
            if k != 1:
                torch.testing.assert_close(last[k // 2, 0], whole[-1].float(), atol=1e-4, rtol=0)
    kept = rows.prefix(0)
    assert kept is not None
    assert torch.equal(kept.ids, torch.cat([begun[0], new[0]]))
    assert {keys.shape[2] for keys, _ in kept.layers} == {8}
    (again,) = forward_cached(model, [kept.ids], [kept], ["a"], keep=[1], batch_size=1)
    torch.testing.assert_close(again.logits[-1], last[0, 0], atol=1e-4, rtol=0)


def test_a_model_that_takes_no_mask_of_padding_runs_equal_lengths_only(
    tiny_folder: Callable[..., Any],
) -> None:
    class NoMask(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, **kwargs: Any) -> Any:
            if "attention_mask" in kwargs:
                raise ValueError("no mask here")
            return self.inner(**kwargs)

    model = load_model(tiny_folder("llama"))
    prompts = [tokenized(n) for n in (5, 8, 5)]
    decoding = Decoding(max_new_tokens=4)
    together = generate(model, prompts, decoding=decoding, stop_ids=())
    model = load_model(tiny_folder("llama"))
    model.original_model = NoMask(model.original_model)
    assert ragged_error(model) == float("inf")
    assert supports_cache_reuse(model)
    apart = generate(model, prompts, decoding=decoding, stop_ids=())
    assert [a.ids.tolist() for a in apart] == [b.ids.tolist() for b in together]


def tokenized(n: int) -> TokenizedPrompt:
    return TokenizedPrompt(
        ids_of(n, seed=n), {"all": slice(0, n)}, ("t",) * n, "t" * n, f"item {n}"
    )


TAILS = [[5, 6, 7], [5, 6, 9, 9], [5], [8, 6], []]
"""Continuations that share beginnings, one of which is the beginning of others, and none at all."""


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox", "opt"])
def test_branches_read_what_whole_sequences_read(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    ids, tails = ids_of(12), [torch.tensor(tail, dtype=torch.long) for tail in TAILS]
    if not supports_branches(model, 16):
        pytest.skip(f"{architecture} cannot be packed on a kept prefix")
    (reading,) = forward_cached(model, [ids], [None], ["a"], keep=[1], batch_size=1)
    assert reading.prefix is not None
    logits = forward_branches(model, reading.prefix, tails, "a")
    assert [rows.shape for rows in logits] == [(len(t), model.cfg.d_vocab) for t in tails]
    with torch.no_grad():
        for tail, rows in zip(tails, logits, strict=True):
            whole = model.original_model(input_ids=torch.cat([ids, tail])[None]).logits[0]
            torch.testing.assert_close(rows, whole[len(ids) :].float(), atol=1e-4, rtol=0)
    assert torch.equal(reading.prefix.ids, ids)


def test_branches_leave_the_prefix_as_it_was(tiny_model: Any) -> None:
    ids, tail = ids_of(12), torch.tensor([5, 6])
    (reading,) = forward_cached(tiny_model, [ids], [None], ["a"], keep=[1], batch_size=1)
    assert reading.prefix is not None
    first = forward_branches(tiny_model, reading.prefix, [tail, tail + 1], "a")
    again = forward_branches(tiny_model, reading.prefix, [tail, tail + 1], "a")
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    (nothing,) = forward_branches(tiny_model, reading.prefix, [tail[:0]], "a")
    assert nothing.shape == (0, tiny_model.cfg.d_vocab)


def test_branches_are_not_packed_beyond_a_sliding_window(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gemma2", sliding_window=6)
    assert not supports_branches(model, 7)


def test_a_model_that_refuses_kept_keys_is_recognised(tiny_folder: Callable[..., Any]) -> None:
    class NoCache(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *, use_cache: bool, **kwargs: Any) -> Any:
            if use_cache:
                raise ValueError("no cache here")
            return self.inner(use_cache=False, **kwargs)

    model = load_model(tiny_folder("llama"))
    assert reuse_error(model) < 1e-5
    model.original_model = NoCache(model.original_model)
    assert reuse_error(model) == float("inf")
    assert not supports_cache_reuse(model)


def test_logits_that_are_not_finite_name_their_row(tiny_folder: Callable[..., Any]) -> None:
    model = load_model(tiny_folder("llama"))
    ids = torch.stack([ids_of(5), ids_of(5, seed=1)])
    (embedding,) = [
        value for name, value in model.original_model.named_parameters() if "embed_tok" in name
    ]
    with torch.no_grad():
        embedding[ids[1, 2]] = float("inf")
    with pytest.raises(NotFiniteError, match="the logits of item 1 are not finite"):
        Rows(model, [ids[0, :0], ids[1, :0]], []).feed(ids, ["item 0", "item 1"])
