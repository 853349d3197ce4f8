"""One rule for what a report may say."""

from __future__ import annotations

import pytest

from analyses.report import verdicts
from analyses.report.prose import count, number_ranges
from interp.stats import Interval

NAN = float("nan")
UP = Interval(0.5, 0.2, 0.8, 10, 10)
DOWN = Interval(-0.5, -0.8, -0.2, 10, 10)


@pytest.mark.parametrize(
    ("effect", "p", "said"),
    [
        (UP, NAN, "raises the margin by 0.50 [0.20, 0.80] nats."),
        (DOWN, 0.01, "lowers the margin by -0.50 [-0.80, -0.20] nats."),
        (
            UP,
            0.3,
            "changes the margin by 0.50 [0.20, 0.80] nats: the interval excludes 0, but word",
        ),
        (Interval(0.1, -0.2, 0.4, 10, 10), NAN, "contains 0, so no effect is shown."),
        (Interval(0.1, -0.2, 0.4, 10, 10), 0.001, "contains 0, so no effect is shown."),
        (Interval(0.5, 0.2, 0.8, 10, 4), NAN, "4 clusters of items are too few for a finding."),
        (Interval(0.5, NAN, NAN, 10, 1, reason="one cluster"), NAN, "one cluster, so this is no f"),
        (Interval(NAN, NAN, NAN, 0, 0, reason="none"), NAN, "has no effect that could be measured"),
    ],
)
def test_an_effect_is_said_of_findings_alone(effect: Interval, p: float, said: str) -> None:
    text = verdicts.read_effect("The instruction", effect, p)
    assert said in text
    assert verdicts.is_finding(effect, p) == ("raises" in text or "lowers" in text)


def test_the_sample_stands_behind_the_number() -> None:
    text = verdicts.read_effect("It", UP, sample=["10 items", "", "p = 0.010"])
    assert text == "It raises the margin by 0.50 [0.20, 0.80] nats (10 items, p = 0.010)."


@pytest.mark.parametrize(
    ("effect", "said", "works"),
    [
        (UP, "works: naming the answer raises the margin by 0.50", True),
        (DOWN, "fails: naming the answer moves the margin by -0.50", False),
        (Interval(0.1, -0.2, 0.4, 10, 10), "fails: naming the answer moves", False),
        (Interval(0.5, 0.2, 0.8, 10, 4), "cannot be judged: 0.50 [0.20, 0.80] nats, 4 clus", False),
        (Interval(0.5, NAN, NAN, 1, 1, reason="one cluster"), "cannot be judged", False),
    ],
)
def test_the_control_works_where_it_raises(effect: Interval, said: str, works: bool) -> None:
    text = verdicts.read_control(effect)
    assert said in text
    assert verdicts.control_works(effect) is works
    assert ("a null says nothing" in text) is not works


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "With 1 wording a side the numbers speak of this sentence"), (5, "of these sentences")],
)
def test_few_wordings_are_a_caveat(n: int, said: str) -> None:
    assert said in verdicts.wordings_caveat(n)
    assert verdicts.wordings_caveat(6) == ""


@pytest.mark.parametrize(("p", "said"), [(NAN, ""), (0.031, "p = 0.031"), (1e-5, "p < 0.001")])
def test_p_is_spelt(p: float, said: str) -> None:
    assert verdicts.p_of(p) == said


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([], "none"), ([0, 2, 3, 4, 6], "0, 2-4, 6"), ([2, 1], "1-2")],
)
def test_numbers_are_spelt_as_ranges(numbers: list[int], said: str) -> None:
    assert number_ranges(numbers) == said
    assert count(1, "item") == "1 item"
    assert count(0, "item") == "0 items"
