"""The report's sentences on hand-made results: what they say, and what they must not say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import readings
from analyses.shifts import CONTROL
from interp.behaviour import Effect
from interp.patching import SweepResult
from interp.stats import Interval, PermutationTest, sign_flip_max_t

NAN = float("nan")
ALONE = "a single cluster: no interval"


def effect(
    estimate: float,
    low: float,
    high: float,
    *,
    p: float = 0.01,
    ways: int = 924,
    reason: str = "",
    n: int = 9,
) -> Effect:
    interval = Interval(estimate, low, high, 9, n, reason=reason, texts=(6, 6))
    test = PermutationTest(estimate, p, ways, exact=True)
    return Effect("instructed", "placebo", "ambiguous", "margin", interval, test, 0.0)


def sweep_result(values: list[float], *, clusters: int | None = None) -> SweepResult:
    """One layer, two spans; the first span's patch brings ``values`` per pair, the second none."""
    n = len(values)
    return SweepResult(
        values=torch.tensor([[values, [0.0] * n]]),
        axis_names=["layer", "span"],
        index_df=pd.DataFrame({"layer": ["0", "0"], "span": ["instruction", "answer_prefix"]}),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.zeros(n),
        source_baseline=torch.tensor(values),
        axis_labels={"layer": ["0"], "span": ["instruction", "answer_prefix"]},
        pair_labels=[f"p{k}" for k in range(n)],
        clusters=[f"c{k % (clusters or n)}" for k in range(n)],
        notes=("1 of 2 pairs are not aligned by index",),
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (effect(0.2, 0.1, 0.3), "raises the margin: 0.20 [0.10, 0.30] nats"),
        (effect(-0.2, -0.3, -0.1), "lowers the margin: -0.20"),
        (effect(0.2, -0.1, 0.5), "the interval does not exclude zero"),
        (effect(0.2, 0.1, 0.3, p=0.2), "labels permuted differ as much"),
        (effect(0.2, 0.1, 0.3, p=1.0, ways=2), "raises the margin"),  # one wording: no permuting
        (effect(0.2, 0.1, 0.3, n=5), "5 clusters of items are too few for a finding"),
        (effect(0.2, NAN, NAN, reason=ALONE), "so this is no finding"),
        (effect(NAN, NAN, NAN, reason="margin is undefined"), "no effect that could be measured"),
    ],
)
def test_an_effect_is_told_only_as_far_as_interval_and_p_agree(given: Effect, said: str) -> None:
    text = readings.read_effect(given)
    assert said in text
    assert "nan" not in text
    directed = "raises" in text or "lowers" in text
    assert directed == (said.startswith(("raises", "lowers")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (effect(0.2, 0.1, 0.3), "works"),
        (effect(-0.2, -0.3, -0.1), "fails"),
        (effect(0.2, -0.1, 0.3), "fails"),
        (effect(0.2, 0.1, 0.3, n=5), "cannot be judged"),
        (effect(2.0, NAN, NAN, reason=ALONE), "cannot be judged"),
        (effect(NAN, NAN, NAN, reason="margin is undefined"), "cannot be judged"),
    ],
)
def test_the_control_works_only_with_an_interval_above_zero(given: Effect, said: str) -> None:
    text = readings.read_control(given)
    assert f"The positive control {said}" in text
    assert ("nothing should be concluded" in text) == (said != "works")


def test_the_instructed_map_is_read_only_where_the_controls_map_shows_something() -> None:
    strong, none = sweep_result([1.0, 1.1, 0.9, 1.2, 1.0, 1.3]), sweep_result([1.0, -1.0] * 3)
    read = readings.read_maps(strong, none)
    assert "1 of 2 cells differ from zero family-wise" in read[0]
    assert "not aligned by index." in read[0]
    assert read[1].startswith("Instructed: the whole effect")
    assert "shares of it are not defined; no cell differs" in read[1]
    assert "is not read" in readings.read_maps(none, strong)[1]


@pytest.mark.parametrize(
    ("clusters", "said"),
    [(1, "a single cluster allows no test"), (4, "4 clusters are too few for any cell")],
)
def test_a_map_of_too_few_clusters_says_that_no_cell_could_differ(clusters: int, said: str) -> None:
    result = sweep_result([1.0, 1.1, 0.9, 1.2], clusters=clusters)
    assert said in readings.read_maps(result, result)[0]


