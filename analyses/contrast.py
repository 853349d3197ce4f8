"""The condition that a study asks about, its placebo and the positive control.

``interp patch``, ``interp lens`` and ``interp project`` add one text to a choice item and read one
prompt against its placebo. Their configurations are
:class:`~analyses.config.ContrastConfig`'s, what they ask is a
:class:`Question`, what they compute with a :class:`PromptBench`. A condition that is more or less than
one text is refused here, in one line and without a model; so is a positive control (:data:`CONTROL`,
which a file may replace) that would not do. What depends on a tokenizer is left to the text bank.

    question = ask_contrast(config)
    bench = PromptBench.of(question, lab)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from analyses.config import INSTRUCTED, ContrastConfig
from analyses.study import Lab, Saved, Step
from interp.data import ChoiceItem, CompletionItem, LabelledText, dataset_hash, load_items
from interp.data.bundle import bundled_instructions
from interp.errors import InterpError, did_you_mean
from interp.prompts import (
    Condition,
    ConditionSpec,
    Placement,
    TextBank,
    condition_conversation,
    condition_texts,
    cyclic_orders,
    fill,
    load_conditions,
    prompts_digest,
)
from interp.prompts.conversation import CHOICE_SPANS
from interp.prompts.rendering import template_spans
from interp.prompts.slots import slots_in
from interp.runs import digest

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens.model_bridge import TransformerBridge

CONTROL = "revealing"
"""The condition of the positive control: it names the answer."""

CONTROL_ARMS = (CONTROL, "mentions", "paraphrases")
"""The control's arms: names the answer, mentions its words, asks for it without them."""

Specs = Mapping[str, ConditionSpec]


_Config = TypeVar("_Config", bound=ContrastConfig)


@dataclass(frozen=True)
class Question(Generic[_Config]):
    """What is asked: the configuration, the items, all conditions, and what the prompts are made of."""

    config: _Config
    items: tuple[ChoiceItem, ...]
    specs: Specs
    data_hashes: Mapping[str, str]

    @property
    def spec(self) -> ConditionSpec:
        """The condition asked about."""
        return self.specs[self.config.condition]


def ask_items(
    config: _Config, *, against: str | None = None, progress: bool = True
) -> Question[_Config]:
    """The items and conditions of a configuration, with as many wordings as there are.

    ``against``: what the condition is read against, where it has texts of its own.

    Raises:
        InterpError: items or a condition file that cannot be read.
    """
    specs = load_conditions(config.condition_file)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    require_one_data_set(items)
    names = [config.condition, *([] if against is None else [against])]
    texts = wordings_there(specs, names, config.texts)
    asked = config.model_copy(update={"texts": texts})
    return Question(asked, items, specs, prompt_hashes(items, specs))


def wordings_there(specs: Specs, names: Sequence[str], n_texts: int) -> int:
    """How many wordings are asked: at most ``n_texts``, and no more than each condition has.

    One rule for all studies: what there is is used, the report says how many, and fewer than six
    support no claim (:func:`analyses.report.verdicts.wordings_caveat`).
    """
    known = [len(texts_of(specs[name])) for name in names if name in specs and specs[name].has_text]
    return max(1, min([n_texts, *known]))


def require_one_data_set(items: Sequence[ChoiceItem]) -> None:
    """Refuse items of several data sets: their effects differ and are never pooled.

    Raises:
        InterpError: names the sets.
    """
    names = list(dict.fromkeys(item.benchmark for item in items))
    if len(names) > 1:
        raise InterpError(
            f"--items are of {len(names)} data sets ({', '.join(names)}), whose effects differ and are "
            "not pooled: run one of them at a time"
        )


def ask_contrast(config: _Config, *, progress: bool = True) -> Question[_Config]:
    """:func:`ask_items` of a condition that stands beside placebos and the positive control.

    Raises:
        InterpError: also as :func:`require_contrast`.
    """
    question = ask_items(config, progress=progress)
    require_contrast(question.specs, config.condition, question.items, n_texts=config.texts)
    return question


def prompt_hashes(
    items: Sequence[ChoiceItem | CompletionItem], conditions: Specs | None = None
) -> dict[str, str]:
    """Hashes of what prompts are made of: items, bundled instructions and a registry's conditions.

    They stand in the manifest, so a changed file of conditions does not resume a run.
    """
    texts = [LabelledText(t.text, 0, t.kind, t.id) for t in bundled_instructions()]
    hashes = {"items": dataset_hash(items), "bundled:instructions": dataset_hash(texts)}
    if conditions is None:
        return hashes
    registry = {name: spec.model_dump(mode="json") for name, spec in conditions.items()}
    return hashes | {"conditions": digest(registry)}


