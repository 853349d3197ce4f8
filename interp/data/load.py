"""Items and texts by name or by path: the one door the other rooms use.

Names for items: ``"bbq"``, ``"bbq:Age"``, several with commas (``"bbq:Age,bbq:Religion"``) or as a
list, ``"bundled"``. Names for texts: ``"bundled:morality"``, ``"bundled:statements"``,
``"bundled:contrasts:tense"``. Anything else is a path: a ``.jsonl`` file of choice items, a folder
in BBQ's layout, a ``.csv`` or ``.jsonl`` table of labelled texts. Bundled sets need no download.

Example::

    items = load_items("bbq:Age,bbq:Religion", limit=20, seed=0)
    texts = load_texts("my_sentences.csv", positive="fair")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interp.data.bbq import read_bbq
from interp.data.bundle import bundled_choices, bundled_texts
from interp.data.catalogue import dataset_entry, dataset_names, fetch_dataset
from interp.data.items import ChoiceItem, ContextCondition, LabelledText
from interp.data.sample import sample_items
from interp.data.tables import read_choice_items, read_labelled_texts
from interp.errors import InterpError, did_you_mean

_ITEM_NAMES = ("bbq", "bundled")


def load_items(
    name_or_path: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    context_condition: ContextCondition | None = None,
    progress: bool = True,
) -> tuple[ChoiceItem, ...]:
    """Choice items, all of them or a clustered sample.

    ``context_condition`` keeps one of the two. ``limit`` draws a sample with `sample_items` (at
    most 2 items per cluster and condition, so it may be shorter than ``limit``); without it every
    item comes, in file order. ``progress`` shows a bar while something is downloaded.
    Raises `InterpError` for a name or path that cannot be read and for items that come twice.
    """
    names = [name_or_path] if isinstance(name_or_path, (str, Path)) else list(name_or_path)
    items = [item for name in names for item in _items_of(name, progress=progress)]
    _refuse_repeats(items)
    if context_condition is not None:
        items = [item for item in items if item.context_condition == context_condition]
    if not items:
        kind = f"{context_condition} items" if context_condition else "items"
        raise InterpError(f"{', '.join(map(str, names)) or 'an empty list'}: holds no {kind}")
    return tuple(items) if limit is None else sample_items(items, limit, seed=seed)


def load_texts(
    name_or_path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    group: str = "group",
    positive: str | int | None = None,
) -> tuple[LabelledText, ...]:
    """Labelled texts: a bundled set ("bundled:morality", ...), or a CSV or JSONL table.

    The options name a table's columns and its positive label (`read_labelled_texts`); a bundled set
    ignores them. Raises `InterpError` for what cannot be read.
    """
    kind, _, rest = str(name_or_path).partition(":")
    if kind == "bundled":
        return bundled_texts(rest or "morality")
    if kind in dataset_names():
        raise InterpError(f"{name_or_path!r} has no labelled texts; give 'bundled:...' or a table")
    return read_labelled_texts(name_or_path, text=text, label=label, group=group, positive=positive)


def _items_of(name: str | Path, *, progress: bool) -> tuple[ChoiceItem, ...]:
    if isinstance(name, Path) or (Path(name).exists() and name not in _ITEM_NAMES):
        return _items_at(Path(name))
    if "," in name:
        parts = [part.strip() for part in name.split(",") if part.strip()]
        return tuple(item for part in parts for item in _items_of(part, progress=progress))
    kind, _, part = name.partition(":")
    if kind == "bundled" and part in ("", "choices"):
        return bundled_choices()
    if kind == "bbq":
        folder = fetch_dataset("bbq", progress=progress)
        return read_bbq(folder, categories=[_bbq_category(folder, part)] if part else None)
    if kind in dataset_names():
        raise InterpError(
            f"{dataset_entry(kind).name!r} can be fetched (fetch_dataset) but has no reader for "
            f"items yet; readers exist for {', '.join(_ITEM_NAMES)}, a .jsonl file and a BBQ folder"
        )
    if kind == "bundled":
        raise InterpError(f"{name!r}: no bundled items are called {part!r}; give 'bundled:choices'")
    if "/" in name or "." in name:
        return _items_at(Path(name))
    hint = did_you_mean(kind, (*dataset_names(), "bundled"))
    raise InterpError(f"{name!r} is neither a path nor a data set; {hint}")


def _items_at(path: Path) -> tuple[ChoiceItem, ...]:
    if path.is_dir():
        return read_bbq(path)
    if path.suffix != ".jsonl" and path.exists():
        raise InterpError(f"{path}: choice items are read from a .jsonl file or a BBQ folder")
    return read_choice_items(path)


def _bbq_category(folder: Path, name: str) -> str:
    known = sorted(path.stem for path in (folder / "data").glob("*.jsonl"))
    if name not in known:
        raise InterpError(f"BBQ has no category {name!r}; {did_you_mean(name, known)}")
    return name


def _refuse_repeats(items: Sequence[ChoiceItem]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InterpError(f"item {item.id!r} comes twice; name each data set once")
        seen.add(item.id)
