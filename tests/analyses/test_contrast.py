"""Which conditions ``patch``, ``lens`` and ``project`` refuse, each in one line and without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analyses.contrast import (
    by_name,
    control_texts,
    prompt_hashes,
    require_contrast,
    standing,
)
from analyses.registry import load_config_class, load_study
from interp.data.bundle import bundled_choices
from interp.errors import InterpError
from interp.prompts import ConditionSpec, TextBank, load_conditions

ITEMS = bundled_choices()[:2]
MINE = """
careful: {description: d, texts: [Please take care., Please be careful.]}
bare: {description: d, texts: [Please take care.], control: none}
told: {description: d, texts: [Please take care., "A note: {feedback}"]}
spoken: {description: d, texts: [Please take care.], turn: system}
early: {description: d, texts: [Please take care.], placement: before}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(MINE)
    return path


@pytest.fixture
def specs(mine: Path) -> Mapping[str, ConditionSpec]:
    return load_conditions(mine)


@pytest.mark.parametrize(
    ("name", "n_texts"),
    [("instructed", 15), ("negated", 1), ("careful", 2), ("told", 1), ("verdict_true", 2),
     ("specificity_2", 6), ("spoken", 1)],
)  # fmt: skip
def test_what_can_be_contrasted_passes(
    specs: Mapping[str, ConditionSpec], name: str, n_texts: int
) -> None:
    require_contrast(specs, name, ITEMS, n_texts=n_texts)


REFUSED = [
    ("carefull", 1, "--condition 'carefull': no such condition.*did you mean 'careful'"),
    ("clean", 1, "'clean' adds no text to a single prompt: name one that does"),
    ("specificity_0", 1, "'specificity_0' adds no text"),
    ("placebo", 1, "'placebo' is what the others are contrasted with: name one of them"),
    ("revealing", 1, "'revealing' is the positive control, .*name another"),
    ("chain_of_thought", 1, "takes 2 calls of the model .*: ask it with interp behave"),
    ("critique", 1, "takes 3 calls of the model"),
    ("nontoxic", 1, "is for completion items, and these are choice items: ask it with interp beh"),
    ("feedback", 1, "needs feedback on every item, which interp behave alone reads"),
    ("told", 2, "'told' needs feedback on every item"),
    ("match_statistics_told", 1, "'match_statistics_told': item .* has no labour .* winogender"),
    ("bare", 1, r"'bare' has no placebos .*\(control: none\): leave that field out"),
]


@pytest.mark.parametrize(("name", "n_texts", "message"), REFUSED)
@pytest.mark.parametrize("study", ["lens", "project"])
def test_what_cannot_be_contrasted_is_refused_in_one_line_without_a_model(
    study: str, name: str, n_texts: int, message: str, mine: Path
) -> None:
    config = load_config_class(study)(
        items="bundled", limit=2, condition=name, condition_file=mine, texts=n_texts
    )
    with pytest.raises(InterpError, match=message) as error:
        load_study(study).ask(config, progress=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "there"), [("careful", 2), ("early", 1), ("instructed", 6)])
@pytest.mark.parametrize("study", ["lens", "project", "patch", "attention", "circuit"])
def test_as_many_wordings_are_asked_as_there_are(
    study: str, name: str, there: int, mine: Path
) -> None:
    config = load_config_class(study)(
        items="bundled", limit=2, condition=name, condition_file=mine, texts=6
    )
    assert load_study(study).ask(config, progress=False).config.texts == there


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("texts: [Pick {answer}.], control: none", "'revealing' has no placebos"),
        ("items: choice", "'revealing' adds no text"),
        ("items: completion, texts: [a]", "'revealing' is for completion items"),
    ],
)
def test_a_control_of_ones_own_has_to_be_one(tmp_path: Path, fields: str, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"revealing: {{description: d, replaces: true, {fields}}}\n".replace(
        "[Pick {answer}.]", "['Pick {answer}.']"
    ))  # fmt: skip
    with pytest.raises(InterpError, match=message):
        require_contrast(load_conditions(path), "instructed", ITEMS, n_texts=6)


def test_the_control_stands_where_the_condition_stands(
    tokenizer: Any, specs: Mapping[str, ConditionSpec]
) -> None:
    bank = TextBank(tokenizer, conditions=specs)
    usual = bank.texts("revealing", ITEMS[0], 1)
    assert control_texts(bank, ITEMS[0], beside="instructed", n_texts=1) == usual
    for name, place in (("spoken", (None, "system")), ("early", ("before", None))):
        (text,) = control_texts(bank, ITEMS[0], beside=name, n_texts=1)
        assert (text.placement, text.turn) == place
        assert text.text == usual[0].text
        assert bank.placebos([text])[0].turn == place[1]
    known = bank.n_texts("revealing")
    assert len(control_texts(bank, ITEMS[0], beside="instructed", n_texts=99)) == known


def test_where_it_stands_and_what_it_is_called_are_told(
    specs: Mapping[str, ConditionSpec],
) -> None:
    assert standing(specs["careful"]) == "after the question"
    assert standing(specs["careful"], "before") == "before the question"
    assert standing(specs["early"], "after") == "before the question"
    assert standing(specs["spoken"], "before") == "in the system turn"
    assert [by_name(name) for name in ("instructed", "careful")] == ["", " “careful”"]


def test_the_hashes_of_prompts_follow_the_registry_where_one_is_given(
    specs: Mapping[str, ConditionSpec],
) -> None:
    assert "conditions" not in prompt_hashes(ITEMS)
    bundled, extended = (prompt_hashes(ITEMS, s) for s in (load_conditions(), specs))
    assert bundled["conditions"] != extended["conditions"]
    assert {**bundled, "conditions": ""} == {**extended, "conditions": ""}