def digest_prompts(
    tokenizer: Any,
    item: ChoiceItem,
    conditions: Sequence[Condition],
    *,
    placement: Placement = "after",
    n_orders: int | None = 1,
) -> str:
    """What a unit's key holds of its prompts: SHA-256 over their rendered texts.

    So rows made of other prompts (another template or wording, other code that renders them) are
    never taken for this unit's. ``n_orders``: of the options, the first so many; None for all.
    """
    orders = cyclic_orders(len(item.choices))[:n_orders]
    return prompts_digest(
        tokenizer,
        [
            condition_conversation(item, condition, order=order, placement=placement)
            for order in orders
            for condition in conditions
        ],
    )


@dataclass(frozen=True)
class PromptBench(Generic[_Config]):
    """What prompts are made and run with.

    ``items`` are those that this model can be asked, ``arms`` the control's that stand beside the
    condition.
    """

    config: _Config
    model: TransformerBridge
    bank: TextBank
    items: tuple[ChoiceItem, ...]
    arms: tuple[str, ...]

    @classmethod
    def of(cls, question: Question[_Config], lab: Lab) -> PromptBench[_Config]:
        """The bench of a question in a lab."""
        model, config = lab.model, question.config
        bank = TextBank(
            model.tokenizer,
            conditions=question.specs,
            require_match=config.require_match,
            n_ctx=model.cfg.n_ctx,
            seed=config.seed,
        )
        arms = control_arms(question.specs, question.items, beside=config.condition)
        return cls(config, model, bank, question.items, arms)


def example_step(texts: Mapping[str, str]) -> Step:
    """The table ``example``: a text of each condition, for the report to quote."""
    return Step("example", [dict(texts)], key=lambda unit: unit, compute=_example_rows)


