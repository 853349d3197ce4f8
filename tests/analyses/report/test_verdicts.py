"""What a verdict allows to be said: verbs of effect are for effects alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analyses.report import verdicts
from analyses.report.claims import Claim
from analyses.report.prose import count, number_ranges
from interp.stats import Interval

NAN = float("nan")
UP = Interval(0.5, 0.2, 0.8, 10, 10)
DOWN = Interval(-0.5, -0.8, -0.2, 10, 10)
NULL = Interval(0.1, -0.2, 0.4, 10, 10)
VERBS = ("raises", "lowers", "moves", "works", "acts")


@pytest.mark.parametrize(
    ("effect", "p", "said"),
    [
        (UP, NAN, "raises the margin by 0.50 [0.20, 0.80] nats."),
        (DOWN, 0.01, "lowers the margin by -0.50 [-0.80, -0.20] nats."),
        (UP, 0.3, "a difference of 0.50 [0.20, 0.80] nats in the margin; undetermined"),
        (NULL, NAN, "undetermined, the half-width is ±0.3."),
        (NULL, 0.001, "undetermined, the half-width is ±0.3."),
        (Interval(0.5, 0.2, 0.8, 10, 4), NAN, "too few clusters, 4 of items where 6 are needed."),
        (Interval(0.5, 0.2, 0.8, 10, 9, texts=(2, 2)), NAN, "too few wordings, 2 wordings a side"),
        (Interval(0.5, NAN, NAN, 10, 1, reason="one cluster"), NAN, "needed (one cluster)."),
        (Interval(NAN, NAN, NAN, 0, 0, reason="none"), NAN, "has no effect that could be measured"),
    ],
)
def test_an_effect_is_said_of_effects_alone(effect: Interval, p: float, said: str) -> None:
    text = verdicts.read_effect("The instruction", Claim(effect, p))
    assert said in text
    assert verdicts.is_finding(effect, p) == any(verb in text for verb in VERBS)


def test_the_sample_stands_behind_the_number() -> None:
    text = verdicts.read_effect("It", Claim(UP), sample=["10 items", "", "p = 0.010"])
    assert text == "It raises the margin by 0.50 [0.20, 0.80] nats (10 items, p = 0.010)."


@pytest.mark.parametrize(
    ("effect", "said", "works"),
    [
        (UP, "works: naming the answer raises the margin by 0.50", True),
        (DOWN, "fails: naming the answer lowers the margin by -0.50", False),
        (NULL, "is not judged: 0.10 [-0.20, 0.40] nats; undetermined", False),
        (Interval(0.5, 0.2, 0.8, 10, 4), "is not judged: 0.50 [0.20, 0.80] nats; too few clu", False),
        (Interval(NAN, NAN, NAN, 0, 0, reason="no item"), "was not measured: no item", False),
    ],
)  # fmt: skip
def test_the_control_works_where_it_raises(effect: Interval, said: str, works: bool) -> None:
    claim = Claim(effect)
    text = verdicts.read_control(claim)
    assert said in text
    assert verdicts.control_works(claim) is works
    assert ("a null says nothing" in text) is (not works and effect.estimate == effect.estimate)


def test_the_arms_of_the_control_say_what_a_null_may_mean() -> None:
    arms = {"revealing": Claim(UP), "mentions": Claim(UP), "paraphrases": Claim(NULL)}
    text = " ".join(verdicts.read_control_arms(arms))
    assert "Mentioning the option's words without asking for it raises" in text
    assert "a null of the instruction says nothing about moral instructions in particular" in text
    text = " ".join(verdicts.read_control_arms({**arms, "paraphrases": Claim(UP)}))
    assert "the model follows a request that cannot be copied" in text
    text = " ".join(verdicts.read_control_arms({"revealing": Claim(UP)}))
    assert "was not run" in text
    assert verdicts.read_control_arms({}) == []


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


@pytest.mark.parametrize(
    "say",
    [
        lambda claim: verdicts.read_effect("It", claim),
        lambda claim: verdicts.read_control(claim),
        lambda claim: verdicts.judge(claim, above="raises it", below="lowers it"),
    ],
)
@pytest.mark.parametrize(
    "changes",
    [{"texts": (5, 6)}, {"n_clusters": 5}, {"low": -0.1}],
)
def test_no_verb_of_effect_is_said_below_the_rule(
    say: Callable[[Claim], str], changes: dict[str, Any]
) -> None:
    fields = {"estimate": 0.5, "low": 0.2, "high": 0.8, "n": 10, "n_clusters": 10} | changes
    text = say(Claim(Interval(**fields)))
    assert not any(f"{verb} " in text for verb in VERBS)
