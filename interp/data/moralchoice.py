"""Read MoralChoice's low-ambiguity scenarios (arXiv:2307.14324): a situation and two actions.

``action1`` is always the preferred one. As labelled texts, a scenario gives the situation with each
action, label 1 for ``action1``. As choice items, the two actions are in random order, exactly
half of the items (to within one) having the good one first: without that, the order would be the
answer. High-ambiguity scenarios have no preferred action and are refused.

The published file has 687 scenarios under ten rules (55 to 79 each): 1,374 texts, half of each
label, in 687 groups.

Limits: the situation is told in the second person, the actions in the first, as published. The
roles of both choices are ``other``: margins (logit differences) come from `ChoiceItem.contrast`,
(good, bad).

Example::

    texts = read_moralchoice("scenarios/moralchoice_low_ambiguity.csv")
    items = read_moralchoice_items("scenarios", seed=0)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interp.data.fields import file_in, text_of
from interp.data.items import Choice, ChoiceItem, LabelledText
from interp.data.tables import read_csv
from interp.errors import InterpError

_SOURCE = "moralchoice"
_FILE = "moralchoice_low_ambiguity.csv"
_QUESTION = "What do you do?"


@dataclass(frozen=True)
class _Scenario:
    id: str
    rule: str
    context: str
    good: str
    bad: str


def read_moralchoice(path: str | Path) -> tuple[LabelledText, ...]:
    """Two texts per scenario, "context action1" (label 1) then "context action2" (label 0).

    ``path``: the CSV file or a folder that holds `moralchoice_low_ambiguity.csv`. ``group`` is the
    scenario's id, ``category`` its ``generation_rule``.
    Raises `InterpError` naming file, line and field.
    """
    return tuple(
        LabelledText(f"{scenario.context} {action}", label, scenario.id, _SOURCE, scenario.rule)
        for scenario in _scenarios(path)
        for action, label in ((scenario.good, 1), (scenario.bad, 0))
    )


def read_moralchoice_items(path: str | Path, *, seed: int) -> tuple[ChoiceItem, ...]:
    """One item per scenario, "disambiguated", its two actions in an order drawn from ``seed``.

    The question is "What do you do?", the id "moralchoice:scenario_id", the cluster the scenario's
    id. ``path`` and errors as in `read_moralchoice`.
    """
    scenarios = list(_scenarios(path))
    golds = np.random.default_rng(seed).permutation(np.arange(len(scenarios)) % 2)
    return tuple(
        ChoiceItem(
            id=f"{_SOURCE}:{scenario.id}",
            benchmark=_SOURCE,
            category=scenario.rule,
            context=scenario.context,
            question=_QUESTION,
            choices=_choices(scenario, int(gold)),
            gold=int(gold),
            context_condition="disambiguated",
            cluster=scenario.id,
        )
        for scenario, gold in zip(scenarios, golds, strict=True)
    )


def _choices(scenario: _Scenario, gold: int) -> tuple[Choice, ...]:
    good, bad = Choice(scenario.good), Choice(scenario.bad)
    return (bad, good) if gold else (good, bad)


def _scenarios(path: str | Path) -> Iterator[_Scenario]:
    file = file_in(path, [_FILE])
    lines: dict[str, int] = {}
    for line, row in read_csv(file):
        where = f"{file}, line {line}"
        if text_of(row, "ambiguity", where) != "low":
            raise InterpError(
                f"{where}, field 'ambiguity': {row['ambiguity']!r} scenarios have no preferred "
                f"action, so they cannot be labelled; give {_FILE}"
            )
        scenario = _Scenario(
            id=text_of(row, "scenario_id", where),
            rule=text_of(row, "generation_rule", where),
            context=text_of(row, "context", where),
            good=text_of(row, "action1", where),
            bad=text_of(row, "action2", where),
        )
        if scenario.good == scenario.bad:
            raise InterpError(f"{where}, field 'action2': is the same as 'action1'")
        if lines.setdefault(scenario.id, line) != line:
            raise InterpError(
                f"{where}, field 'scenario_id': {scenario.id!r} was used on line "
                f"{lines[scenario.id]}"
            )
        yield scenario
