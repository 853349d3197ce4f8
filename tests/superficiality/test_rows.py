"""Rows on tables whose truth is written down."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.stats import effect
from interp.superficiality.rows import (
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    INTERACTION,
    OTHER_EDGES,
    behaviour_finding,
    content_findings,
    edge_findings,
    onset_finding,
)

ITEMS = [f"i{k}" for k in range(12)]


def readings(b: float, *, control: float | None = None, seed: int = 0) -> pd.DataFrame:
    """Six wordings a side of two metrics; the instruction is worth ``b`` nats."""
    generator = np.random.default_rng(seed)
    level = generator.normal(size=len(ITEMS))
    sides = {"placebo": 0.0, "corrected": b}
    if control is not None:
        sides |= {"control": control, "control_placebo": 0.0}
    rows = [
        (item, f"c{k // 2}", "", side, slot, metric, level[k] + worth + 0.01 * generator.normal())
        for metric in ("option_margin", "margin")
        for (side, worth), slot, (k, item) in product(sides.items(), range(6), enumerate(ITEMS))
    ]
    return pd.DataFrame(
        rows, columns=["item", "cluster", "context", "side", "slot", "metric", "value"]
    )


def runs_of(per_item: dict[str, object], layer: int = -1) -> pd.DataFrame:
    """Runs by name: a value, or one per item."""
    rows = []
    for name, values in per_item.items():
        several = np.broadcast_to(np.asarray(values, dtype=float), (len(ITEMS),))
        rows += [
            (item, f"c{k // 2}", "", str(k % 6), name, layer, "margin", value)
            for k, (item, value) in enumerate(zip(ITEMS, several, strict=True))
        ]
    columns = ["item", "cluster", "context", "slot", "run", "layer", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def by_name(findings: list[object]) -> dict[str, object]:
    return {finding.name: finding for finding in findings}  # type: ignore[attr-defined]


def test_behaviour_is_the_two_way_effect_of_the_first_metric() -> None:
    table = readings(0.5)
    found = behaviour_finding(table)
    own = table[table["metric"] == "option_margin"]
    arms = [
        own[own["side"] == side].pivot(index="slot", columns="item", values="value")[ITEMS]
        for side in ("corrected", "placebo")
    ]
    expected = effect(arms[0], arms[1], [f"c{k // 2}" for k in range(len(ITEMS))])
    assert found.interval.estimate == pytest.approx(expected.estimate)
    assert found.interval.low == pytest.approx(expected.low)
    assert found.interval.texts == (6, 6)
    assert found.table["metric"].tolist() == ["option_margin", "margin"]
    assert np.isnan(found.table["delta"]).all()
    assert "raises the option margin" in found.reading


def test_a_control_asked_in_turn_gives_the_delta_of_its_mean() -> None:
    whole = readings(0.5, control=3.0)
    of_control = whole["side"].str.startswith("control")
    turn = whole["slot"] == whole["item"].str[1:].astype(int) % 6
    found = behaviour_finding(whole[~of_control | turn])
    own = whole[of_control & turn & (whole["metric"] == "option_margin")]
    means = own.groupby("side")["value"].mean()
    delta = found.table["delta"].iloc[0]
    assert delta == pytest.approx(0.1 * (means["control"] - means["control_placebo"]))
    noise = behaviour_finding(readings(0.5, control=0.0)).table["delta"]
    assert delta == pytest.approx(0.3, abs=0.01)
    assert noise.isna().all()


def test_delta_is_a_tenth_of_what_naming_the_answer_does() -> None:
    assert behaviour_finding(readings(0.5, control=3.0)).table["delta"][0] == pytest.approx(
        0.3, abs=0.01
    )
    assert np.isnan(behaviour_finding(readings(0.5, control=-3.0)).table["delta"][0])


def test_shares_are_ratios_of_means_and_add_up_exactly() -> None:
    generator = np.random.default_rng(0)
    total, content, instruction = (m + generator.normal(size=len(ITEMS)) for m in (6, 4, 3))
    runs = runs_of(
        {
            "placebo": 1.0,
            "corrected": 1 + total,
            "everything": 1 + total,
            "content": 1 + content,
            "instruction": 1 + instruction,
        }
    )
    found = by_name(content_findings(runs))
    into, out, both = (found[n].interval.estimate for n in (CONTENT_IN, CONTENT_OUT, INTERACTION))  # type: ignore[attr-defined]
    assert into == pytest.approx(content.mean() / total.mean(), abs=1e-12)
    assert out == pytest.approx(1 - instruction.mean() / total.mean(), abs=1e-12)
    assert into + (1 - out) - both == pytest.approx(1, abs=1e-12)
    assert all(one.is_read for one in found.values())  # type: ignore[attr-defined]


def test_changed_content_is_what_other_items_do_not_bring_read_on_the_lower_half() -> None:
    low = np.arange(len(ITEMS)) % 2 == 0
    shift = np.where(low, 1.0, 99.0)
    runs = runs_of(
        {"placebo": 0.0, "corrected": 4.0, "content": 3.0, "instruction": 1.0, "shift": shift}
    )
    chosen = [item for item, one in zip(ITEMS, low, strict=True) if one]
    found = by_name(content_findings(runs, low=chosen))[CHANGED]
    assert found.interval.estimate == pytest.approx((3 - 1) / 4)  # type: ignore[attr-defined]
    assert found.n == len(chosen)  # type: ignore[attr-defined]
    assert "25 %" in found.reading  # type: ignore[attr-defined]
    none = by_name(content_findings(runs, low=[]))[CHANGED]
    assert not none.is_read  # type: ignore[attr-defined]


def test_a_share_of_an_effect_that_may_be_none_is_not_read() -> None:
    noise = np.random.default_rng(1).normal(size=len(ITEMS))
    runs = runs_of({"placebo": 0.0, "corrected": noise, "content": 1.0, "instruction": 0.0})
    found = by_name(content_findings(runs))[CONTENT_IN]
    assert not found.is_read  # type: ignore[attr-defined]
    assert "denominator" in found.why_not  # type: ignore[attr-defined]


def test_a_broken_ceiling_pairs_moved_back_and_an_untrained_copy_that_moves_forbid_a_reading() -> (
    None
):
    base = {"placebo": 0.0, "corrected": 4.0, "content": 3.0, "instruction": 1.0}
    broken = content_findings(runs_of(base | {"everything": 3.9}))
    assert not any(one.is_read for one in broken)
    assert "miss it by" in broken[0].why_not
    back = np.where(np.arange(len(ITEMS)) < 5, -0.1, 4.0)
    moved = by_name(content_findings(runs_of(base | {"content": back})))
    assert "moved the other way" in moved[CONTENT_IN].why_not  # type: ignore[attr-defined]
    little = np.where(np.arange(len(ITEMS)) < 5, -0.01, 0.02)
    small = by_name(content_findings(runs_of(base | {"content": little})))
    assert small[CONTENT_IN].is_read  # type: ignore[attr-defined]
    alike = content_findings(runs_of(base), untrained=runs_of(base))
    assert "untrained copy" in alike[0].why_not
    still = runs_of({"placebo": 0.0, "corrected": 0.0, "content": 0.0, "instruction": 0.0})
    assert content_findings(runs_of(base), untrained=still)[0].is_read


def test_lost_edges_are_a_difference_of_differences() -> None:
    runs = runs_of(
        {
            "placebo": 0.0,
            "corrected": 4.0,
            "corrected_no_content_edges": 5.0,
            "placebo_no_content_edges": 1.0,
            "corrected_no_other_edges": 2.0,
            "placebo_no_other_edges": 1.0,
        }
    )
    found = by_name(edge_findings(runs))
    assert found[CONTENT_EDGES].interval.estimate == pytest.approx(0)  # type: ignore[attr-defined]
    assert found[OTHER_EDGES].interval.estimate == pytest.approx(0.75)  # type: ignore[attr-defined]


def test_onset_is_where_the_curve_reaches_a_half() -> None:
    curve = {0: 0.0, 1: 1.0, 2: 3.0, 3: 4.0, 4: 4.0}
    parts = [runs_of({"placebo": 0.0, "corrected": 4.0})]
    parts += [runs_of({"behind": value}, layer) for layer, value in curve.items()]
    found = onset_finding(pd.concat(parts))
    assert found.interval.estimate == pytest.approx(1.5 / 4)
    assert found.interval.low == pytest.approx(1.5 / 4)
    assert found.table["share"].tolist() == [0, 0.25, 0.75, 1, 1]
    assert found.is_read
    parts[-1] = runs_of({"behind": 3.0}, 4)
    assert not onset_finding(pd.concat(parts)).is_read


def test_tables_without_what_a_row_needs_are_refused_by_name() -> None:
    with pytest.raises(InterpError, match="no column 'side'"):
        behaviour_finding(readings(0.5).drop(columns="side"))
    table = readings(0.5)
    alone = table[table["side"] == "placebo"]
    with pytest.raises(InterpError, match="no rows of side 'corrected'"):
        behaviour_finding(alone)
    whole = runs_of({"placebo": 0.0, "corrected": 1.0})
    with pytest.raises(InterpError, match="no run 'content'"):
        content_findings(whole)
    with pytest.raises(InterpError, match="no metric 'p'"):
        edge_findings(whole, metric="p")
    with pytest.raises(InterpError, match="onset=True"):
        onset_finding(whole)
