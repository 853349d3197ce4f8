"""What a shell completes: names of models, data sets, conditions and choices, without loading torch.

    interp patch --model smol<TAB>        interp patch --items bbq:Age,crows<TAB>
    interp patch --site resid_pre,att<TAB>

A list is completed behind its last comma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from interp.models.catalogue import model_names

Completer = Callable[[str], list[str]]


def complete_of(names: Iterable[str]) -> Completer:
    """Completes one of some names."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def complete_list_of(names: Callable[[], Iterable[str]]) -> Completer:
    """Completes the last of some names with commas between; ``names`` are looked up when asked for."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def complete_models(incomplete: str) -> list[str]:
    """Names of the catalogue."""
    return complete_of(model_names())(incomplete)


def complete_items(incomplete: str) -> list[str]:
    """Sets of items, with BBQ's categories where it has been fetched."""
    return complete_list_of(item_names)(incomplete)


def complete_conditions(incomplete: str) -> list[str]:
    """Bundled conditions."""
    return complete_list_of(condition_names)(incomplete)


def item_names() -> list[str]:
    """What ``--items`` takes by name."""
    from interp.data.catalogue import dataset_entry
    from interp.data.load import COMPLETION_SETS, ITEM_SETS

    own = [*ITEM_SETS, *COMPLETION_SETS, "bundled:choices", "bundled:completions"]
    fetched = sorted((dataset_entry("bbq").folder / "data").glob("*.jsonl"))
    return list(dict.fromkeys([*own, *(f"bbq:{path.stem}" for path in fetched)]))


def text_names() -> list[str]:
    """What ``--texts`` takes by name, where it takes sentences."""
    from interp.data.bundle import TextSet, bundled_categories
    from interp.data.load import TEXT_SETS

    contrasts = (f"bundled:contrasts:{name}" for name in bundled_categories("contrasts"))
    return [*(f"bundled:{name}" for name in get_args(TextSet)), *contrasts, *TEXT_SETS]


def dataset_names_to_show() -> list[str]:
    """What ``interp data show`` takes by name."""
    return list(dict.fromkeys([*item_names(), *text_names(), "jsonl"]))


def condition_names() -> list[str]:
    """The bundled conditions."""
    from interp.prompts import load_conditions

    return list(load_conditions())


_BY_NAME: dict[str, Completer] = {
    "model": complete_models,
    "items": complete_items,
    "condition": complete_conditions,
    "conditions": complete_conditions,
    "against": complete_conditions,
}


def completer_of(name: str, field: FieldInfo) -> Completer | None:
    """What completes an option: by its name, or by the words that its type allows."""
    if name == "texts" and field.annotation is not int:
        return complete_list_of(text_names)
    if name in _BY_NAME:
        return _BY_NAME[name]
    words = words_of(field.annotation)
    return complete_list_of(lambda: words) if words else None


def words_of(annotation: Any) -> tuple[str, ...]:
    """The words of a choice, also inside a tuple or beside None."""
    if get_origin(annotation) is Literal:
        return tuple(str(word) for word in get_args(annotation))
    return next(filter(None, map(words_of, get_args(annotation))), ())
