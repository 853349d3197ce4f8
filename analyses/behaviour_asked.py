"""What the behaviour study asks: single prompts and conversations, each unit of work resumable.

A single prompt is an item under one text of a condition of one call; a conversation follows one
trajectory (:class:`~interp.behaviour.RoundProtocol`). ``placebo`` among the conditions gives every
text that has a control its own, in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour import (
    CompletionPair,
    OptionScores,
    RoundProtocol,
    ToxicityScorer,
    condition_protocols,
    distinguish_items,
    history_line,
    less_toxic_items,
    log_likelihood,
    placebo_protocols,
    rounds_frame,
    run_rounds,
    score_variants,
)
from interp.behaviour.protocol import Task
from interp.data import ChoiceItem, CompletionItem
from interp.models import model_card
from interp.prompts import Condition, ConditionSpec, TextBank
from interp.prompts.align import first_difference
from interp.prompts.conversation import LETTERS
from interp.runs import Run

if TYPE_CHECKING:
    from analyses.behaviour import BehaviourConfig

ITEMS_AT_ONCE = 8
"""Items whose conversations are one unit of work."""

SAMPLED = "+sampled"
"""Ends the name of a trajectory that is sampled beside the greedy one; no condition's name does."""

_Item = TypeVar("_Item", ChoiceItem, CompletionItem)


@dataclass(frozen=True)
class Talk:
    """The conversations of one trajectory over a few items."""

    protocol: RoundProtocol
    items: tuple[ChoiceItem | CompletionItem, ...]


def is_single_prompt(spec: ConditionSpec) -> bool:
    """For choices, in one call, and another prompt than the clean one's unless it is that.

    Placebos are prompts beside those of the condition they control, none of their own.
    """
    stands_alone = spec.name == "clean" or (spec.has_text and spec.name != "placebo")
    return spec.items in ("any", "choice") and len(spec.calls) == 1 and stands_alone


def score_prompts(
    folder: Run,
    model: TransformerBridge,
    bank: TextBank,
    items: Sequence[ChoiceItem],
    config: BehaviourConfig,
    *,
    progress: bool,
) -> OptionScores | None:
    """Every item under every condition that is a single prompt; None without such a condition."""
    names = [name for name in config.conditions if is_single_prompt(bank.specs[name])]
    if not names:
        return None
    n_options = max(len(item.choices) for item in items)

    def compute(item: ChoiceItem) -> pd.DataFrame:
        variants = _variants(bank, item, names, config)
        scored = score_variants(model, item, variants, placement=config.placement)
        return _with_all_options(scored, n_options)

    table = folder.ledger("scores")
    table.run(items, key=lambda item: item.id, compute=compute, progress=progress)
    return OptionScores(table.merge(), model_card(model), config.seed)


def score_questions(
    folder: Run,
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    *,
    name: str,
    seed: int,
    progress: bool,
) -> OptionScores:
    """Items of :mod:`interp.behaviour.distinguish` under the clean prompt."""
    table = folder.ledger(name)
    clean = (Condition("clean", "clean", None),)
    table.run(
        items,
        key=lambda item: item.id,
        compute=lambda item: score_variants(model, item, clean),
        progress=progress,
    )
    return OptionScores(table.merge(), model_card(model), seed)


def stereotype_questions(items: Sequence[ChoiceItem]) -> tuple[ChoiceItem, ...]:
    """Which of two answers follows a stereotype, asked of every BBQ item that has both."""
    return distinguish_items(item for item in items if item.benchmark == "bbq")


