from __future__ import annotations

from interp.errors import InterpError, did_you_mean


def test_user_error_is_a_value_error() -> None:
    assert issubclass(InterpError, ValueError)


def test_similar_names_are_offered_whatever_the_case() -> None:
    assert did_you_mean("AGEE", ["Age", "Pets"]) == "did you mean 'Age'?"
    assert did_you_mean("bpq", ["bbq", "winobias"]) == "did you mean 'bbq'?"


def test_names_that_begin_so_are_offered_however_long_they_are() -> None:
    known = ["small-model-of-some-kind", "small-other", "smell"]
    assert did_you_mean("small", known) == (
        "did you mean 'small-model-of-some-kind' or 'small-other'?"
    )


def test_all_names_are_listed_when_none_is_close() -> None:
    assert did_you_mean("xyzzy", ["bbq", "Age"]) == "known: bbq, Age"
    assert did_you_mean("", ["bbq", "Age"]) == "known: bbq, Age"
