"""Conditions: which instruction a prompt carries, and its matched placebo.

A moral text is never compared with nothing alone: every instruction has a placebo of (as near as
possible) the same token count, so that length and position cannot pass for morality. The bank is
``interp/data/bundled/instructions.jsonl``; token counts depend on the tokenizer, so the matching is
done per model and its mismatch is reported with every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from interp.data.bundle import Instruction, bundled_instructions
from interp.data.items import ChoiceItem
from interp.errors import InterpError

ConditionName = Literal["clean", "instructed", "placebo", "negated", "revealing"]
CONDITION_NAMES: tuple[str, ...] = get_args(ConditionName)


@dataclass(frozen=True)
class Condition:
    """One prompt variant of an item.

    ``slot`` numbers the texts of a condition; ``control_of`` says which condition a placebo is
    matched with (its partner has the same slot).
    """

    name: ConditionName
    text_id: str
    text: str | None
    slot: int = 0
    control_of: str = ""


class TextBank:
    """Instructions and placebos with their token counts under one tokenizer.

    Example:
        >>> bank = TextBank(model.tokenizer)                               # doctest: +SKIP
        >>> bank.conditions(item, ["clean", "instructed", "placebo"])      # doctest: +SKIP
    """

    def __init__(self, tokenizer: Any, instructions: Sequence[Instruction] | None = None) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[str, list[Instruction]] = {}
        for instruction in bundled_instructions() if instructions is None else instructions:
            self._texts.setdefault(instruction.kind, []).append(instruction)
        self._placebo_lengths = [(self.count(p.text), p) for p in self._texts.get("placebo", [])]

    def count(self, text: str) -> int:
        """Tokens of a text on its own, without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def texts(self, name: ConditionName, item: ChoiceItem, n_texts: int) -> tuple[Condition, ...]:
        """The first ``n_texts`` texts of a condition, with the item's answer filled in.

        Raises:
            InterpError: an unknown condition, or fewer texts than asked for.
        """
        if name == "clean":
            return (Condition("clean", "clean", None),)
        if name not in CONDITION_NAMES:
            raise InterpError(f"no condition {name!r}; known: {', '.join(CONDITION_NAMES)}")
        bank = self._texts.get(name, [])
        if not 1 <= n_texts <= len(bank):
            raise InterpError(
                f"condition {name!r} has texts 1 to {len(bank)}, asked for {n_texts}: change "
                "n_texts (or the slot, which counts from 0)"
            )
        answer = item.choices[item.gold].text.strip()
        return tuple(
            Condition(name, text.id, text.text.replace("{answer}", answer), slot)
            for slot, text in enumerate(bank[:n_texts])
        )

    def placebos(self, treated: Sequence[Condition]) -> tuple[Condition, ...]:
        """One placebo per text, no placebo twice, each the nearest in token count still free.

        Texts choose in their order and ties go to the earlier placebo of the bank. So the placebo
        of a text depends on it and the texts before it: asking for more texts changes no pair.
        """
        if len(treated) > len(self._placebo_lengths):
            raise InterpError(
                f"{len(treated)} texts need as many placebos, the bank has "
                f"{len(self._placebo_lengths)}: ask for fewer texts"
            )
        free = list(self._placebo_lengths)
        chosen = []
        for condition in treated:
            wanted = self.count(condition.text or "")
            best = min(range(len(free)), key=lambda k: abs(free[k][0] - wanted))
            _, placebo = free.pop(best)
            chosen.append(
                Condition("placebo", placebo.id, placebo.text, condition.slot, condition.name)
            )
        return tuple(chosen)

    def conditions(
        self,
        item: ChoiceItem,
        names: Sequence[str],
        *,
        n_texts: int = 6,
        n_control_texts: int = 2,
    ) -> tuple[Condition, ...]:
        """Every prompt variant of an item, in the order of ``names``.

        ``placebo`` stands for the matched placebos of every other named condition (of
        ``instructed`` when that is not named).

        Args:
            item: the item; revealing texts name its gold answer.
            names: condition names.
            n_texts: texts of ``instructed`` (and so of its placebos).
            n_control_texts: texts of ``negated`` and ``revealing`` (and of theirs).

        Raises:
            InterpError: no condition, an unknown one, one named twice, or too many texts.
        """
        if not names:
            raise InterpError(f"no condition named; choose from {', '.join(CONDITION_NAMES)}")
        unknown = [name for name in names if name not in CONDITION_NAMES]
        if unknown:
            raise InterpError(f"no condition {unknown[0]!r}; known: {', '.join(CONDITION_NAMES)}")
        if len(set(names)) < len(names):
            raise InterpError(f"a condition is named twice: {', '.join(names)}")
        treated = [name for name in names if name not in ("clean", "placebo")]
        out: list[Condition] = []
        for name in names:
            if name == "placebo":
                for other in treated or ["instructed"]:
                    n = n_texts if other == "instructed" else n_control_texts
                    out.extend(self.placebos(self.texts(other, item, n)))  # type: ignore[arg-type]
            else:
                n = n_texts if name == "instructed" else n_control_texts
                out.extend(self.texts(name, item, n))  # type: ignore[arg-type]
        return tuple(out)