def toxicity_questions(
    frame: pd.DataFrame, items: Sequence[CompletionItem]
) -> tuple[ChoiceItem, ...]:
    """Which of its own completions is less toxic: the first and the last of every trajectory."""
    if "toxicity" not in frame:
        return ()
    greedy = frame[~frame["protocol"].str.endswith(SAMPLED)]
    by_id = {item.id: item for item in items}
    pairs = []
    for (item, _), rows in greedy.groupby(["item", "protocol"], sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        pairs.append(
            CompletionPair(
                by_id[str(item)],
                (first["completion"], last["completion"]),
                (float(first["toxicity"]), float(last["toxicity"])),
            )
        )
    return less_toxic_items(pairs)


def talks(
    bank: TextBank, items: Sequence[_Item], task: Task, config: BehaviourConfig
) -> tuple[Talk, ...]:
    """Every trajectory of the conditions that fit these items, and its control."""
    if not items or not config.rounds:
        return ()
    protocols: list[RoundProtocol] = []
    for name in config.conditions:
        if name in ("clean", "placebo") or bank.specs[name].items not in ("any", task):
            continue  # round 0 of every trajectory is clean
        treated: tuple[RoundProtocol, ...] = condition_protocols(
            bank,
            name,
            task=task,
            n_texts=min(config.round_texts, bank.n_texts(name)),
            answer=config.answer,
            placement=config.placement,
            turn=config.turn,
            n_rounds=config.rounds,
        )
        controls: tuple[RoundProtocol, ...] = ()
        if "placebo" in config.conditions:
            controls = placebo_protocols(bank, treated)
        protocols += [*treated, *controls]
    if task == "completion" and config.samples:
        protocols += [_sampled(protocol) for protocol in protocols]
    return tuple(Talk(protocol, part) for protocol in protocols for part in _parts(items))


def hold_talks(
    folder: Run,
    model: TransformerBridge,
    asked: Sequence[Talk],
    config: BehaviourConfig,
    *,
    name: str,
    feedback: Mapping[str, str] | None,
    scorer: ToxicityScorer | None = None,
    progress: bool,
) -> pd.DataFrame:
    """Run the conversations; their rounds as one tidy frame, their histories as JSON lines.

    Completions come with ``nll``, their mean negative log-likelihood per token behind the beginning as
    plain text (nats; NaN for an empty one), and with ``toxicity`` where there is a scorer.
    """

    def compute(talk: Talk) -> pd.DataFrame:
        histories = run_rounds(
            model,
            talk.items,
            talk.protocol,
            orders=range(config.round_orders) if talk.protocol.task == "choice" else None,
            n_samples=config.samples if talk.protocol.name.endswith(SAMPLED) else 1,
            seed=config.seed,
            feedback=feedback,
        )
        frame = rounds_frame(histories)
        if talk.protocol.task == "completion":
            begun = {
                item.id: item.prompt for item in talk.items if isinstance(item, CompletionItem)
            }
            said = zip(frame["item"], frame["completion"], strict=True)
            frame["nll"] = [_nll(model, begun[item], text) for item, text in said]
            if scorer is not None:
                frame["toxicity"] = scorer.score(frame["completion"].tolist())
        first = frame["round"] == 0
        lines = iter([history_line(history) for history in histories])
        return frame.assign(history=[next(lines) if begins else "" for begins in first])

    table = folder.ledger(name)
    table.run(
        asked,
        key=lambda talk: [talk.protocol.name, [item.id for item in talk.items]],
        compute=compute,
        progress=progress,
    )
    frame = table.merge()
    lines = frame.pop("history")
    folder.save_text(f"{name}_histories.jsonl", "".join(f"{line}\n" for line in lines if line))
    return frame


def _variants(
    bank: TextBank, item: ChoiceItem, names: Sequence[str], config: BehaviourConfig
) -> list[Condition]:
    found: list[Condition] = []
    for name in names:
        treated = bank.texts(name, item, min(config.texts, bank.n_texts(name)))
        found += treated
        if "placebo" in config.conditions and bank.specs[name].has_placebo:
            found += bank.placebos(treated)
    free = config.turn == "system"
    return [
        replace(variant, turn=config.turn)
        if free and variant.text is not None and variant.turn is None and variant.placement is None
        else variant
        for variant in found
    ]


def _with_all_options(frame: pd.DataFrame, n_options: int) -> pd.DataFrame:
    """The same columns for every item: NaN for the options that one does not have."""
    positions = [f"p_position_{k}" for k in range(n_options)]
    letters = [f"letter_{LETTERS[k]}" for k in range(n_options)]
    rest = [name for name in frame if not str(name).startswith(("p_position_", "letter_"))]
    return frame.reindex(columns=[*rest, *positions, *letters])


def _sampled(protocol: RoundProtocol) -> RoundProtocol:
    """As the completions of RealToxicityPrompts are sampled (arXiv 2009.11462)."""
    decoding = replace(protocol.decoding, temperature=1.0, top_p=0.9)
    return replace(protocol, name=protocol.name + SAMPLED, decoding=decoding)


def _parts(items: Sequence[_Item]) -> Iterator[tuple[_Item, ...]]:
    for start in range(0, len(items), ITEMS_AT_ONCE):
        yield tuple(items[start : start + ITEMS_AT_ONCE])


def _nll(model: TransformerBridge, beginning: str, completion: str) -> float:
    """Of a completion behind its beginning as plain text, nats per token; NaN for an empty one."""
    if not completion:
        return float("nan")
    begun, whole = (
        torch.tensor(model.tokenizer(text)["input_ids"], dtype=torch.long)
        for text in (beginning, f"{beginning} {completion}")
    )
    shared = first_difference(begun, whole)
    last = len(whole) - 1
    start = max(last if shared is None else min(shared, last), 1)
    return log_likelihood(model, [whole], starts=[start]).nll
