"""Continuations under patches: equal to whole runs through hooks written by hand, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.behaviour import complete
from interp.errors import InterpError
from interp.patching import Grid, blocked_edges, cell_patches, read_continuation
from interp.prompts import make_pair
from tests.patching.test_read_options import ITEM, SHARED

NEW = 5
MODULE = import_module("interp.patching.read_continuation")


@pytest.fixture(scope="module")
def pair(tiny_model: Any) -> Any:
    return make_pair(tiny_model, ITEM, "instructed")


def by_hand(model: Any, ids: Tensor, hooks: Sequence[Any] = ()) -> list[int]:
    said: list[int] = []
    for _ in range(NEW):
        now = torch.cat([ids, torch.tensor(said, dtype=ids.dtype)])
        said.append(int(model.run_with_hooks(now[None], fwd_hooks=list(hooks))[0, -1].argmax()))
    return said


def new_tokens(prompt: Any) -> list[int]:
    return prompt.ids[prompt.span("generated")].tolist()


@pytest.fixture(params=[True, False], ids=["cached", "whole"])
def _reuses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model goes on from a KV cache, and where it cannot."""
    if not request.param:
        monkeypatch.setattr(MODULE, "supports_cache_reuse", lambda *given: False)


@pytest.mark.usefixtures("_reuses")
def test_what_is_copied_stays_copied(tiny_model: Any, pair: Any) -> None:
    one = Grid(site="resid_pre", cells="layer_span", layers=(1,), spans=("instruction",))
    patches = cell_patches(tiny_model, pair, grid=one)
    span = pair.destination.span("instruction")
    _, kept = tiny_model.run_with_cache(pair.source.ids[None])

    def write(activation: Tensor, hook: Any) -> Tensor:
        activation[:, span] = kept["blocks.1.hook_resid_pre"][:, pair.source.span("instruction")]
        return activation

    hooks = [("blocks.1.hook_resid_pre", write)]
    found = read_continuation(tiny_model, pair, patches=patches, max_new_tokens=NEW, stop_ids=())
    assert new_tokens(found) == by_hand(tiny_model, pair.destination.ids, hooks)
    plain = read_continuation(tiny_model, pair, max_new_tokens=NEW, stop_ids=())
    assert new_tokens(plain) == by_hand(tiny_model, pair.destination.ids) != new_tokens(found)


@pytest.mark.usefixtures("_reuses")
def test_new_tokens_do_not_read_what_the_last_position_does_not(tiny_model: Any, pair: Any) -> None:
    span = pair.destination.span("instruction")

    def block(scores: Tensor, hook: Any) -> Tensor:
        scores[:, :, span.stop :, span] = torch.finfo(scores.dtype).min
        return scores

    hooks = [(f"blocks.{layer}.attn.hook_attn_scores", block) for layer in range(4)]
    found = read_continuation(
        tiny_model,
        pair,
        patches=blocked_edges(tiny_model, pair),
        max_new_tokens=NEW,
        stop_ids=(),
    )
    assert new_tokens(found) == by_hand(tiny_model, pair.destination.ids, hooks)


def test_unpatched_it_is_generation_also_of_the_source_and_under_hooks(
    load_tiny: Callable[..., Any], pair: Any
) -> None:
    model = load_tiny("llama")
    for run in ("source", "destination"):
        found = read_continuation(model, pair, run=run, max_new_tokens=NEW)
        plain = complete(model, getattr(pair, run), max_new_tokens=NEW)
        assert (found.text, found.spans) == (plain.text, plain.spans)

    def push(activation: Tensor, hook: Any) -> Tensor:
        return activation + 2.0

    with model.hooks(fwd_hooks=[("blocks.2.hook_resid_pre", push)]):
        pushed = read_continuation(model, pair, max_new_tokens=NEW)
        assert pushed.text == complete(model, pair.destination, max_new_tokens=NEW).text


def test_it_goes_on_behind_the_answer_prefix_without_what_the_options_share(
    tiny_model: Any,
) -> None:
    pair = make_pair(tiny_model, SHARED, "instructed")
    assert pair.options is not None
    n = len(pair.destination) - pair.options.n_shared
    found = read_continuation(
        tiny_model, pair, patches=blocked_edges(tiny_model, pair), max_new_tokens=2, stop_ids=()
    )
    assert found.span("generated") == slice(n, n + 2)
    assert len(pair.destination) > n


def test_an_end_token_ends_it_and_bad_input_is_refused(tiny_model: Any, pair: Any) -> None:
    first = new_tokens(read_continuation(tiny_model, pair, max_new_tokens=1, stop_ids=()))
    ended = read_continuation(tiny_model, pair, stop_ids=first)
    assert "generated" not in ended.spans
    patches = blocked_edges(tiny_model, pair)
    with pytest.raises(InterpError, match="leave out run='source'"):
        read_continuation(tiny_model, pair, run="source", patches=patches)
    with pytest.raises(InterpError, match="max_new_tokens is 0"):
        read_continuation(tiny_model, pair, max_new_tokens=0)
    with pytest.raises(InterpError, match="1024"):
        read_continuation(tiny_model, pair, max_new_tokens=1000)
