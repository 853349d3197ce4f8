"""The direction's file: what was saved comes back, and everything else gives one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from interp.activations import read_states
from interp.data import load_texts
from interp.data.catalogue import dataset_hash
from interp.directions import DirectionStack, fit_direction, load_direction
from interp.errors import InterpError
from interp.models import load_model, model_card


@pytest.fixture(scope="module")
def stack(load_tiny: Callable[..., Any]) -> DirectionStack:
    texts = load_texts("bundled:morality")[:40]
    return fit_direction(load_tiny("llama"), texts, n_shuffles=30, progress=False)


def test_what_was_saved_comes_back_equal(
    stack: DirectionStack, tiny_model: Any, tmp_path: Path
) -> None:
    loaded = load_direction(stack.save(tmp_path / "v.safetensors"))
    for field in dataclasses.fields(DirectionStack):
        one, other = getattr(stack, field.name), getattr(loaded, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        elif field.name not in ("auc", "shuffled"):
            assert one == other
    for name in ("mean", "low", "high", "p", "n_shuffles"):
        values = [np.asarray(getattr(x.shuffled, name)) for x in (stack, loaded)]
        assert values[0].tobytes() == values[1].tobytes()
    for name in ("estimate", "low", "high", "n", "n_clusters", "reason"):
        assert np.array_equal(getattr(stack.auc, name), getattr(loaded.auc, name))
    assert loaded.auc.at(2) == stack.auc.at(2)
    assert loaded.best_layer == stack.best_layer
    states = read_states(tiny_model, [torch.arange(5, 12)], progress=False)
    assert torch.equal(loaded.project(states), stack.project(states))


def test_every_fact_of_the_making_travels_in_the_file(
    stack: DirectionStack, load_tiny: Callable[..., Any], tmp_path: Path
) -> None:
    facts = load_direction(stack.save(tmp_path / "v.safetensors")).facts
    card = model_card(load_tiny("llama"))
    assert facts == stack.facts
    assert (facts.method, facts.n_texts, facts.sign) == ("mean_difference", 40, "+ is label 1")
    assert facts.source == load_texts("bundled:morality")[0].source
    assert (facts.fingerprint, facts.mode) == (card.fingerprint, "raw")
    assert facts.data_hash == dataset_hash(load_texts("bundled:morality")[:40])


def test_a_direction_describes_how_it_was_made_and_how_well_it_separates(
    stack: DirectionStack,
) -> None:
    said = stack.describe().set_index("property")["value"]
    assert said["method"] == "mean_difference"
    assert said["learned from"] == f"40 texts of {stack.facts.source}"
    assert said["layers"] == "0 to 3 (4)"
    assert said["best layer"] == str(stack.best_layer)
    assert said["held-out AUC there"] == str(stack.auc.at(stack.best_layer))
    assert said["under shuffled labels"].endswith("(30 shuffles)")
    unshuffled = dataclasses.replace(
        stack, shuffled=dataclasses.replace(stack.shuffled, n_shuffles=0)
    )
    assert unshuffled.describe()["value"].iloc[-1] == "not shuffled"


def test_a_null_of_one_layer_comes_back_with_its_gaps(
    load_tiny: Callable[..., Any], tmp_path: Path
) -> None:
    texts = load_texts("bundled:morality")[:40]
    stack = fit_direction(load_tiny("llama"), texts, method="pca", n_shuffles=9, progress=False)
    loaded = load_direction(stack.save(tmp_path / "v.safetensors"))
    assert np.isnan(loaded.shuffled.p).sum() == 3
    assert loaded.shuffled.p.tobytes() == stack.shuffled.p.tobytes()
    assert loaded.shuffled.n_shuffles == 9


def test_a_saved_direction_can_be_saved_again_with_the_same_bytes(
    stack: DirectionStack, tmp_path: Path
) -> None:
    first = stack.save(tmp_path / "first")
    assert load_direction(first).save(tmp_path / "second").read_bytes() == first.read_bytes()


def one_line(path: Path) -> str:
    with pytest.raises(InterpError) as caught:
        load_direction(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("keep", [0, 4, 60, 0.5, 0.99])
def test_a_truncated_file_gives_one_line(
    stack: DirectionStack, tmp_path: Path, keep: float
) -> None:
    path = stack.save(tmp_path / "v.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    assert "not a readable direction file" in one_line(path)


def test_foreign_files_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a text file\nof two lines")
    assert "not a readable direction file" in one_line(path)
    assert "not a readable direction file" in one_line(tmp_path / "missing")
    assert "not a readable direction file" in one_line(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"interp_direction": "{}"}, {"interp_direction": "[1]"}, {"interp_direction": "{"}],
)
def test_a_safetensors_file_of_something_else_gives_one_line(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(3), "auc": torch.zeros(3, 2)}, path, metadata=metadata)
    assert "holds no direction" in one_line(path)


def test_a_folder_that_does_not_exist_is_refused_on_saving(
    stack: DirectionStack, tmp_path: Path
) -> None:
    with pytest.raises(InterpError, match="cannot write the direction"):
        stack.save(tmp_path / "nowhere" / "v.safetensors")


def test_another_model_is_refused_by_name(
    stack: DirectionStack, load_tiny: Callable[..., Any]
) -> None:
    with pytest.raises(InterpError, match=r"fitted on other weights .* fit it again on this model"):
        stack.require(load_tiny("qwen2"))


def test_another_processing_mode_is_refused(
    stack: DirectionStack, load_tiny: Callable[..., Any]
) -> None:
    message = "fitted in raw mode, the model is in compatibility mode: .* fit it again"
    with pytest.raises(InterpError, match=message):
        stack.require(load_tiny("llama", compatibility_mode=True))


def test_the_model_it_was_fitted_on_is_accepted_also_when_loaded_again(
    stack: DirectionStack, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    loaded = load_direction(stack.save(tmp_path / "v.safetensors"))
    loaded.require(load_model(tiny_folder("llama")))


def test_the_notebook_view_shows_every_layer(stack: DirectionStack) -> None:
    html = stack._repr_html_()
    assert "mean_difference direction of" in html
    assert html.count("<tr") == 1 + len(stack)
