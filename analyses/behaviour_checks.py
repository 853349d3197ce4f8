"""What the behaviour study refuses before anything is computed, each in one line.

:func:`require_asked` needs no model: conditions, options that would have nothing to act on, slots
that an item cannot fill. :func:`require_texts` needs a tokenizer and the length of the context.

    kinds = {"choice": choices, "completion": completions}
    require_asked(config, specs, kinds, feedback)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from analyses.behaviour_asked import is_single_prompt
from analyses.conditions import require_filled, texts_of
from interp.behaviour.protocol import Item, Task
from interp.data import ChoiceItem
from interp.errors import InterpError, did_you_mean
from interp.prompts import ConditionSpec, TextBank

if TYPE_CHECKING:
    from analyses.behaviour import BehaviourConfig

Specs: TypeAlias = Mapping[str, ConditionSpec]
Kinds: TypeAlias = Mapping[Task, Sequence[Item]]
"""Items by what is asked of them: both tasks, the items of one may be none."""


def require_asked(
    config: BehaviourConfig, specs: Specs, kinds: Kinds, feedback: Mapping[str, str] | None
) -> None:
    """Refuse what can be seen to fail, or to do nothing, without a model.

    Raises:
        InterpError: a condition that does not exist, fits none of the items or (``placebo``) has
            nothing to be matched with; items that no condition asks; an option without items it
            could act on; completions with equal ids; a slot that an item cannot fill.
    """
    tasks = [task for task, items in kinds.items() if items]
    _require_conditions(specs, config.conditions, tasks)
    for task in tasks:
        _require_something(config, specs, task)
    _require_options(config, kinds)
    _require_told_apart(kinds)
    _require_filled(config, specs, kinds, feedback)


def require_texts(bank: TextBank, config: BehaviourConfig, kinds: Kinds) -> None:
    """Refuse a text beyond the context or without a placebo, as the first item of a kind fills it.

    Raises:
        InterpError: names condition and text.
    """
    for name, _, items in _fitting(config, bank.specs, kinds):
        texts = bank.texts(name, items[0], min(_n_texts(config), bank.n_texts(name)))
        if "placebo" in config.conditions and bank.specs[name].has_placebo:
            bank.placebos(texts)


def _require_conditions(specs: Specs, names: Sequence[str], tasks: Sequence[Task]) -> None:
    for name in names:
        if name not in specs:
            raise InterpError(f"no condition {name!r}: {did_you_mean(name, specs)}")
        if specs[name].items not in ("any", *tasks):
            raise InterpError(
                f"condition {name!r} is for {specs[name].items} items, and there are none among "
                "the items: leave it out, or add such items"
            )
    if "placebo" in names and not any(specs[name].has_control for name in names):
        raise InterpError(
            "condition 'placebo' has nothing to be matched with: add an instruction, such as "
            "'instructed'"
        )


def _require_something(config: BehaviourConfig, specs: Specs, task: Task) -> None:
    fitting = [name for name in config.conditions if specs[name].items in ("any", task)]
    alone = task == "choice" and any(is_single_prompt(specs[name]) for name in fitting)
    again = config.rounds > 0 and bool(set(fitting) - {"clean", "placebo"})
    if not (alone or again):
        raise InterpError(
            f"nothing would be asked of the {task} items under {', '.join(config.conditions)} over "
            f"{config.rounds} rounds: add an instruction for them, or a round, or leave them out"
        )


def _require_options(config: BehaviourConfig, kinds: Kinds) -> None:
    for name, value in (("scorer", config.scorer), ("samples", config.samples)):
        if value and not kinds["completion"]:
            raise InterpError(
                f"{name} is {value!r} and there is nothing to complete: leave it out, or add "
                "completion items such as 'rtp-993'"
            )
    for item in kinds["choice"]:
        if (
            isinstance(item, ChoiceItem)
            and config.rounds
            and config.round_orders > len(item.choices)
        ):
            raise InterpError(
                f"round_orders is {config.round_orders}: item {item.id!r} has "
                f"{len(item.choices)} options, and so as many cyclic orders"
            )


def _require_told_apart(kinds: Kinds) -> None:
    """Choice items are checked when they are loaded."""
    for name, n in Counter(item.id for item in kinds["completion"]).items():
        if n > 1:
            raise InterpError(f"completion item {name!r} comes {n} times; name each set once")


def _require_filled(
    config: BehaviourConfig, specs: Specs, kinds: Kinds, feedback: Mapping[str, str] | None
) -> None:
    for name, task, items in _fitting(config, specs, kinds):
        spec = specs[name]
        texts = texts_of(spec)[: _n_texts(config)]
        if config.rounds:
            texts += [call.asks for call in spec.calls if call.asks]
        if config.rounds > 1:
            texts += spec.reasks(task)
        for item in items:
            for text in texts:
                require_filled(spec, text, item, feedback)


def _fitting(
    config: BehaviourConfig, specs: Specs, kinds: Kinds
) -> Iterator[tuple[str, Task, Sequence[Item]]]:
    """Every condition with the items it is for."""
    for name in config.conditions:
        for task, items in kinds.items():
            if items and specs[name].items in ("any", task):
                yield name, task, items


def _n_texts(config: BehaviourConfig) -> int:
    """How many texts of a condition are used at most."""
    return max(config.texts, config.round_texts)