def shift_rows(low: float, high: float, nulls: tuple[float, ...] = (0.1, -0.2)) -> pd.DataFrame:
    rows = [("morality", 3, 0.5, low, high, 0.1, False)]
    rows += [(f"null {k}", 3, value, NAN, NAN, 0.0, True) for k, value in enumerate(nulls)]
    columns = ["direction", "layer", "estimate", "low", "high", "class_units", "is_null"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("rows", "usable", "said"),
    [
        (shift_rows(0.3, 0.7), True, "No non-moral direction shows as much."),
        (shift_rows(0.3, 0.7), False, "fitted the same way."),
        (shift_rows(0.3, 0.7, (0.1, -0.9)), True, "need not be about morality."),
        (shift_rows(-0.3, 0.7), True, "does not exclude zero: no shift is shown."),
        (shift_rows(NAN, NAN), True, "A single cluster gives no interval: no shift is shown."),
    ],
)
def test_a_shift_is_called_moral_by_no_less_than_everything(
    rows: pd.DataFrame, usable: bool, said: str
) -> None:
    assert readings.read_shift(rows, 0.01, n_clusters=8, usable=usable).endswith(said)


def test_a_shift_without_spread_or_test_says_so() -> None:
    rows = shift_rows(0.3, 0.7)
    assert "no test over layers" in readings.read_shift(rows, NAN, n_clusters=1, usable=True)
    assert "cannot be scaled" in readings.read_shift(
        rows.assign(estimate=NAN), 0.1, n_clusters=8, usable=True
    )


def test_the_controls_shift_is_told_beside() -> None:
    rows = shift_rows(0.3, 0.7).assign(direction=lambda f: [CONTROL, *f["direction"][1:]])
    assert "moves the state along this direction: 0.50 [0.30, 0.70]" in readings.read_control_shift(
        rows
    )
    across = rows.assign(low=-0.3)
    assert "does not clearly move" in readings.read_control_shift(across)
    assert "no interval here" in readings.read_control_shift(rows.assign(low=NAN))


def test_a_shift_over_a_few_clusters_is_no_finding() -> None:
    text = readings.read_shift(shift_rows(0.3, 0.7), 0.01, n_clusters=5, usable=True)
    assert text.endswith("5 clusters of items are too few for a finding.")


def test_layers_need_the_test_and_the_interval() -> None:
    shifts = pd.DataFrame(
        {"direction": "morality", "layer": [0, 1, 2], "low": [0.1, -0.1, 0.1], "high": [0.3] * 3}
    )
    values = np.array([[1.0, 1.1, 0.9, 1.2] * 2, [1.0] * 8, [1.0, -1.0] * 4])
    assert "excludes zero: 0." in readings.read_layers(
        shifts, sign_flip_max_t(values, range(8), seed=0)
    )
    few = sign_flip_max_t(values[:, :1], range(1), seed=0)
    assert readings.read_layers(shifts, few).startswith("At no layer")


def bias(letters: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "condition": "clean",
            "position": list("ab"),
            "chosen": [0.6, 0.4],
            "letter chosen": letters,
        }
    )


def test_positions_compare_with_an_even_spread() -> None:
    text = readings.read_positions(bias([0.1, 0.9]), 0.5)
    assert "“(b)” in 90% of the prompts" in text
    assert "near 50%" in text
    assert "Spearman 0.50" in text
    text = readings.read_positions(bias([NAN, NAN]), NAN)
    assert "no single token tells the letters apart" in text
    assert "too few items" in text
    assert "nan" not in text


def test_no_head_is_named_where_the_placebo_gets_more() -> None:
    less, more = np.full((2, 2), 0.1), np.array([[0.1, 0.1], [0.1, 0.4]])
    text, layer = readings.read_attention_mass(more, less, 1)
    assert "L1H1: 40% of their attention" in text
    assert layer == 1
    assert "No head" in readings.read_attention_mass(less, more, 1)[0]
    assert "For the revealing prompt it is L" in readings.read_control_attention(more, less)
    assert "Not even the revealing" in readings.read_control_attention(less, more)


def scored(**columns: list[object]) -> SimpleNamespace:
    return SimpleNamespace(frame=pd.DataFrame(columns))


def test_a_mismatch_in_tokens_is_told() -> None:
    assert readings.read_matching(scored(mismatch=[NAN, 0.0])) == "the same number of tokens"
    text = readings.read_matching(scored(mismatch=[NAN, 0.0, -3.0, 1.0]))
    assert "1.3 on average and by 3 at most" in text


def test_items_without_a_margin_are_counted() -> None:
    assert readings.read_margins(scored(item=["a", "b"], margin=[1.0, 2.0])) == ""
    text = readings.read_margins(scored(item=["a", "a", "b"], margin=[1.0, NAN, 2.0]))
    assert "1 of 2 items have no margin" in text
