"""``generic_activation_patch``: every setter, indices of the caller's, and what is handed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest
import torch
import transformer_lens.patching as upstream
from torch import Tensor

import interp.patching as ours
from interp.errors import InterpError
from interp.patching.drop_in import generic
from interp.patching.drop_in.index_rows import SETTERS, engine_places
from tests.patching.drop_in.both_ways import (
    assert_close,
    assert_same_result,
    both,
    margin,
    margins,
    tokens,
)

NAME = "generic_activation_patch"
RUN = ours.generic_activation_patch


@pytest.fixture
def never_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows must be the engine's work."""

    class _Upstream:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was handed to TransformerLens")

    monkeypatch.setattr(generic, "upstream", _Upstream())


CASES = [
    (upstream.layer_pos_patch_setter, "resid_post", ("layer", "pos")),
    (upstream.layer_pos_patch_setter, "z", ("layer", "pos")),
    (upstream.layer_pos_patch_setter, "k", ("layer", "pos")),
    (upstream.layer_pos_head_vector_patch_setter, "v", ("layer", "pos", "head_index")),
    (upstream.layer_head_vector_patch_setter, "q", ("layer", "head_index")),
    (upstream.layer_head_pattern_patch_setter, "pattern", ("layer", "head")),
]


@pytest.mark.parametrize(("setter", "activation", "axes"), CASES)
def test_transformer_lenss_setters_run_on_the_engine(
    tiny_model: Any, never_upstream: None, setter: Any, activation: str, axes: tuple[str, ...]
) -> None:
    found, expected = both(tiny_model, NAME, margin, setter, activation, axes, n=7)
    assert_close(found, expected)
    assert float(expected.max() - expected.min()) > 1e-2


def test_every_setter_has_its_places() -> None:
    setters = [thing for name, thing in vars(upstream).items() if name.endswith("_patch_setter")]
    assert set(SETTERS) == set(setters)
    for setter in setters:
        assert engine_places(setter, "attn_scores") is None
    assert engine_places(upstream.layer_pos_patch_setter, "pattern") is None
    assert engine_places(upstream.layer_head_vector_patch_setter, "mlp_out") is None


@pytest.mark.parametrize(
    "options",
    [{}, {"return_index_df": True}, {"baseline": True}, {"reduce": "none", "baseline": True}],
    ids=str,
)
def test_rows_of_the_callers_index_in_any_order_and_twice(
    tiny_model: Any, never_upstream: None, options: dict[str, Any]
) -> None:
    index_df = pd.DataFrame({"layer": [3, 0, 1, 0], "pos": [-1, 5, 3, 5], "head": [0, 3, -2, 3]})
    setter = upstream.layer_pos_head_vector_patch_setter
    metric = margins if "reduce" in options else margin
    found, expected = both(tiny_model, NAME, metric, setter, "z", index_df=index_df, n=7, **options)
    assert type(found) is type(expected)
    if isinstance(expected, tuple):
        assert found[1].equals(expected[1])
        found, expected = found[0], expected[0]
    if isinstance(expected, Tensor):
        assert_close(found, expected)
    else:
        assert_same_result(found, expected)


def test_a_case_takes_its_functions_keywords(tiny_model: Any) -> None:
    """TransformerLens's functions are partials of the general one; an index can replace their axes."""
    index_df = pd.DataFrame({"layer": [1, 2], "head": [1, 0]})
    found, expected = both(
        tiny_model, "get_act_patch_attn_head_v_all_pos", n=7,
        index_axis_names=None, index_df=index_df,
    )  # fmt: skip
    assert_close(found, expected)


def scaled(activation: Tensor, index: Sequence[int], clean: Tensor) -> Tensor:
    activation[:, index[1]] = 0.5 * activation[:, index[1]] + 0.5 * clean[:, index[1]]
    return activation


