"""Conditions: which instruction a prompt carries, and its matched placebo.

A moral text is never compared with nothing alone: every instruction has a placebo of (as near as
possible) the same token count, so that length and position cannot pass for morality; and the placebo
is a request about the reply, so that the speech act of a request cannot either. Conditions are
data (:mod:`interp.prompts.presets`), the bank of sentences is
``interp/data/bundled/instructions.jsonl``; token counts depend on the tokenizer, so the matching is
done per model and its mismatch is reported with every row.

Wordings are a random effect: the wordings of a bank and their placebos are drawn at random per seed,
without replacement. The draw depends on the seed and the condition alone, on no machine, and asking
for more texts changes no earlier pair. Texts that a condition lists itself are taken in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from interp.data.bundle import WRITTEN, Instruction, bundled_instructions
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError
from interp.prompts.conversation import (
    ANSWER_PREFIX,
    Conversation,
    InstructionTurn,
    Placement,
    build_completion,
    build_conversation,
)
from interp.prompts.draws import uniform
from interp.prompts.placebos import FILLERS, FitLength, Placebo, PlaceboKind, PlaceboPool
from interp.prompts.presets import ConditionSpec, Wording, condition_texts, load_conditions
from interp.prompts.slots import fill
from interp.prompts.tokenizer import require_tokenizer

ConditionName = Literal["clean", "instructed", "placebo", "negated", "revealing"]
CONDITION_NAMES: tuple[str, ...] = get_args(ConditionName)
"""The conditions that every analysis knows; :func:`load_conditions` has them all."""


@dataclass(frozen=True)
class Condition:
    """One prompt variant of an item.

    ``slot`` numbers the texts of a condition; ``control_of`` says which condition a placebo is
    matched with (its partner has the same slot). ``placement`` and ``turn`` say where the
    instruction goes, None where the caller chooses. ``source`` is that of the wording, ``reported:
    arXiv ...`` or ``written`` (for this project); of a built placebo that of its first part.
    ``fitted``: how the text was brought to its partner's token count, where that was asked for
    (:mod:`interp.prompts.fit_length`).
    """

    name: str
    text_id: str
    text: str | None
    slot: int = 0
    control_of: str = ""
    placement: Placement | None = None
    turn: InstructionTurn | None = None
    source: str = WRITTEN
    fitted: FitLength | None = None

    @property
    def label(self) -> str:
        """The name, and how the text was fitted where it was."""
        return self.name if self.fitted is None else f"{self.name} (fit_length={self.fitted})"

    def place(
        self, placement: Placement, turn: InstructionTurn
    ) -> tuple[Placement, InstructionTurn]:
        """Where the instruction goes: the condition's own place, else the caller's."""
        if self.placement is not None and self.turn is None:
            return self.placement, "user"
        return self.placement or placement, self.turn or turn


class TextBank:
    """The texts of all conditions and their placebos, with token counts under one tokenizer.

    Args:
        tokenizer: counts tokens.
        instructions: the bank of sentences; the bundled one by default.
        conditions: the registry, :func:`~interp.prompts.presets.load_conditions` by default.
        feedback: text per item id for the slot ``{feedback}``.
        require_match: by how many tokens a placebo may differ from its text. None takes the nearest
            left in the bank and lets the result report the mismatch. With a number, a placebo of the
            exact count is built where the bank has none (:mod:`interp.prompts.placebos`), and what
            cannot be matched is refused.
        n_ctx: refuse a text of more tokens than this.
        seed: of the draws of wordings and placebos, and of those that fill slots.

    Example:
        >>> bank = TextBank(model.tokenizer)                               # doctest: +SKIP
        >>> bank.conditions(item, ["clean", "instructed", "placebo"])      # doctest: +SKIP
    """

    def __init__(
        self,
        tokenizer: Any,
        instructions: Sequence[Instruction] | None = None,
        *,
        conditions: Mapping[str, ConditionSpec] | None = None,
        feedback: Mapping[str, str] | None = None,
        require_match: int | None = None,
        n_ctx: int | None = None,
        seed: int = 0,
    ) -> None:
        if require_match is not None and require_match < 0:
            raise InterpError(f"require_match is {require_match}: a number of tokens, 0 or more")
        require_tokenizer(tokenizer)
        bank = bundled_instructions() if instructions is None else instructions
        self.specs = load_conditions() if conditions is None else conditions
        self._tokenizer = tokenizer
        self._seed = seed
        self._texts = {name: self._drawn(spec, bank) for name, spec in self.specs.items()}
        self._pools: dict[PlaceboKind, PlaceboPool] = {
            kind: PlaceboPool(self.count, self._pairs(kind), fillers)
            for kind, fillers in FILLERS.items()
        }
        self._feedback = feedback
        self._require_match, self._n_ctx = require_match, n_ctx

    def count(self, text: str) -> int:
        """Tokens of a text on its own, without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def wordings(self, name: str, n_texts: int) -> tuple[Condition, ...]:
        """``n_texts`` texts of a condition as they are written, slots not filled.

        Those of a bank are drawn at random per seed, without replacement (all where all are asked
        for); those that the condition lists are its first.

        A condition without an instruction has one prompt, whatever ``n_texts``.

        Raises:
            InterpError: an unknown condition, or fewer texts than asked for.
        """
        spec = self._spec(name)
        if not spec.has_text:
            return (Condition(name, name, None),)
        bank = self._texts[name]
        if not 1 <= n_texts <= len(bank):
            raise InterpError(
                f"condition {name!r} has texts 1 to {len(bank)}, asked for {n_texts}: change "
                "n_texts (or the slot, which counts from 0)"
            )
        return tuple(
            Condition(
                name,
                wording.id,
                wording.text,
                slot,
                placement=spec.placement,
                turn=spec.turn,
                source=wording.source,
            )
            for slot, wording in enumerate(bank[:n_texts])
        )

    def n_texts(self, name: str) -> int:
        """How many texts a condition has; 1 for one without an instruction."""
        return len(self._texts[self._spec(name).name]) or 1

    def texts(
        self,
        name: str,
        item: ChoiceItem | CompletionItem,
        n_texts: int,
        *,
        option: int | None = None,
    ) -> tuple[Condition, ...]:
        """:meth:`wordings` with their slots filled for the item.

        Args:
            name: a condition of the registry.
            item: what the texts are added to.
            n_texts: how many.
            option: which choice a verdict is about; None draws one.

        Raises:
            InterpError: an unknown condition, fewer texts than asked for, an item that cannot fill
                a slot or that the condition is not for, or a text beyond ``n_ctx``.
        """
        out = []
        for wording in self.wordings(name, n_texts):
            if wording.text is not None:
                filled = self.fill(name, wording.text, item, option=option)
                self._require_context(name, wording.text_id, filled)
                wording = replace(wording, text=filled)
            out.append(wording)
        return tuple(out)

    def fill(
        self,
        name: str,
        text: str,
        item: ChoiceItem | CompletionItem,
        *,
        option: int | None = None,
    ) -> str:
        """Any text of a condition (an instruction, a request, a re-ask) filled for an item.

        Raises:
            InterpError: names the condition, the item and the slot.
        """
        spec = self._spec(name)
        spec.require_fit(item)
        try:
            return fill(
                text,
                item,
                verdict_accuracy=spec.verdict_accuracy,
                seed=self._seed,
                feedback=self._feedback,
                option=option,
            )
        except InterpError as error:
            raise InterpError(f"condition {name!r}: {error}") from error

    def placebos(
        self, treated: Sequence[Condition], *, kind: PlaceboKind = "placebo"
    ) -> tuple[Condition, ...]:
        """One placebo per text, no placebo twice, drawn among those of its token count.

        Texts draw in their order, at random per seed and condition; where no placebo of the count is
        left, among those of the nearest count. So the placebo of a text depends on it and the texts
        before it: asking for more texts changes no pair. A placebo takes the place of its text.

        Args:
            treated: the texts. Those that are drawn from the bank ``kind`` themselves (of the
                condition of this name, or of another with this bank) get placebos from the half of
                it that their texts come to last, so that the two are never the same.
            kind: requests about the reply, or statements.

        Raises:
            InterpError: more texts than placebos, or none within ``require_match`` tokens.
        """
        pool, used = self._pools[kind], set[str]()
        if any(self._is_drawn_from(kind, condition) for condition in treated):
            own = self._texts[kind]
            used = {wording.id for wording in own[: max(len(own) // 2, len(treated))]}
        if len(treated) > len(pool) - len(used):
            raise InterpError(
                f"{len(treated)} texts need as many placebos, the bank has "
                f"{len(pool) - len(used)}: ask for fewer texts"
            )
        chosen = []
        for condition in treated:
            placebo = self._placebo(condition, pool, used)
            used.add(placebo.base)
            chosen.append(
                Condition(
                    kind,
                    placebo.id,
                    placebo.text,
                    condition.slot,
                    condition.name,
                    condition.placement,
                    condition.turn,
                )
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

        ``placebo`` means the matched placebos of every other named condition that has them
        (of ``instructed`` when none is named).

        Args:
            item: the item; slots are filled for it.
            names: condition names of a single call each.
            n_texts: texts of ``instructed`` (and so of its placebos), or as many as it has.
            n_control_texts: texts of every other condition (and of their placebos), likewise.

        Raises:
            InterpError: no condition, an unknown one, one named twice, one that takes several
                calls of the model, no text, or one that :meth:`texts` refuses.
        """
        if not names:
            raise InterpError(f"no condition named; choose from {', '.join(self.specs)}")
        specs = {name: self._spec(name) for name in names}
        if len(specs) < len(names):
            raise InterpError(f"a condition is named twice: {', '.join(names)}")
        for name in specs:
            self.require_single(name)
        treated = [name for name in names if specs[name].has_placebo and name != "placebo"]
        out: list[Condition] = []
        for name in names:
            for other in (treated or ["instructed"]) if name == "placebo" else [name]:
                n = n_texts if other == "instructed" else n_control_texts
                texts = self.texts(other, item, min(n, self.n_texts(other)))
                out.extend(self.placebos(texts) if name == "placebo" else texts)
        return tuple(out)

    def require_single(self, name: str) -> None:
        """Refuse a condition that a single prompt cannot hold.

        Raises:
            InterpError: an unknown condition, or one of several calls.
        """
        n_calls = len(self._spec(name).calls)
        if n_calls > 1:
            raise InterpError(
                f"condition {name!r} takes {n_calls} calls of the model and cannot be read from a "
                "single prompt: name a condition of one call"
            )

    def _spec(self, name: str) -> ConditionSpec:
        if name not in self.specs:
            raise InterpError(f"no condition {name!r}; known: {', '.join(self.specs)}")
        return self.specs[name]

    def _drawn(self, spec: ConditionSpec, bank: Sequence[Instruction]) -> tuple[Wording, ...]:
        """The texts of a condition in the order in which they are asked for.

        Conditions of one bank draw alike, so that they are compared with the same wordings.
        """
        texts = condition_texts(spec, bank)
        if not spec.is_drawn:
            return texts
        purpose = f"wording of {spec.bank}"
        return tuple(sorted(texts, key=lambda text: uniform(self._seed, purpose, text.id)))

    def _pairs(self, kind: PlaceboKind) -> list[tuple[str, str]]:
        return [(wording.id, wording.text) for wording in self._texts.get(kind, ())]

    def _is_drawn_from(self, kind: PlaceboKind, condition: Condition) -> bool:
        spec = self.specs.get(condition.name)
        return condition.name == kind or (spec is not None and spec.bank == kind)

    def _placebo(self, condition: Condition, pool: PlaceboPool, used: set[str]) -> Placebo:
        spec = self.specs.get(condition.name)
        purpose = f"placebo of {(spec and spec.bank) or condition.name}"

        def rank(placebo: str) -> float:
            return uniform(self._seed, purpose, placebo)

        wanted = self.count(condition.text or "")
        nearest = pool.nearest(wanted, used, rank)
        assert nearest is not None  # there are at least as many placebos as texts
        if self._require_match is None or nearest.n_tokens == wanted:
            return nearest
        built = pool.build(wanted, used, rank)
        if built is not None:
            return built
        if abs(nearest.n_tokens - wanted) <= self._require_match:
            return nearest
        raise InterpError(
            f"no placebo for {condition.text_id!r} of condition {condition.name!r}: it has {wanted} "
            f"tokens, the nearest placebo {nearest.n_tokens}, require_match allows a difference of "
            f"{self._require_match}: change the text, or allow more"
        )

    def _require_context(self, name: str, text_id: str, text: str) -> None:
        if self._n_ctx is not None and self.count(text) > self._n_ctx:
            raise InterpError(
                f"condition {name!r}: text {text_id!r} has {self.count(text)} tokens, the model's "
                f"context is {self._n_ctx}: shorten it"
            )


def condition_conversation(
    item: ChoiceItem | CompletionItem,
    condition: Condition,
    *,
    order: Sequence[int] | None = None,
    placement: Placement = "after",
    turn: InstructionTurn = "user",
    answer_prefix: str = ANSWER_PREFIX,
) -> Conversation:
    """The first call of an item under a condition, whose own placement and turn go first.

    The arguments are those of :func:`~interp.prompts.conversation.build_conversation`; ``order``
    and ``answer_prefix`` are for choice items.

    Raises:
        InterpError: as there.
    """
    placement, turn = condition.place(placement, turn)
    if isinstance(item, CompletionItem):
        return build_completion(item, condition.text, placement=placement, turn=turn)
    return build_conversation(
        item,
        condition.text,
        order=order,
        placement=placement,
        turn=turn,
        answer_prefix=answer_prefix,
    )