def _example_rows(bench: Any, unit: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd  # heavy: only when a run computes

    return pd.DataFrame({"condition": list(unit), "text": list(unit.values())})


def read_example(saved: Saved) -> dict[str, str]:
    """The text of each condition in the table ``example``."""
    table = saved.table("example")
    return dict(zip(table["condition"], table["text"], strict=True))


def require_contrast(specs: Specs, name: str, items: Sequence[ChoiceItem], *, n_texts: int) -> None:
    """Refuse a condition that cannot stand beside placebos and the positive control.

    Raises:
        InterpError: as :func:`require_prompts`; or the control itself, or a condition without
            placebos.
    """
    require_prompts(specs, name, items, n_texts=n_texts)
    if name == CONTROL:
        raise InterpError(
            f"condition {name!r} is the positive control, which is read beside every other "
            f"condition: name another, such as {INSTRUCTED!r}"
        )
    require_placebos(specs, name)
    require_control(specs, items, n_texts=n_texts)


def require_prompts(
    specs: Specs,
    name: str,
    items: Sequence[ChoiceItem],
    *,
    n_texts: int,
    option: str = "condition",
) -> None:
    """Refuse what is not one prompt a text and choice item; ``option`` is where the name was given.

    Raises:
        InterpError: an unknown condition, one for completions or of several calls, or a slot that an
            item cannot fill.
    """
    if name not in specs:
        raise InterpError(
            f"--{option} {name!r}: no such condition, such as {INSTRUCTED!r} or one of a "
            f"--condition-file; {did_you_mean(name, specs)}"
        )
    spec, texts = specs[name], texts_of(specs[name])
    for problem in _problems(spec, texts, n_texts):
        raise InterpError(f"condition {name!r} {problem}")
    for item in items:
        for text in texts[:n_texts]:
            require_filled(spec, text, item)


def require_position(name: str, words: Sequence[str]) -> None:
    """Refuse positions that no prompt of a choice item has; ``words``: those that are no span.

    Raises:
        InterpError: names the option, and what is close.
    """
    known = (*words, *CHOICE_SPANS, *sorted(template_spans(2)))  # a system's turn and the user's
    if name.partition(":")[0] not in known:
        raise InterpError(f"--positions {name!r}: no such positions; {did_you_mean(name, known)}")


def require_text(specs: Specs, name: str) -> None:
    """Refuse a condition that adds nothing to a prompt.

    Raises:
        InterpError: names the condition.
    """
    if not specs[name].has_text:
        raise InterpError(
            f"condition {name!r} adds no text to a single prompt: name one that does, such as "
            f"{INSTRUCTED!r}"
        )


def require_placebos(specs: Specs, name: str) -> None:
    """Refuse a condition whose texts have no placebos to be contrasted with.

    Raises:
        InterpError: names the condition.
    """
    require_text(specs, name)
    if name == "placebo":
        raise InterpError(
            "condition 'placebo' is what the others are contrasted with: name one of them, such as "
            f"{INSTRUCTED!r}"
        )
    if not specs[name].has_placebo:
        raise InterpError(
            f"condition {name!r} has no placebos to be contrasted with (control: none): leave that "
            "field out, or name another condition"
        )


def require_control(specs: Specs, items: Sequence[ChoiceItem], *, n_texts: int) -> None:
    """Refuse a file's own version of the positive control that cannot stand beside placebos.

    Raises:
        InterpError: as :func:`require_prompts` and :func:`require_placebos`.
    """
    known = len(texts_of(specs[CONTROL]))
    require_prompts(specs, CONTROL, items, n_texts=min(n_texts, known))
    require_placebos(specs, CONTROL)


def control_arms(specs: Specs, items: Sequence[ChoiceItem], *, beside: str) -> tuple[str, ...]:
    """The arms of the positive control that can be asked of some of these items beside a condition."""
    return tuple(
        name
        for name in CONTROL_ARMS
        if name != beside
        and name in specs
        and specs[name].has_placebo
        and any(arm_fits(specs[name], item) for item in items)
    )


def arm_fits(spec: ConditionSpec, item: ChoiceItem) -> bool:
    """Whether a condition can be asked of an item: its slots, and what it says of the gold choice."""
    if not spec.fits(item):
        return False
    try:
        for text in texts_of(spec):
            require_filled(spec, text, item)
    except InterpError:
        return False
    return True


def control_texts(
    bank: TextBank, item: ChoiceItem, *, beside: str, n_texts: int, arm: str = CONTROL
) -> tuple[Condition, ...]:
    """The first texts of an arm of the positive control, at most ``n_texts``.

    Where the condition ``beside`` fixes where its text stands, the control stands there too: a
    control at another place would say nothing about the states that this one can change.
    """
    texts = bank.texts(arm, item, min(n_texts, bank.n_texts(arm)))
    spec = bank.specs[beside]
    if spec.placement is None and spec.turn is None:
        return texts
    return tuple(replace(text, placement=spec.placement, turn=spec.turn) for text in texts)


def slots_of(number: int, n_texts: int, *, rotate: bool) -> tuple[int, ...]:
    """Which wordings an item is asked with: all, or with ``rotate`` one, by the item's number."""
    return (number % n_texts,) if rotate else tuple(range(n_texts))


def standing(spec: ConditionSpec | Condition, placement: Placement = "after") -> str:
    """``after the question``, ``before the question`` or ``in the system turn``."""
    if spec.turn == "system":
        return "in the system turn"
    return f"{spec.placement or placement} the question"


def by_name(name: str) -> str:
    """What follows "the instruction" in a sentence: nothing, or the name of another than the usual."""
    return "" if name == INSTRUCTED else f" “{name}”"


def texts_of(spec: ConditionSpec) -> list[str]:
    """Its texts, slots not filled; those of a bundled bank too."""
    return [wording.text for wording in condition_texts(spec, bundled_instructions())]


def require_filled(
    spec: ConditionSpec,
    text: str,
    item: ChoiceItem | CompletionItem,
    feedback: Mapping[str, str] | None = None,
) -> None:
    """Refuse a text of a condition that cannot be added to the item.

    Raises:
        InterpError: names the condition, the item, and the slot that it cannot fill.
    """
    spec.require_fit(item)
    try:
        fill(text, item, verdict_accuracy=spec.verdict_accuracy, feedback=feedback)
    except InterpError as error:
        raise InterpError(f"condition {spec.name!r}: {error}") from error


def _problems(spec: ConditionSpec, texts: Sequence[str], n_texts: int) -> list[str]:
    """Why the condition cannot be asked, each to follow its name."""
    checks = {
        "is for completion items, and these are choice items: ask it with interp behave, or name "
        "another condition": spec.items == "completion",
        f"takes {len(spec.calls)} calls of the model and cannot be read from a single prompt: ask "
        "it with interp behave, or name a condition of one call": len(spec.calls) > 1,
        "needs feedback on every item, which interp behave alone reads from a file: ask it there, "
        "or name another condition": any("feedback" in slots_in(t) for t in texts[:n_texts]),
    }
    return [problem for problem, present in checks.items() if present]
