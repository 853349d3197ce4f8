"""What the behaviour study refuses before it begins: one line each, most of them without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyses.behaviour.asked import BehaviourAsked, require_asked, require_texts
from analyses.behaviour.config import BehaviourConfig
from interp.data.bundle import bundled_choices, bundled_completions
from interp.errors import InterpError
from interp.prompts import TextBank, load_conditions

CHOICES, COMPLETIONS = bundled_choices()[:2], bundled_completions()[:2]


def check(
    *conditions: str,
    items: str = "choice",
    specs: Any = None,
    feedback: Any = None,
    **options: Any,
) -> None:
    known = {
        "choices": CHOICES if "choice" in items else (),
        "completions": COMPLETIONS if "completion" in items else (),
    }
    given = {name: options.pop(name, found) for name, found in known.items()}
    config = BehaviourConfig(**{"conditions": conditions, "texts": 2, "rounds": 1, **options})
    require_asked(asked(config, specs or load_conditions(), feedback=feedback, **given))


def asked(config: BehaviourConfig, specs: Any, **values: Any) -> BehaviourAsked:
    rest = {"choices": (), "completions": (), "feedback": None, "data_hashes": {}}
    return BehaviourAsked(config=config, specs=specs, **{**rest, **values})


@pytest.mark.parametrize(
    "asks",
    [
        {"conditions": ("clean",), "rounds": 0},
        {"conditions": ("clean", "instructed", "placebo", "revealing", "specificity_0")},
        {"conditions": ("chain_of_thought", "placebo")},
        {"conditions": ("nontoxic", "placebo"), "items": "completion", "scorer": "offline"},
        {"conditions": ("clean", "nontoxic"), "items": "choice completion", "samples": 3},
        {"conditions": ("specificity_0",), "round_orders": 3},
        {"conditions": ("instructed",), "round_orders": 7, "rounds": 0},
        {"conditions": ("feedback",), "feedback": {item.id: "Look." for item in CHOICES}},
    ],
)
def test_what_can_be_asked_passes(asks: dict[str, Any]) -> None:
    check(*asks["conditions"], **{name: x for name, x in asks.items() if name != "conditions"})


@pytest.mark.parametrize(
    ("conditions", "options", "complaint"),
    [
        (["instrukted"], {}, "no condition 'instrukted': did you mean 'instructed'"),
        (["nontoxic"], {}, "'nontoxic' is for completion items, and there are none"),
        (["revealing"], {"items": "completion"}, "'revealing' is for choice items, and there are"),
        (["placebo"], {}, "'placebo' has nothing to be matched with"),
        (["clean", "specificity_0", "placebo"], {}, "'placebo' has nothing to be matched with"),
        (["clean"], {"items": "completion"}, "nothing would be asked of the completion items"),
        (["instructed"], {"items": "completion", "rounds": 0}, "over 0 rounds: add an instruction"),
        (["specificity_0"], {"rounds": 0}, "nothing would be asked of the choice items"),
        (["nontoxic", "placebo"], {"items": "choice completion"}, "asked of the choice items"),
        (["instructed"], {"scorer": "offline"}, "scorer is 'offline' and there is nothing to comp"),
        (["instructed"], {"samples": 10}, "samples is 10 and there is nothing to complete"),
        (["instructed"], {"round_orders": 4}, "round_orders is 4: item .* has 3 options"),
        (["feedback"], {}, "condition 'feedback': the slot {feedback} needs a file of feedback"),
        (
            ["feedback"],
            {"feedback": {CHOICES[0].id: "Look."}},
            f"condition 'feedback': item '{CHOICES[1].id}' has no feedback",
        ),
        (["match_statistics_told"], {}, "condition 'match_statistics_told': item .* has no labour"),
    ],
)
def test_what_would_fail_or_do_nothing_is_refused_in_one_line(
    conditions: list[str], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InterpError, match=complaint) as caught:
        check(*conditions, **options)
    assert "\n" not in str(caught.value)


def test_completions_with_equal_ids_are_refused() -> None:
    twice = (*COMPLETIONS, COMPLETIONS[0])
    with pytest.raises(InterpError, match="'completion-01' comes 2 times; name each set once"):
        check("nontoxic", choices=(), completions=twice)


def test_only_texts_that_will_be_used_have_to_be_filled(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "told:\n  description: d\n  texts: [Take care., 'Note: {feedback}']\n"
        "  reask: ['Again: {statistic}']\n"
    )
    specs = load_conditions(path)
    check("told", specs=specs, texts=1)
    with pytest.raises(InterpError, match=r"slot \{feedback\}"):
        check("told", specs=specs, texts=2)
    with pytest.raises(InterpError, match=r"slot \{feedback\}"):
        check("told", specs=specs, texts=1, round_texts=2)
    with pytest.raises(InterpError, match=r"slot \{statistic\}"):
        check("told", specs=specs, texts=1, rounds=2)


def longest(n: int, tmp_path: Path) -> Any:
    path = tmp_path / "long.yaml"
    path.write_text(f"long:\n  description: d\n  texts: ['{'word ' * n}']\n")
    return load_conditions(path)


def test_a_text_beyond_the_context_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    specs = longest(200, tmp_path)
    bank = TextBank(tokenizer, conditions=specs, n_ctx=256)
    config = BehaviourConfig(conditions=("clean", "long"), texts=9)
    with pytest.raises(InterpError, match=r"condition 'long': text 'long-01' has \d+ tokens"):
        require_texts(bank, asked(config, specs, choices=CHOICES))
    clean = replace_conditions(config, "clean")
    require_texts(bank, asked(clean, specs, choices=CHOICES, completions=COMPLETIONS))


def test_a_text_without_a_placebo_near_enough_is_refused_where_placebos_are_named(
    tokenizer: Any, tmp_path: Path
) -> None:
    specs = longest(3000, tmp_path)
    bank = TextBank(tokenizer, conditions=specs, require_match=2)
    config = BehaviourConfig(conditions=("long", "placebo"), require_match=2)
    with pytest.raises(InterpError, match="no placebo for 'long-01' of condition 'long'"):
        require_texts(bank, asked(config, specs, choices=CHOICES))
    require_texts(bank, asked(replace_conditions(config, "long"), specs, choices=CHOICES))


def replace_conditions(config: BehaviourConfig, *names: str) -> BehaviourConfig:
    return config.model_copy(update={"conditions": names})


def test_an_item_of_two_options_has_two_orders() -> None:
    two = replace(CHOICES[0], choices=CHOICES[0].choices[:2], gold=0)
    choices = (CHOICES[1], two)
    check("instructed", choices=choices, round_orders=2)
    with pytest.raises(InterpError, match="has 2 options, and so as many cyclic orders"):
        check("instructed", choices=choices, round_orders=3)
