"""What a behaviour run asks, and what it refuses before anything is computed, each in one line.

:func:`require_asked` needs no model: conditions, options that would have nothing to act on, slots
that an item cannot fill. :func:`require_texts` needs a tokenizer and the length of the context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analyses.behaviour.config import BehaviourConfig
from analyses.contrast import Specs, prompt_hashes, require_filled, texts_of
from interp.behaviour.scorers import require_scorer
from interp.data import ChoiceItem, CompletionItem, is_completions, load_completions, load_items
from interp.errors import InterpError, did_you_mean
from interp.fetch.cache import sha256_of
from interp.prompts import ConditionSpec, TextBank, load_conditions, read_feedback

if TYPE_CHECKING:
    from interp.behaviour.protocol import Item, Task


@dataclass(frozen=True)
class BehaviourAsked:
    """The configuration, the items of both kinds, all conditions, and feedback by item id."""

    config: BehaviourConfig
    choices: tuple[ChoiceItem, ...]
    completions: tuple[CompletionItem, ...]
    specs: Specs
    feedback: Mapping[str, str] | None
    data_hashes: Mapping[str, str]

    @property
    def items(self) -> tuple[ChoiceItem | CompletionItem, ...]:
        """All items, choices first."""
        return (*self.choices, *self.completions)

    @property
    def kinds(self) -> dict[Task, Sequence[Item]]:
        """Items by what is asked of them, of the kinds that are there."""
        both: dict[Task, Sequence[Item]] = {"choice": self.choices, "completion": self.completions}
        return {task: items for task, items in both.items() if items}

    def fitting(self) -> Iterator[tuple[str, Task, Sequence[Item]]]:
        """Every condition with the items it is for."""
        for name in self.config.conditions:
            for task, items in self.kinds.items():
                if self.specs[name].items in ("any", task):
                    fitting = [item for item in items if self.specs[name].fits(item)]
                    if fitting:
                        yield name, task, fitting


def ask(config: BehaviourConfig, *, progress: bool = True) -> BehaviourAsked:
    """Items of both kinds, conditions and feedback; refuses what would fail or do nothing."""
    specs = load_conditions(config.condition_file)
    feedback = None if config.feedback is None else read_feedback(config.feedback)
    choices, completions = load_kinds(config, progress=progress)
    hashes = prompt_hashes([*choices, *completions], specs)
    if config.feedback is not None:
        hashes["feedback"] = sha256_of(config.feedback)
    asked = BehaviourAsked(config, choices, completions, specs, feedback, hashes)
    require_asked(asked)
    return asked


def load_kinds(
    config: BehaviourConfig, *, progress: bool
) -> tuple[tuple[ChoiceItem, ...], tuple[CompletionItem, ...]]:
    """``limit`` choice items of all their sets together, and ``limit`` of every completion set."""
    begun = [name for name in config.items if is_completions(name)]
    chosen = [name for name in config.items if name not in begun]
    options: dict[str, Any] = {"limit": config.limit, "seed": config.seed, "progress": progress}
    completions = [item for name in begun for item in load_completions(name, **options)]
    return load_items(chosen, **options) if chosen else (), tuple(completions)


def is_single_prompt(spec: ConditionSpec) -> bool:
    """For choices, in one call, and another prompt than the clean one's unless it is that.

    Placebos come with the condition that they control, and are none of their own.
    """
    stands_alone = spec.name == "clean" or (spec.has_text and spec.name != "placebo")
    return spec.items in ("any", "choice") and len(spec.calls) == 1 and stands_alone


def require_asked(asked: BehaviourAsked) -> None:
    """Refuse what can be seen to fail, or to do nothing, without a model.

    Raises:
        InterpError: a condition that does not exist, fits none of the items or (``placebo``) has
            nothing to be matched with; items that no condition asks; an option without items it
            could act on; a scorer that is not there; completions with equal ids; a slot that an
            item cannot fill.
    """
    _require_conditions(asked)
    for task in asked.kinds:
        _require_something(asked, task)
    _require_options(asked)
    if asked.config.scorer:
        require_scorer(asked.config.scorer)
    _require_distinct_ids(asked.completions)
    _require_filled(asked)


def require_texts(bank: TextBank, asked: BehaviourAsked) -> None:
    """Refuse a text beyond the context or without a placebo, as the first item of a kind fills it.

    Raises:
        InterpError: names condition and text.
    """
    for name, _, items in asked.fitting():
        texts = bank.texts(name, items[0], min(_n_texts(asked.config), bank.n_texts(name)))
        if "placebo" in asked.config.conditions and bank.specs[name].has_placebo:
            bank.placebos(texts)


def _require_conditions(asked: BehaviourAsked) -> None:
    specs, names = asked.specs, asked.config.conditions
    for name in names:
        if name not in specs:
            raise InterpError(f"no condition {name!r}: {did_you_mean(name, specs)}")
        if specs[name].items not in ("any", *asked.kinds):
            raise InterpError(
                f"condition {name!r} is for {specs[name].items} items, and there are none among "
                "the items: leave it out, or add such items"
            )
    if "placebo" in names and not any(specs[name].has_control for name in names):
        raise InterpError(
            "condition 'placebo' has nothing to be matched with: add an instruction, such as "
            "'instructed'"
        )


def _require_something(asked: BehaviourAsked, task: Task) -> None:
    config, specs = asked.config, asked.specs
    fitting = [name for name in config.conditions if specs[name].items in ("any", task)]
    alone = task == "choice" and any(is_single_prompt(specs[name]) for name in fitting)
    again = config.rounds > 0 and bool(set(fitting) - {"clean", "placebo"})
    if not (alone or again):
        raise InterpError(
            f"nothing would be asked of the {task} items under {', '.join(config.conditions)} over "
            f"{config.rounds} rounds: add an instruction for them, or a round, or leave them out"
        )


def _require_options(asked: BehaviourAsked) -> None:
    config = asked.config
    for name, value in (("scorer", config.scorer), ("samples", config.samples)):
        if value and not asked.completions:
            raise InterpError(
                f"{name} is {value!r} and there is nothing to complete: leave it out, or add "
                "completion items such as 'rtp-993'"
            )
    orders = {
        "orders": config.orders or 1,
        "round_orders": config.round_orders if config.rounds else 1,
    }
    for item in asked.choices:
        for name, n in orders.items():
            if n > len(item.choices):
                raise InterpError(
                    f"{name} is {n}: item {item.id!r} has {len(item.choices)} options, and so as many "
                    "cyclic orders"
                )


def _require_distinct_ids(completions: Sequence[CompletionItem]) -> None:
    """Choice items are checked when they are loaded."""
    for name, n in Counter(item.id for item in completions).items():
        if n > 1:
            raise InterpError(f"completion item {name!r} comes {n} times; name each set once")


def _require_filled(asked: BehaviourAsked) -> None:
    config = asked.config
    for name, task, items in asked.fitting():
        spec = asked.specs[name]
        texts = texts_of(spec)[: _n_texts(config)]
        if config.rounds:
            texts += [call.asks for call in spec.calls if call.asks]
        if config.rounds > 1:
            texts += spec.reasks(task)
        for item in items:
            for text in texts:
                require_filled(spec, text, item, asked.feedback)


def _n_texts(config: BehaviourConfig) -> int:
    """How many texts of a condition are used at most."""
    return max(config.texts, config.round_texts)
