"""What is explored: items under conditions, or one pair; both give pairs, and code that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour import round_pair
from interp.data.items import ChoiceItem
from interp.errors import InterpError
from interp.explore.state import PAIR, ExplorerState
from interp.prompts import PromptPair, TextBank, cyclic_orders, make_pair

N_ROUNDS = 5
"""The last round that can be chosen."""


@dataclass(frozen=True, eq=False)
class PairExplored:
    """One pair; only its direction can be chosen."""

    given: PromptPair

    @property
    def names(self) -> tuple[str, ...]:
        """The pair's label."""
        return (self.given.label,)

    @property
    def conditions(self) -> tuple[str, ...]:
        """None."""
        return ()

    def n_wordings(self, condition: str) -> int:
        """One."""
        return 1

    def n_orders(self, item: int) -> int:
        """One."""
        return 1

    def pair(self, model: TransformerBridge, state: ExplorerState) -> PromptPair:
        """The pair, or its other direction."""
        return self.given.swap() if state.swapped else self.given

    def code(self, state: ExplorerState) -> list[str]:
        """``pair`` is the caller's own."""
        return ["pair = pair.swap()"] if state.swapped else []


@dataclass(frozen=True, eq=False)
class ItemsExplored:
    """Choice items under the conditions of a bank."""

    items: Sequence[ChoiceItem]
    bank: TextBank
    own_bank: bool = False
    """Whether the caller gave the bank, which the code then names."""
    _made: dict[object, PromptPair] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Number, id and question of every item."""
        return tuple(f"{k}  {item.id}  {item.question}" for k, item in enumerate(self.items))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those that take one call of the model."""
        return tuple(name for name, spec in self.bank.specs.items() if len(spec.calls) == 1)

    def n_wordings(self, condition: str) -> int:
        """How many texts the bank has of it."""
        return self.bank.n_texts(condition)

    def n_orders(self, item: int) -> int:
        """One per choice."""
        return len(cyclic_orders(len(self.items[item].choices)))

    def pair(self, model: TransformerBridge, state: ExplorerState) -> PromptPair:
        """The pair of these choices; the last one is kept."""
        key = tuple(getattr(state, name) for name in PAIR if name != "swapped")
        if key not in self._made:
            made = self._make(model, state)
            self._made.clear()
            self._made[key] = made
        pair = self._made[key]
        return pair.swap() if state.swapped else pair

    def _make(self, model: TransformerBridge, state: ExplorerState) -> PromptPair:
        item, asked = self.items[state.item], _asked(state)
        if state.condition == state.against:
            raise InterpError(
                f"{state.condition} against itself is no contrast: choose another condition"
            )
        if state.round == 1:
            return make_pair(model, item, state.condition, bank=self.bank, **asked)  # type: ignore[arg-type]
        return round_pair(
            model,
            item,
            state.condition,
            number=state.round,
            bank=self.bank,
            **asked,  # type: ignore[arg-type]
        )

    def code(self, state: ExplorerState) -> list[str]:
        """``model`` and ``items`` (and a ``bank``) are the caller's own."""
        options = {name: value for name, value in _asked(state).items() if value}
        said = "".join(f", {name}={value!r}" for name, value in options.items())
        said += ", bank=bank" * self.own_bank
        what = f"model, items[{state.item}], {state.condition!r}"
        made = f"interp.make_pair({what}{said})"
        if state.round != 1:
            made = f"interp.behaviour.round_pair({what}, number={state.round}{said})"
        return [f"pair = {made}{'.swap()' * state.swapped}"]


Explored: TypeAlias = ItemsExplored | PairExplored
"""What an explorer looks into. ``names``: a line per item; ``conditions``: those that can be chosen;
``code(state)``: lines after which ``pair`` is ``pair(model, state)``."""


def _asked(state: ExplorerState) -> dict[str, str | int]:
    """The choices as :func:`interp.make_pair` names them."""
    return {"against": state.against, "slot": state.wording, "order": state.order}
