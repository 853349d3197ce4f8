"""Exchanges on trained models of known truth, and on tiny models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.superficiality.exchanges import (
    DIRECTION,
    IMMEDIATE,
    ORACLE,
    ORTHOGONAL,
    WHOLE,
    Exchange,
    exchanges_of,
    measure_mediation,
)
from interp.superficiality.subspaces import Subspaces, fit_subspaces
from tests.superficiality.toy import (
    CONTENT,
    item_pairs,
    margin_by_hooks,
    toy_direction,
    toy_pairs,
)

WAYS = ("into", "out")
ASKED = [Exchange(s, way=w) for s in (DIRECTION, ORACLE) for w in WAYS] + [
    Exchange(s, rows=rows) for s in (ORTHOGONAL, WHOLE) for rows in ("behind", "all")
]  # fmt: skip


def share_of(name: str) -> dict[str, float]:
    model, task, pairs, clusters = toy_pairs(name, n=6)
    v = toy_direction(model, task)
    spaces = fit_subspaces(model, pairs, v, content=CONTENT, clusters=clusters, n_covariance=0)
    runs = measure_mediation(
        model, pairs, spaces, exchanges=ASKED, content=CONTENT, clusters=clusters
    )
    means = runs.groupby("run")["value"].mean()
    total = means["corrected"] - means["placebo"]
    return {run: float((means[run] - means["placebo"]) / total) for run in means.index}


def test_a_rewritten_concept_is_carried_along_its_direction_both_ways() -> None:
    found = share_of("deep")
    assert found[Exchange(DIRECTION).run] == pytest.approx(1, abs=0.05)
    assert found[Exchange(ORACLE).run] == pytest.approx(1, abs=0.05)
    assert found[Exchange(DIRECTION, way="out").run] == pytest.approx(0, abs=0.05)
    assert found[Exchange(WHOLE, rows="all").run] == pytest.approx(1, abs=1e-4)


def test_a_shifted_answer_is_not_carried_along_the_concepts_direction() -> None:
    found = share_of("superficial")
    assert found[Exchange(DIRECTION).run] == pytest.approx(0, abs=0.1)
    assert found[Exchange(ORTHOGONAL).run] == pytest.approx(1, abs=0.1)
    assert found[Exchange(ORACLE).run] > 0.9


def spaces_of(model: Any, n: int) -> Subspaces:
    """A random direction at every layer, a span of two, an oracle and a null."""
    torch.manual_seed(0)
    n_layers, d = int(model.cfg.n_layers), int(model.cfg.d_model)
    span = torch.linalg.qr(torch.randn(n_layers, d, 2)).Q.mT.contiguous()
    oracles = {rows: span[None].expand(4, -1, -1, -1) for rows in ("all", "behind")}
    places = tuple(range(1, n_layers + 1))
    return Subspaces(places, 2, span, oracles, (0,) * n, {"tense": span[:, 1]})


ARCHITECTURES = ["llama", "gpt2", "qwen2", "gemma", "neox"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_along_and_orthogonal_are_the_source_run(load_tiny: Any, architecture: str) -> None:
    """From the first difference on, at every layer; and the slow way gives the same numbers."""
    model = load_tiny(architecture)
    pairs = item_pairs(model, 1)
    spaces = spaces_of(model, 1)
    asked = [Exchange(WHOLE, rows="all"), Exchange(DIRECTION, 2), Exchange("tense")]
    fast, slow = (
        measure_mediation(model, pairs, spaces, exchanges=asked, method=method)  # type: ignore[arg-type]
        for method in ("exact", "hooked")
    )
    of = fast.pivot(index="metric", columns="run", values="value")
    assert (of[asked[0].run] - of["corrected"]).abs().max() < 1e-4
    assert (of[asked[1].run] - of["placebo"]).abs().max() > 1e-3
    assert (fast["value"] - slow["value"]).abs().max() < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_on_a_linear_read_out_along_and_orthogonal_add_up_exactly(
    load_tiny: Any, architecture: str
) -> None:
    """Behind the last layer the stream is read by a norm and the unembedding; without the norm by a
    matrix, and the parts of what is read add up."""
    model = load_tiny(architecture)
    pair = item_pairs(model, 1)[0]
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        source, own = (
            model.run_with_cache(prompt.ids[None], names_filter=last)[1][last][0, -1]
            for prompt in (pair.source, pair.destination)
        )
    assert pair.target is not None
    read = (model.W_U[:, pair.target.a] - model.W_U[:, pair.target.b]).detach()
    basis = spaces_of(model, 1).span[-1]
    parts = [
        Patch(0, "resid_post", torch.tensor([0]), source[None], vector=basis, orthogonal=side)
        for side in (False, True)
    ]
    moved = [float((part.apply(own[None])[0] - own) @ read) for part in parts]
    assert sum(moved) == pytest.approx(float((source - own) @ read), abs=1e-4)


def test_the_immediate_effect_is_the_change_in_the_final_stream_and_behind_the_last_layer_all_there_is(
    tiny_model: Any,
) -> None:
    """By hand: the change along the vector at its own place, added to the last layer's output."""
    pair = item_pairs(tiny_model, 1)[0]
    spaces = spaces_of(tiny_model, 1)
    straight, total = (Exchange(space, places="own") for space in (IMMEDIATE, DIRECTION))

    def margins(own: Subspaces) -> Any:
        runs = measure_mediation(tiny_model, [pair], own, exchanges=[straight, total])
        return runs[runs["metric"] == "margin"].set_index("run")["value"]

    found = margins(spaces)
    vector, (here, last) = spaces.span[1, 0], (f"blocks.{k}.hook_resid_post" for k in (1, 3))
    with torch.no_grad():
        there, own = (
            tiny_model.run_with_cache(prompt.ids[None], names_filter=[here, last])[1]
            for prompt in (pair.source, pair.destination)
        )
    moved = own[last][0, -1] + ((there[here] - own[here])[0, -1] @ vector) * vector
    by_hand = margin_by_hooks(
        tiny_model, pair, pair.destination.ids, {last: {len(pair.destination) - 1: moved}}
    )
    assert found[straight.run] == pytest.approx(by_hand, abs=1e-4)
    assert found[straight.run] != pytest.approx(found[total.run], abs=1e-3)
    at_the_end = margins(replace(spaces, own=4))
    assert at_the_end[straight.run] == pytest.approx(at_the_end[total.run], abs=1e-5)


def test_places_beyond_the_model_and_groups_that_do_not_match_are_refused(tiny_model: Any) -> None:
    pairs, spaces = item_pairs(tiny_model, 1), spaces_of(tiny_model, 2)
    with pytest.raises(InterpError, match="2 groups of oracles for 1 pairs"):
        measure_mediation(tiny_model, pairs, spaces)


def test_a_card_asks_every_exchange_once(tiny_model: Any) -> None:
    asked = exchanges_of(spaces_of(tiny_model, 1))
    runs = [one.run for one in asked]
    assert len(set(runs)) == len(runs)
    assert Exchange("tense") in asked
    few = exchanges_of(spaces_of(tiny_model, 1), spans=False, detailed=False)
    assert Exchange("tense") not in few
    assert {one.k for one in few} == {1}
    assert {one.k for one in asked} == {1, 2}
