"""Plans: counts and costs by hand, labels, refusals, and that zero cells are zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.patching import ALL, Patch, PatchSite, SweepPlan, plan_sweep, sweep
from interp.patching.hooked import run_cell
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import TARGET, activations, random_ids, rough_model, with_spans

N, FIRST, N_LAYERS = 10, 3, 4


@pytest.fixture(autouse=True)
def _the_checks_a_user_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., Any]) -> Any:
    """Four layers, four query heads, two key/value heads."""
    return rough_model(load_tiny, ("llama", False))


@pytest.fixture
def pair(model: Any) -> PromptPair:
    return pair_of(model, N, (FIRST, 6))


def pair_of(model: Any, n: int, differing: tuple[int, ...], seed: int = 0) -> PromptPair:
    source = random_ids(n, seed)
    destination = source.clone()
    for position in differing:
        destination[position] = (source[position] + 17) % 300 + 50
    return make_pair(model, source, destination, target=TARGET)


def unequal_pair(model: Any) -> PromptPair:
    """head 4, an instruction of 5 against 3 tokens without a common one, tail 3."""
    head, tail = random_ids(4, 0), random_ids(3, 1)
    ids = [torch.cat([head, middle, tail]) for middle in (torch.arange(60, 65), torch.arange(3))]
    spans = [
        {"header": slice(0, 4), "instruction": slice(4, 4 + n), "tail": slice(4 + n, 7 + n)}
        for n in (5, 3)
    ]
    return with_spans(make_pair(model, *ids, target=TARGET), *spans)


def states(plan: SweepPlan) -> dict[str, int]:
    found = [cell.state for cell in plan.cells]
    return {state: found.count(state) for state in ("run", "zero", "empty")}


@pytest.mark.slow
def test_cells_are_counted_by_hand(model: Any, pair: PromptPair) -> None:
    everything = plan_sweep(model, pair, positions="all")
    assert everything.shape == (N_LAYERS, N)
    assert len(everything) == 40
    # three positions before the first difference, in four layers
    assert states(everything) == {"run": 28, "zero": 12, "empty": 0}
    assert states(plan_sweep(model, pair)) == {"run": 28, "zero": 0, "empty": 0}
    # the last layer's attention output reaches the reading from the last position alone: 6 more
    out = plan_sweep(model, pair, site="attn_out", positions="all")
    assert states(out) == {"run": 22, "zero": 18, "empty": 0}
    # keys of the last layer are still seen by the last position
    keys = plan_sweep(model, pair, site="k", cells="layer_head_pos", positions="all")
    assert keys.shape == (N_LAYERS, 2, N)
    assert states(keys) == {"run": 56, "zero": 24, "empty": 0}
    queries = plan_sweep(model, pair, site="q", cells="layer_head_pos", positions="all")
    assert states(queries) == {"run": 88, "zero": 72, "empty": 0}
    assert plan_sweep(model, pair, site="z").shape == (N_LAYERS, 4)


def test_a_position_without_a_partner_is_empty(model: Any) -> None:
    plan = plan_sweep(
        model, unequal_pair(model), cells="layer_span", spans=["header", "instruction", "tail", ALL]
    )
    assert states(plan) == {"run": 8, "zero": 4, "empty": 4}
    frame = plan.to_dataframe()
    tail = frame[frame["span"] == "tail"].iloc[0]
    assert (tail["source_pos"], tail["destination_pos"]) == ([9, 10, 11], [7, 8, 9])
    assert set(frame[frame["span"] == "instruction"]["state"]) == {"empty"}
    assert set(frame[frame["span"] == "header"]["state"]) == {"zero"}
    everywhere = plan_sweep(model, unequal_pair(model), positions="all")
    assert states(everywhere) == {"run": 12, "zero": 16, "empty": 12}


def test_equal_prompts_have_zero_cells_only(model: Any) -> None:
    ids = random_ids(5, 0)
    plan = plan_sweep(model, make_pair(model, ids, ids, target=TARGET), positions="all")
    assert states(plan) == {"run": 0, "zero": 20, "empty": 0}
    assert plan.token_layers == plan.naive_token_layers == 0


def test_the_cost_is_counted_by_hand(model: Any) -> None:
    """Six tokens, differing at 3: rows 3, 2, 1 of positions 3, 4, 5."""
    plan = plan_sweep(model, pair_of(model, 6, (3,)), layers=[1, 3])
    # layer 1 runs in layers 1, 2, 3, layer 3 in itself: (3 + 2 + 1) rows times 3 and times 1
    assert plan.token_layers == 6 * 3 + 6 * 1
    assert plan.naive_token_layers == 6 * (6 * N_LAYERS)
    one = plan_sweep(model, pair_of(model, 6, (3,)), positions=[5, 3], layers=[2])
    assert one.token_layers == (3 + 1) * 2
    whole = plan_sweep(model, pair_of(model, 6, (3,)), cells="layer_span", spans=[ALL])
    assert whole.token_layers == 3 * (4 + 3 + 2 + 1)


def test_a_plan_prints_its_counts(model: Any, pair: PromptPair) -> None:
    plan = plan_sweep(model, pair, positions="all")
    # 1 + ... + 7 rows in 4 + 3 + 2 + 1 layers, against 28 forwards of 10 tokens and 4 layers
    assert str(plan) == (
        "resid_pre: 4 layer x 10 pos x 1 pair = 40 cells, 28 to run, 12 zero by causality, 0 "
        "without aligned positions; 280 token-layers, 4.0x fewer than one forward per cell"
    )
    assert plan._repr_html_() == f"<p><b>{plan}</b></p>"
    assert "x 2 pairs = 80 cells" in str(plan_sweep(model, [pair, pair], cells="layer_pos"
                                                    , positions="all"))  # fmt: skip


def test_the_table_has_a_row_per_cell_and_pair(model: Any, pair: PromptPair) -> None:
    plan = plan_sweep(model, [pair, pair.swap()], site="v", cells="layer_head_pos", window=2)
    frame = plan.to_dataframe()
    assert frame.columns.tolist() == [
        "pair", "layer", "last_layer", "head", "pos", "state", "layers", "heads", "source_pos",
        "destination_pos",
    ]  # fmt: skip
    assert len(frame) == len(plan) == 2 * 4 * 2 * 7
    assert not frame.duplicated(["pair", "layer", "head", "pos"]).any()
    last = frame.iloc[-1]
    assert (last["layers"], last["heads"], last["destination_pos"]) == ([3], [1], [9])


def test_labels_name_token_and_index(model: Any, pair: PromptPair) -> None:
    tokens = pair.destination.str_tokens
    plan = plan_sweep(model, pair, positions=[8, 3, 8], layers=[2, 0], window=3)
    assert plan.axis_labels == {
        "layer": ["2-3", "0-2"],
        "pos": [f"{tokens[3]}_3", f"{tokens[8]}_8"],
    }
    heads = plan_sweep(model, pair, site="z", heads=[3, 1])
    assert heads.axis_labels == {"layer": ["0", "1", "2", "3"], "head": ["3", "1"]}
    assert heads.axis_names == ("layer", "head")
    # where the pairs have other tokens, the index alone
    ids = [torch.tensor(row) for row in ([70, 71, 72, 73], [70, 75, 72, 73])]
    pair = make_pair(model, *ids, target=TARGET)
    one, two, three = pair.destination.str_tokens[1:]
    both = plan_sweep(model, [pair, pair.swap()], cells="layer_pos")
    assert both.axis_labels["pos"] == ["1", f"{two}_2", f"{three}_3"]
    assert plan_sweep(model, pair).axis_labels["pos"][0] == f"{one}_1"


def test_the_default_grid_follows_site_and_pairs(model: Any, pair: PromptPair) -> None:
    spans = {"one": slice(0, 5), "two": slice(5, N)}
    pair = with_spans(pair, spans, spans)
    assert plan_sweep(model, pair).axis_names == ("layer", "pos")
    assert plan_sweep(model, pair, site="v").axis_names == ("layer", "head")
    for plan in (plan_sweep(model, [pair, pair]), plan_sweep(model, pair, cells="layer_span")):
        assert plan.axis_names == ("layer", "span")
        assert plan.axis_labels["span"] == ["one", "two", ALL]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "edges"}, "edges"),
        ({"site": "residual"}, "no site 'residual'; known: resid_pre, resid_mid"),
        ({"layers": [4]}, r"layer 4 is outside 0\.\.3"),
        ({"layers": [-1]}, r"layer -1 is outside 0\.\.3"),
        ({"layers": []}, "no layers to patch"),
        ({"site": "z", "heads": [4]}, r"no head 4 at z: heads are 0\.\.3"),
        ({"site": "k", "heads": [2]}, r"no head 2 at k: heads are 0\.\.1"),
        ({"site": "z", "heads": [-1]}, "no head -1 at z"),
        ({"heads": [0]}, "no head 0 at resid_pre: this site has no heads"),
        ({"cells": "layer_head"}, "resid_pre has no heads: use cells='layer_pos' or 'layer_span'"),
        ({"site": "mlp_out", "cells": "layer_head_pos"}, "mlp_out has no heads"),
        ({"cells": "layer_span", "spans": ["nowhere"]}, "no span 'nowhere'; this prompt has"),
        ({"positions": "nowhere"}, "no span 'nowhere'; this prompt has prompt"),
        ({"positions": "post_instruction"}, "no span 'instruction'"),
        ({"positions": [10]}, r"position 10 is outside the destination, 0\.\.9"),
        ({"positions": [-1]}, "position -1 is outside the destination"),
        ({"positions": []}, "no positions to patch"),
        ({"window": 0}, "window is 0: "),
        ({"cells": "layer_pos", "spans": ["prompt"]}, "spans are for cells='layer_span'"),
        ({"site": "z", "spans": ["prompt"]}, "spans are for cells='layer_span'"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(
    model: Any, pair: PromptPair, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        plan_sweep(model, pair, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"site": "z", "heads": [], "cells": "layer_pos"}, id="patches-all-heads"),
        pytest.param({"site": "z", "heads": []}, id="no-heads"),
        pytest.param({"cells": "layer_span", "spans": []}, id="no-spans"),
        pytest.param({"cells": "pos_layer"}, id="unknown-cells"),
        pytest.param({"cells": "layer_span", "positions": [5]}, id="positions-of-spans"),
    ],
)
def test_what_would_be_ignored_or_break_later_is_refused(
    model: Any, pair: PromptPair, options: dict[str, Any]
) -> None:
    with pytest.raises(InterpError):
        plan_sweep(model, pair, **options)


def test_no_pairs_and_pairs_that_do_not_match_are_refused(model: Any, pair: PromptPair) -> None:
    longer = pair_of(model, N + 1, (FIRST,))
    with pytest.raises(InterpError, match="no pairs to patch between: the list is empty"):
        plan_sweep(model, [])
    with pytest.raises(InterpError, match="pairs of different lengths have no common positions"):
        plan_sweep(model, [pair, longer], cells="layer_pos")
    assert plan_sweep(model, [pair, longer]).lengths == (N, N + 1)
    with pytest.raises(InterpError, match="patterns can be copied between equal positions only"):
        plan_sweep(model, [pair, unequal_pair(model)], site="pattern")
    ids = random_ids(5, 0)
    with pytest.raises(InterpError, match="nothing to patch"):
        plan_sweep(model, make_pair(model, ids, ids, target=TARGET))


def test_a_plan_needs_no_margin_and_a_sweep_only_where_a_metric_reads_it(
    model: Any, pair: PromptPair
) -> None:
    pair = replace(pair, target=None)
    assert len(plan_sweep(model, pair)) == 28
    result = sweep(model, pair, metric=lambda logits, pair: logits[:, 7], progress=False)
    assert result.values.shape == (4, 7, 1)
    with pytest.raises(InterpError, match="no margin target"):
        sweep(model, pair, metric=["log_prob"], progress=False)


SITES: list[PatchSite] = ["resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v"]


@settings(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_cells_known_to_be_zero_are_the_destination_when_they_are_run(
    model: Any, data: st.DataObject
) -> None:
    n = data.draw(st.integers(2, 6), label="tokens")
    differing = data.draw(st.sets(st.integers(0, n - 1), max_size=2), label="differing")
    site = data.draw(st.sampled_from(SITES), label="site")
    window = data.draw(st.integers(1, 3), label="window")
    pair = pair_of(model, n, tuple(differing), seed=data.draw(st.integers(0, 3)))
    plan = plan_sweep(model, pair, site=site, cells="layer_pos", positions="all", window=window)
    zero = [cell for cell in plan.cells if cell.state == "zero"]
    assert bool(zero) or (differing and min(differing) == 0)
    source = activations(model, pair.source.ids, site)
    read = torch.tensor([n - 1])
    own = run_cell(model, pair.destination.ids, (), read)
    picked = data.draw(st.sampled_from(zero), label="cell") if zero else None
    for cell in [picked] if picked else []:
        patches = tuple(
            Patch(layer, site, cell.destination, source[layer][cell.source], cell.heads)
            for layer in cell.layers
        )
        patched = run_cell(model, pair.destination.ids, patches, read)
        assert float((patched - own).abs().max()) <= 1e-5 * float(own.abs().max())
