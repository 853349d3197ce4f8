from __future__ import annotations

import enum
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from interp.errors import InterpError
from interp.runs.canonical import canonical_json, differences, digest, summarise, to_json_values

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


class Mode(enum.Enum):
    FAST = "fast"


@dataclass(frozen=True)
class Inner:
    layer: int
    path: Path


class Config(BaseModel):
    model_config = ConfigDict(extra="allow")
    limit: int
    inner: Inner
    mode: Mode = Mode.FAST


def reversed_everywhere(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_everywhere(item) for key, item in reversed(value.items())}
    return [reversed_everywhere(item) for item in value] if isinstance(value, list) else value


def test_canonical_text_and_digest_have_known_values() -> None:
    assert (
        canonical_json({"b": 1, "a": (2, 3.5), "é": None}) == '{"a":[2,3.5],"b":1,"\\u00e9":null}'
    )
    assert digest([1]) == hashlib.sha256(b"[1]").hexdigest()


@given(values)
def test_canonical_text_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    assert canonical_json(reversed_everywhere(value)) == canonical_json(value)


@given(values)
def test_canonical_text_says_the_value_and_nothing_is_lost(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


@given(values, values)
def test_two_values_differ_exactly_if_their_canonical_texts_do(first: Any, second: Any) -> None:
    assert (canonical_json(first) == canonical_json(second)) == (differences(first, second) == [])


def test_numbers_of_different_kind_are_different_values() -> None:
    assert (
        len({canonical_json(1), canonical_json(1.0), canonical_json(True), canonical_json("1")})
        == 4
    )


def test_models_dataclasses_enums_paths_and_numpy_scalars_become_plain() -> None:
    config = Config(limit=3, inner=Inner(2, Path("a/b")), extra_field=[1])  # type: ignore[call-arg]
    assert to_json_values(config, "config") == {
        "limit": 3,
        "inner": {"layer": 2, "path": "a/b"},
        "mode": "fast",
        "extra_field": [1],
    }
    assert canonical_json([np.int64(3), np.float32(0.5), np.bool_(True)]) == "[3,0.5,true]"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(number: float) -> None:
    with pytest.raises(InterpError, match=r"^config\.steps\[1\]\.alpha is -?(nan|inf)"):
        to_json_values({"steps": [{}, {"alpha": number}]}, "config")


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", np.zeros(2), Inner])
def test_values_that_json_cannot_hold_are_refused_with_place_and_type(value: Any) -> None:
    with pytest.raises(InterpError, match=rf"^config\.x is a {type(value).__name__}, "):
        to_json_values({"x": value}, "config")


def test_keys_that_are_not_text_are_refused() -> None:
    with pytest.raises(InterpError, match=r"config\.layers has the key 3, which is not text"):
        to_json_values({"layers": {3: 0.5}}, "config")


def test_every_difference_is_named_with_both_values() -> None:
    before = {"config": {"limit": 48, "conditions": ["clean"], "old": None}, "seed": 0}
    now = {"config": {"limit": 60, "conditions": ["clean", "placebo"]}, "seed": 0}
    assert differences(before, now) == [
        "config.limit was 48, is now 60",
        "config.old was null, is now absent",
        'config.conditions[1] was absent, is now "placebo"',
    ]


def test_an_empty_dict_an_empty_list_and_a_dotted_key_are_told_apart() -> None:
    assert differences({"a": {}}, {"a": []}) == ["a was {}, is now []"]
    assert len(differences({"a.b": 1}, {"a": {"b": 1}})) == 2


def test_ignored_places_cover_what_is_below_them_and_no_namesakes() -> None:
    before = {"config": {"out": {"x": 1}, "outer": 1}}
    now = {"config": {"out": {"x": 2, "y": 3}, "outer": 2}}
    assert differences(before, now, ignore=["config.out"]) == ["config.outer was 1, is now 2"]


def test_a_long_value_is_shortened_to_both_ends() -> None:
    (line,) = differences({"a": "x" * 500 + "1"}, {"a": "x" * 500 + "2"})
    assert len(line) < 220
    assert 'xxx1", is now "xxx' in line
    assert line.endswith('xxx2"')


def test_a_summary_counts_what_it_does_not_show() -> None:
    assert summarise(["a", "b"]) == "a; b"
    assert summarise(list("abcdefg")) == "a; b; c; d; e; and 2 more"
