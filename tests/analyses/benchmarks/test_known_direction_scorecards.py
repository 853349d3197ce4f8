"""Rule 5 on trained models, whose direction is learned from labelled sentences."""

from __future__ import annotations

import pytest

from analyses.benchmarks.known.card_directions import statements_of_judges
from analyses.benchmarks.known.direction_scorecards import cards_of, direction_truth, scored
from interp.known import load_trained
from interp.known.arms import ARMS
from interp.known.task import CONTENTS
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import R_IN


def test_what_rule_5_ought_to_say_follows_from_the_arm() -> None:
    found = {name: direction_truth(name) for name in ARMS}
    assert found["deep"] == found["distributed"] == "deep (direction)"
    assert found["superficial"] == found["dormant_path"] == "superficial (direction)"
    assert found["wrong_direction"] == "instrument not valid"
    assert found["rank_4"] == found["mixture_50"] == found["self_repairing"] == "mixed"


def test_statements_are_pairs_that_a_judge_answers_differently() -> None:
    model, task = load_trained("deep", 1)
    found = statements_of_judges(model, task, CONTENTS[:8])
    for biased, fair in zip(found[::2], found[1::2], strict=True):
        assert (biased.fair, fair.fair) == (False, True)
        assert biased.item == fair.item
        assert biased.cluster != fair.cluster
        assert biased.ids[3:].tolist() == fair.ids[3:].tolist()


@pytest.mark.slow
def test_a_direction_of_wrong_labels_is_no_instrument() -> None:
    found = scored("wrong_direction", cards_of("wrong_direction", [1])).iloc[0]
    assert found["verdict"] == found["by_contrasts"] == found["truth"] == "instrument not valid"
    assert found[INSTRUMENT] < 0.7


@pytest.mark.slow
def test_a_stored_concept_is_carried_along_its_direction_and_a_shifted_answer_is_not() -> None:
    deep, shifted = (scored(name, cards_of(name, [1])).iloc[0] for name in ("deep", "superficial"))
    assert deep[R_IN] == pytest.approx(1, abs=0.1)
    assert shifted[R_IN] < 0.35
    assert shifted["verdict"] != "deep (direction)"
