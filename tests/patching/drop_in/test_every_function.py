"""Every public function of ``transformer_lens.patching`` has a drop-in, and each one equals it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import pytest
import transformer_lens.patching as upstream

import interp.patching
from interp.patching import drop_in
from tests.patching.drop_in.both_ways import assert_close, both, margin


def public_names() -> list[str]:
    """What TransformerLens's module itself defines: functions, cases of them, and classes."""
    return sorted(
        name
        for name, thing in vars(upstream).items()
        if not name.startswith("_")
        and (
            isinstance(thing, partial)
            or (
                isinstance(thing, FunctionType | type)
                and getattr(thing, "__module__", "") == upstream.__name__
            )
        )
    )


FUNCTIONS = [name for name in public_names() if name.startswith("get_act_patch_")]
GROUPED = ("llama", "qwen2", "gemma", "gemma2")
ARCHITECTURES = [
    "llama",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("gpt2", "qwen2", "gemma", "gemma2", "neox", "opt")
    ),
]


def test_every_public_name_of_transformer_lens_has_its_drop_in() -> None:
    assert len(FUNCTIONS) >= 20
    for name in public_names():
        for room in (interp.patching, drop_in):
            assert name in room.__all__, f"{name} has no drop-in in {room.__name__}"
            assert callable(getattr(room, name))


def test_setters_and_types_are_transformer_lenss_own() -> None:
    for name in public_names():
        if not name.startswith("get_act_patch_") and name != "generic_activation_patch":
            assert getattr(drop_in, name) is getattr(upstream, name)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_result_is_transformer_lenss(
    load_tiny: Callable[..., Any], architecture: str, name: str
) -> None:
    """Same shape, same zeros where nothing is measured, same numbers."""
    model = load_tiny(architecture, random_vectors=True)
    if name == "get_act_patch_resid_mid" and architecture == "neox":
        pytest.skip("parallel blocks have no resid_mid")
    if architecture == "opt" and any(part in name for part in ("pattern", "pos_every", "direct")):
        pytest.skip("TransformerLens sets no pattern there and has no fork: tests of their own")
    if "direct_path" in name:
        if architecture == "gemma2":
            pytest.skip("TransformerLens refuses post-norms, and so do we: test_direct_path")
        more: tuple[Any, ...] = () if name.endswith("all_sources") else (1, 2)
        component = "q" if architecture in GROUPED else "v"
        found, expected = both(
            model, name, margin, *more, n=7, component=component, verbose=False
        )  # fmt: skip
    else:
        found, expected = both(model, name, n=7)
    assert found.dtype == expected.dtype
    assert_close(found, expected)
    assert float(expected.max() - expected.min()) > 1e-2
