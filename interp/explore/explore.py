"""``interp.explore``: whatever is given becomes an explorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import ChoiceItem
from interp.directions import Direction, DirectionStack
from interp.errors import InterpError
from interp.explore.explorer import Explorer
from interp.explore.saved import run_line, saved_views
from interp.explore.subject import Explored, ItemsExplored, PairExplored
from interp.prompts import PromptPair, TextBank, require_runnable, require_tokenizer


def explore(
    model: TransformerBridge | Any,
    what: ChoiceItem | PromptPair | Sequence[ChoiceItem] | None = None,
    *,
    direction: DirectionStack | Direction | None = None,
    bank: TextBank | None = None,
    widgets: bool = True,
) -> Explorer:
    """Look into a model's answers by hand: an explorer that a notebook shows.

    Choose item, condition, wording and round; see both prompts, the options' probabilities, the lens,
    the projection, the patching map and what heads attend to. A click on a cell of the map shows
    what that patch does to all options, to the lens and to attention. Knock out a span or a head, or
    steer along the direction, and see the answer change. Every view has the code that makes it.

    Short views are computed when they are looked at, the map on request; all are kept as long as
    nothing they depend on changes. A choice of one pair is one pair: claims need many items and
    wordings (the studies of the command line).

    Args:
        model: a bridge in evaluation mode; or a finished run's result, ``load(folder)``, which is shown
            without a model: views that compute are greyed.
        what: items, one item, or a pair.
        direction: a direction (or one per layer) to project on and to steer along.
        bank: the texts of the conditions; those of the bundled ones by default.
        widgets: False shows figures instead, as a notebook without ``ipywidgets`` and ``anywidget``
            does.

    Raises:
        InterpError: something else, no items, or a direction made for another model.

    Example:
        >>> interp.explore(model, interp.load_items("bbq:Age", limit=20))       # doctest: +SKIP
        >>> interp.explore(load("runs/age"))                                    # doctest: +SKIP
    """
    if not isinstance(model, TransformerBridge):
        given = {"items or a pair": what, "direction": direction, "bank": bank}
        for name, value in given.items():
            if value is not None:
                raise InterpError(
                    f"{name} need a model, and the first argument is a {type(model).__name__}: give "
                    "interp.explore(model, items)"
                )
        return Explorer(
            None, None, saved=saved_views(model), title=run_line(model), widgets=widgets
        )
    explored = _explored(model, what, bank)
    if direction is not None:
        if not isinstance(direction, Direction | DirectionStack):
            raise InterpError(
                f"direction is a {type(direction).__name__}: give what interp.fit_direction gives"
            )
        direction.require(model)
    return Explorer(model, explored, direction=direction, widgets=widgets)


def _explored(model: TransformerBridge, what: Any, bank: TextBank | None) -> Explored:
    if isinstance(what, PromptPair):
        require_runnable(model, what)
        return PairExplored(what)
    items = [what] if isinstance(what, ChoiceItem) else what
    many = isinstance(items, Sequence) and not isinstance(items, str | bytes)
    if not many or not items or not all(isinstance(item, ChoiceItem) for item in items):
        shown = "nothing" if what is None or (many and not items) else f"a {type(what).__name__}"
        raise InterpError(
            f"what to explore is {shown}: give choice items (interp.load_items) or a pair "
            "(interp.make_pair)"
        )
    require_tokenizer(model.tokenizer)
    if bank is not None and not isinstance(bank, TextBank):
        raise InterpError(
            f"bank is a {type(bank).__name__}: give interp.prompts.TextBank(model.tokenizer)"
        )
    return ItemsExplored(
        tuple(items), TextBank(model.tokenizer) if bank is None else bank, bank is not None
    )