@pytest.mark.parametrize(
    ("setter", "activation"),
    [(scaled, "resid_pre"), (upstream.layer_pos_patch_setter, "post")],
    ids=["the user's setter", "an activation the engine does not set"],
)
@pytest.mark.parametrize("options", [{}, {"return_index_df": True}, {"baseline": True}], ids=str)
def test_the_rest_is_transformer_lenss_own(
    tiny_model: Any, setter: Any, activation: str, options: dict[str, Any]
) -> None:
    found, expected = both(
        tiny_model, NAME, margin, setter, activation, ("layer", "pos"), n=7, batch=1, **options
    )
    if isinstance(expected, tuple):
        assert found[1].equals(expected[1])
        found, expected = found[0], expected[0]
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    else:
        assert_same_result(found, expected)


def test_one_clean_prompt_serves_several_corrupted_ones(tiny_model: Any) -> None:
    clean, corrupted = tokens(3, 7)
    with torch.no_grad():
        _, cache = tiny_model.run_with_cache(clean[:1])
        expected = upstream.get_act_patch_attn_out(tiny_model, corrupted, cache, margin)
    found = ours.get_act_patch_attn_out(tiny_model, corrupted, cache, margin, progress=False)
    assert_close(found, expected)


def test_values_are_made_when_they_are_run(tiny_model: Any) -> None:
    """A budget that holds few rows of the pattern at once gives the same numbers."""
    clean, corrupted = tokens(2, 7)
    _, cache = tiny_model.run_with_cache(clean)
    whole, in_pieces = (
        ours.get_act_patch_attn_head_pattern_dest_src_pos(
            tiny_model, corrupted, cache, margin, max_bytes=size, progress=False
        )
        for size in (1 << 30, 500_000)
    )
    assert torch.allclose(whole, in_pieces, atol=1e-5)


def test_patterns_that_can_only_be_read_are_refused(load_tiny: Callable[..., Any]) -> None:
    """TransformerLens's own hook changes nothing there: its result is the unpatched value."""
    model = load_tiny("opt", random_vectors=True)
    clean, corrupted = tokens(1, 7)
    with torch.no_grad():
        _, cache = model.run_with_cache(clean)
        theirs = upstream.get_act_patch_attn_head_pattern_all_pos(model, corrupted, cache, margin)
    assert float(theirs.max() - theirs.min()) == 0
    with pytest.raises(InterpError, match=r"pattern of OPTForCausalLM.*use interp\.sweep"):
        ours.get_act_patch_attn_head_pattern_all_pos(
            model, corrupted, cache, margin, progress=False
        )


def test_what_cannot_be_asked_is_refused_with_a_value_error(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    clean, corrupted = tokens(1, 7)
    _, cache = tiny_model.run_with_cache(clean)
    given = (tiny_model, corrupted, cache, margin)
    setter = upstream.layer_pos_patch_setter
    index_df = pd.DataFrame({"layer": [0], "pos": [7]})
    assert issubclass(InterpError, ValueError)
    with pytest.raises(InterpError, match="one of them"):
        RUN(*given, setter, "resid_pre")
    with pytest.raises(InterpError, match="one of them"):
        RUN(*given, setter, "resid_pre", ("layer", "pos"), index_df)
    with pytest.raises(InterpError, match="pos 7 of the index is not one of the 7"):
        RUN(*given, setter, "resid_pre", None, index_df)
    with pytest.raises(InterpError, match="no axis 'token'; known: layer, head"):
        RUN(*given, setter, "resid_pre", ("layer", "token"))
    with pytest.raises(InterpError, match=r"takes indices of 2 whole numbers \(layer, pos\)"):
        RUN(*given, setter, "resid_pre", ("layer", "pos", "head"))
    with pytest.raises(InterpError, match=r"takes indices of 2 whole numbers \(layer, pos\)"):
        RUN(*given, setter, "resid_pre", None, index_df.astype(float))
    with pytest.raises(InterpError, match="return_index_df goes with a tensor"):
        RUN(*given, setter, "resid_pre", ("layer", "pos"), return_index_df=True, baseline=True)
    tiny_model.train()
    try:
        with pytest.raises(InterpError, match="evaluation mode"):
            RUN(*given, setter, "resid_pre", ("layer", "pos"))
    finally:
        tiny_model.eval()
