"""Every room on a model of another device (:mod:`tests.other_device`): no mixing, the CPU's numbers.

What a graphics card refuses is refused here too: an operation on tensors of both devices, a tensor of
the other device turned into a NumPy array. And what it waits for is counted: a sweep's copies between
the devices do not grow with its cells. The same computations run in bfloat16.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformer_lens.utilities import quantization

from interp import lens_trajectory, load_model, make_pair, project, score_options, sweep
from interp.activations import read_attention
from interp.behaviour import Decoding, generate, log_likelihood
from interp.circuits import edge_scores, faithfulness_curve, node_scores
from interp.data import load_items, load_texts
from interp.directions import decompose, fit_direction
from interp.directions.steering import add_vector
from interp.lens import lens_divergence
from interp.patching import attribute, knockout
from interp.prompts import PromptPair
from tests.other_device import Elsewhere, OtherDevice, moved
from tests.patching.options_by_hand import option_pair

TARGET = (20, 90)
N = 12


def pair_of(model: Any) -> PromptPair:
    ids = torch.randint(100, 400, (N,), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[4], other[7] = 60, 61
    return make_pair(model, other, ids, target=TARGET)


def item_pair(model: Any) -> PromptPair:
    return make_pair(model, load_items("bundled:choices", limit=1, seed=0)[0], "instructed")


def swept(**options: Any) -> Callable[[Any], Any]:
    return lambda model: sweep(model, pair_of(model), progress=False, **options).values


def steered(model: Any) -> Any:
    vector = torch.linspace(-1, 1, int(model.cfg.d_model))
    with add_vector(model, "resid_post", 1, vector):
        return sweep(model, pair_of(model), site="mlp_out", progress=False).values


def circuit(model: Any) -> Any:
    pair = pair_of(model)
    scores = node_scores(model, [pair], progress=False)
    return faithfulness_curve(model, [pair], scores, sizes=[5], progress=False).runs.values


def projected(model: Any) -> Any:
    stack = fit_direction(model, load_texts("bundled:morality")[:20], n_shuffles=2, progress=False)
    frame = project(model, item_pair(model), stack, progress=False).to_dataframe()
    parts = decompose(model, item_pair(model), stack[2], progress=False).to_dataframe()
    return pd.concat([frame, parts])


def scored(model: Any) -> Any:
    items = load_items("bundled:choices", limit=1, seed=0)
    return score_options(
        model, items, conditions=["clean", "instructed"], progress=False
    ).to_dataframe()


def written(model: Any) -> Any:
    prompts = [pair_of(model).source, item_pair(model).source]
    done = generate(model, prompts, decoding=Decoding(max_new_tokens=4), stop_ids=())
    return torch.cat([one.ids for one in done])


COMPUTATIONS: dict[str, Callable[[Any], Any]] = {
    **{
        site: swept(site=site)
        for site in ("resid_pre", "resid_mid", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern")
    },
    "window": swept(site="resid_post", window=2),
    "hooked": swept(site="z", method="hooked", layers=[1]),
    "several metrics": swept(site="z", metric=["margin", "log_prob"]),
    "screened": swept(method="screened", k=5),
    "screened heads": swept(method="screened", site="z", k=5),
    "option margin": lambda model: (
        sweep(model, option_pair(model), metric="option_margin", progress=False).values
    ),
    "attribution": lambda model: torch.cat(
        [one.values.flatten() for one in attribute(model, pair_of(model), progress=False).values()]
    ),
    "attribution in steps": lambda model: (
        attribute(model, pair_of(model), sites=["z", "pattern"], steps=2, progress=False)[
            "z"
        ].values
    ),
    "attribution of the option margin": lambda model: (
        attribute(
            model, option_pair(model), sites=["mlp_out"], metric="option_margin", progress=False
        )["mlp_out"].values
    ),
    "knockout": lambda model: knockout(model, item_pair(model), progress=False).values,
    "steered": steered,
    "lens": lambda model: lens_trajectory(model, pair_of(model), progress=False).to_dataframe(),
    "lens divergence": lambda model: lens_divergence(model, item_pair(model), progress=False),
    "projections": projected,
    "scores": scored,
    "written": written,
    "log-likelihood": lambda model: (
        log_likelihood(model, [pair_of(model).source.ids, pair_of(model).destination.ids[:7]]).total
    ),
    "circuit": circuit,
    "edges": lambda model: edge_scores(model, [pair_of(model)], progress=False),
    "attention": lambda model: read_attention(model, pair_of(model).source).values,
}


EVERY_DAY = ("resid_pre", "z", "screened", "knockout", "lens", "projections", "scores")
NAMES = [
    name if name in EVERY_DAY else pytest.param(name, marks=pytest.mark.slow)
    for name in COMPUTATIONS
]


@pytest.fixture(scope="module")
def other(tiny_folder: Callable[..., Path]) -> Any:
    model = load_model(tiny_folder("llama"))
    with OtherDevice():
        return moved(model)


@pytest.mark.parametrize("name", NAMES)
def test_on_another_device_every_number_is_the_cpus(
    tiny_model: Any, other: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = numbers(COMPUTATIONS[name](tiny_model))
    # TransformerLens refuses to read weights of "meta", which usually have no numbers
    monkeypatch.setattr(quantization, "unreadable_weight_reason", lambda weight: None)
    with OtherDevice():
        found = numbers(COMPUTATIONS[name](other))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(expected).any()


@pytest.fixture(scope="module")
def half(tiny_folder: Callable[..., Path]) -> Any:
    return load_model(tiny_folder("llama"), dtype="bfloat16")


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_the_same_numbers_are_there(tiny_model: Any, half: Any, name: str) -> None:
    expected, found = (numbers(COMPUTATIONS[name](model)) for model in (tiny_model, half))
    assert found.shape == expected.shape
    if "screened" in name:  # which cells are run follows from the numbers
        assert np.isfinite(found).sum() >= 5
    else:
        assert np.isnan(found).sum() == np.isnan(expected).sum()


@pytest.mark.parametrize("site", ["resid_pre", "mlp_out", "z", "k", "pattern"])
def test_copies_to_the_device_do_not_grow_with_the_cells(other: Any, site: Any) -> None:
    pair = pair_of(other)
    with OtherDevice() as device:
        sweep(other, pair, site=site, progress=False)  # with its self-check
        counts = []
        for layers in ([2], [0, 1, 2]):
            device.counts.clear()
            sweep(other, pair, site=site, layers=layers, progress=False)
            counts.append(device.counts["to"])
    assert counts[1] <= counts[0] + 4, Counter(device.where).most_common(5)


def numbers(result: Any) -> Any:
    if isinstance(result, pd.DataFrame):
        return result.select_dtypes("number").to_numpy(dtype=float)
    assert not isinstance(result, Elsewhere), "a result stays on the device"
    return np.asarray(result)
