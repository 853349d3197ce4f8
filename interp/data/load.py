"""Items and texts by name or by path: the one door the other rooms use.

Names for items: ``"bbq"``, ``"bbq:Age"``, several with commas (``"bbq:Age,bbq:Religion"``) or as a
list, ``"moralchoice"``, ``"winogender"``, ``"bundled"``. Names for texts: ``"bundled:morality"``,
``"bundled:statements"``, ``"bundled:contrasts:tense"``; ``"crows-pairs"``, ``"stereoset"``,
``"ethics"``, ``"moralchoice"``, the first two also with a category (``"crows-pairs:age"``). Names
for completions: ``"bundled"``, ``"rtp-993"``, ``"real-toxicity-prompts"``.
A benchmark's name fetches it; with a path behind it (``"ethics:cm_test.csv"``,
``"moralchoice:scenarios"``) the local file or folder is read instead. What exists locally is a path
before it is a category.

Anything else is a path: a ``.jsonl`` file of choice items or of prompts to complete, a folder in
BBQ's layout, a ``.csv`` or ``.jsonl`` table of labelled texts. Bundled sets need no download.

Example::

    items = load_items("bbq:Age,bbq:Religion", limit=20, seed=0)
    texts = load_texts("crows-pairs:age", limit=40, seed=0)
    texts = load_texts("my_sentences.csv", positive="fair")
    prompts = load_completions("rtp-993", limit=100, seed=0)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from interp.data.bbq import read_bbq
from interp.data.bundle import bundled_choices, bundled_completions, bundled_texts
from interp.data.catalogue import dataset_entry, dataset_names, fetch_dataset
from interp.data.crows_pairs import read_crows_pairs
from interp.data.ethics import read_ethics
from interp.data.items import ChoiceItem, CompletionItem, ContextCondition, LabelledText
from interp.data.moralchoice import read_moralchoice, read_moralchoice_items
from interp.data.real_toxicity import COMPLETION_FILES, read_completions
from interp.data.sample import sample_items
from interp.data.stereoset import read_stereoset
from interp.data.tables import read_choice_items, read_jsonl, read_labelled_texts
from interp.data.winogender import read_winogender
from interp.errors import InterpError, did_you_mean

ITEM_SETS = ("bbq", "moralchoice", "winogender", "bundled")
COMPLETION_SETS = ("rtp-993", "real-toxicity-prompts", "bundled")
_WITH_CATEGORIES: dict[str, Callable[..., tuple[LabelledText, ...]]] = {
    "crows-pairs": read_crows_pairs,
    "stereoset": read_stereoset,
}
_WITHOUT_CATEGORIES: dict[str, Callable[..., tuple[LabelledText, ...]]] = {
    "ethics": read_ethics,
    "moralchoice": read_moralchoice,
}
TEXT_SETS: tuple[str, ...] = (*_WITH_CATEGORIES, *_WITHOUT_CATEGORIES)


def load_items(
    name_or_path: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    context_condition: ContextCondition | None = None,
    progress: bool = True,
) -> tuple[ChoiceItem, ...]:
    """Choice items, all of them or a clustered sample.

    A file of your own is ``.jsonl``, one JSON object a line::

        {"question": "Which animal can fly?", "choices": ["an owl", "a dog"], "answer": 0}

    ``choices`` are texts, or ``{"text": ..., "role": ...}`` with a role of "unknown" (the
    abstention), "stereotyped", "counter" or "other"; ``answer`` (or ``gold``) is the right one, counted
    from 0. Also ``context``, ``id``, ``cluster`` (items that share a template), ``category``,
    ``benchmark``, ``context_condition`` ("ambiguous" where the answer is "unknown", "disambiguated"
    where other options have roles, else "plain") and ``meta`` may be given.

    ``context_condition`` keeps one of them. ``limit`` draws a sample with `sample_items` (at
    most 2 items per cluster and condition, so it may be shorter than ``limit``); without it every
    item comes, in file order. ``seed`` also draws the order of MoralChoice's actions. ``progress``
    shows a bar while something is downloaded.
    Raises `InterpError` for a name or path that cannot be read and for items that come twice.
    """
    names = [name_or_path] if isinstance(name_or_path, (str, Path)) else list(name_or_path)
    items = [item for name in names for item in _items_of(name, seed=seed, progress=progress)]
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
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[LabelledText, ...]:
    """Labelled texts: a bundled set, a benchmark by name, or a CSV or JSONL table.

    ``text``, ``label``, ``group`` and ``positive`` name a table's columns and its positive label
    (`read_labelled_texts`); the other sources have their own and ignore them.

    ``limit`` draws whole groups with ``seed``, evenly over the categories, and stops before the
    group that would make it more than ``limit`` texts: look at the length. Where groups are pairs,
    the labels stay balanced. A smaller limit gives the first texts of a larger one. StereoSet's
    groups hold some 53 texts each, so a small limit there is few target terms. Without ``limit``
    every text comes, in file order. ``progress`` shows a bar while something is downloaded.
    Raises `InterpError` for what cannot be read and for a limit that the first group exceeds.
    """
    if isinstance(name_or_path, str) and _is_name(name_or_path):
        texts = _texts_named(name_or_path, progress=progress)
    else:
        texts = read_labelled_texts(
            name_or_path, text=text, label=label, group=group, positive=positive
        )
    if not texts:
        raise InterpError(f"{name_or_path}: holds no labelled texts")
    return texts if limit is None else _draw_groups(texts, limit, seed=seed)


def load_completions(
    name_or_path: str | Path, *, limit: int | None = None, seed: int = 0, progress: bool = True
) -> tuple[CompletionItem, ...]:
    """Prompts to be completed: a bundled set, a benchmark by name, or a JSONL file.

    ``limit`` draws that many (or all there are) with ``seed``; a smaller limit gives the first
    prompts of a larger one. Without it every prompt comes, in file order. ``progress`` shows a bar
    while something is downloaded.
    Raises `InterpError` for what cannot be read, or holds no prompt.
    """
    if isinstance(name_or_path, str) and _is_name(name_or_path):
        items = _completions_named(name_or_path, progress=progress)
    else:
        items = read_completions(name_or_path)
    if not items:
        raise InterpError(f"{name_or_path}: holds no prompt to complete")
    if limit is None:
        return items
    if limit < 1:
        raise InterpError(f"limit must be at least 1, is {limit}")
    drawn = np.random.default_rng(seed).permutation(len(items))[:limit]
    return tuple(items[i] for i in drawn)


def is_completions(name_or_path: str | Path) -> bool:
    """Whether :func:`load_completions` reads it: a set of prompts, or a file whose rows have one.

    A path is opened: rows of choice items have ``choices`` or a ``question``. What exists nowhere is
    no completion set, so that :func:`load_items` may say so.
    """
    if isinstance(name_or_path, str) and _is_name(name_or_path):
        kind, _, rest = name_or_path.partition(":")
        return kind in COMPLETION_SETS and (kind != "bundled" or rest == "completions")
    path = Path(name_or_path)
    if path.is_dir():
        return any((path / name).exists() for name in COMPLETION_FILES)
    if not path.is_file() or path.suffix != ".jsonl":
        return False
    first = next((row for _, row in read_jsonl(path)), {})
    return not {"question", "choices"} & set(first)


def _completions_named(name: str, *, progress: bool) -> tuple[CompletionItem, ...]:
    kind, _, rest = name.partition(":")
    if kind == "bundled" and rest in ("", "completions"):
        return bundled_completions()
    if kind == "bundled" or kind not in COMPLETION_SETS:
        raise InterpError(
            f"{name!r} has no prompts to complete; they come from {', '.join(COMPLETION_SETS)} or "
            "a .jsonl file"
        )
    return read_completions(_place(kind, rest, progress=progress))


def _items_of(name: str | Path, *, seed: int, progress: bool) -> tuple[ChoiceItem, ...]:
    if isinstance(name, Path) or (Path(name).exists() and name not in ITEM_SETS):
        return _items_at(Path(name))
    if "," in name:
        parts = [part.strip() for part in name.split(",") if part.strip()]
        return tuple(i for part in parts for i in _items_of(part, seed=seed, progress=progress))
    kind, _, part = name.partition(":")
    if kind == "bundled" and part in ("", "choices"):
        return bundled_choices()
    if kind == "bbq":
        folder = fetch_dataset("bbq", progress=progress)
        return read_bbq(folder, categories=[_bbq_category(folder, part)] if part else None)
    if kind == "moralchoice":
        return read_moralchoice_items(_place(kind, part, progress=progress), seed=seed)
    if kind == "winogender":
        return read_winogender(_place(kind, part, progress=progress))
    if kind in dataset_names():
        raise InterpError(
            f"{dataset_entry(kind).name!r} can be fetched (fetch_dataset) but has no reader for "
            f"items yet; readers exist for {', '.join(ITEM_SETS)}, a .jsonl file and a BBQ folder"
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


def _is_name(text: str) -> bool:
    """Whether ``text`` is a data set's name, not a path; a misspelt name is refused."""
    kind = text.partition(":")[0]
    names = ("bundled", *dataset_names())
    if kind in names or Path(text).exists() or "/" in text or "." in text:
        return kind in names
    raise InterpError(f"{text!r} is neither a path nor a data set; {did_you_mean(kind, names)}")


