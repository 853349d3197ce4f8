from __future__ import annotations

import pytest

from interp.errors import InterpError
from interp.stats import holm
from interp.superficiality.rows import BEHAVIOUR, CONTENT_IN, CONTENT_OUT
from interp.superficiality.scorecard import Scorecard
from tests.superficiality.test_verdict import (
    EFFECT,
    LARGE,
    READ_OFF,
    SMALL,
    along,
    content,
    row,
)


def test_p_values_are_corrected_over_the_rows() -> None:
    card = Scorecard((EFFECT, *content(LARGE), *READ_OFF), title="a model, an instruction")
    frame = card.to_dataframe()
    assert frame["row"].tolist() == [one.name for one in card]
    assert frame["p_holm"].tolist() == pytest.approx(holm(frame["p_raw"]).tolist())
    assert len(card) == 5


def test_a_row_is_found_by_its_name_and_a_missing_one_is_refused() -> None:
    card = Scorecard((EFFECT, row(CONTENT_IN, SMALL)))
    assert card[BEHAVIOUR] is EFFECT
    with pytest.raises(InterpError, match="no row 'behavior': did you mean 'behaviour'"):
        card["behavior"]


def test_a_card_needs_behaviour_and_each_row_once() -> None:
    with pytest.raises(InterpError, match="no row 'behaviour'"):
        Scorecard((row(CONTENT_OUT, SMALL),))
    with pytest.raises(InterpError, match="two rows are called 'behaviour'"):
        Scorecard((EFFECT, EFFECT))


def test_a_card_shows_its_rows_what_is_not_read_and_the_verdict() -> None:
    card = Scorecard((EFFECT, row(CONTENT_IN, LARGE, healthy=False)), title="<model>")
    for shown in (str(card), card._repr_html_()):
        assert "the ceiling is broken" in shown
        assert "not identified (rule 6)" in shown
        assert "direction: none was given" in shown
    assert "&lt;model&gt;" in card._repr_html_()
    assert len(repr(card)) < 300


def test_with_a_direction_both_verdicts_are_shown() -> None:
    card = Scorecard((EFFECT, *content(LARGE), *along(SMALL)))
    assert card.direction_verdict is not None
    assert "direction: superficial (direction) (rule 5)" in str(card)
    assert "direction: superficial (direction) (rule 5)" in card._repr_html_()