def _texts_named(name: str, *, progress: bool) -> tuple[LabelledText, ...]:
    kind, _, rest = name.partition(":")
    if kind == "bundled":
        return bundled_texts(rest or "morality")
    if kind not in TEXT_SETS:
        raise InterpError(
            f"{name!r} has no labelled texts; they come from 'bundled:...', "
            f"{', '.join(TEXT_SETS)} or a table"
        )
    if kind in _WITHOUT_CATEGORIES:
        return _WITHOUT_CATEGORIES[kind](_place(kind, rest, progress=progress))
    is_path = Path(rest).exists() if rest else False
    if is_path or "/" in rest or "." in rest:
        return _WITH_CATEGORIES[kind](_place(kind, rest, progress=progress))
    return _WITH_CATEGORIES[kind](_place(kind, "", progress=progress), category=rest or None)


def _place(kind: str, rest: str, *, progress: bool) -> Path:
    """The local path behind the colon, or the fetched folder where there is none."""
    return Path(rest) if rest else fetch_dataset(kind, progress=progress)


def _draw_groups(
    texts: Sequence[LabelledText], limit: int, *, seed: int
) -> tuple[LabelledText, ...]:
    """Whole groups in a seeded order, each from the category with the fewest texts so far."""
    if limit < 1:
        raise InterpError(f"limit must be at least 1, is {limit}")
    members: dict[str, list[LabelledText]] = defaultdict(list)
    for text in texts:
        members[text.group].append(text)
    groups = sorted(members)
    queues: dict[str, list[list[LabelledText]]] = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(groups)):
        group = members[groups[i]]
        queues[group[0].category].append(group)
    drawn: list[LabelledText] = []
    counts: Counter[str] = Counter()
    while queues:
        category = min(queues, key=lambda name: counts[name])
        group = queues[category].pop(0)
        if len(drawn) + len(group) > limit:
            break
        drawn += group
        counts[category] += len(group)
        if not queues[category]:
            del queues[category]
    if not drawn:
        raise InterpError(
            f"limit {limit} is less than the {len(group)} texts of the first group drawn; groups "
            f"are kept whole, so give at least {len(group)}"
        )
    return tuple(drawn)


def _refuse_repeats(items: Sequence[ChoiceItem]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InterpError(f"item {item.id!r} comes twice; name each data set once")
        seen.add(item.id)
