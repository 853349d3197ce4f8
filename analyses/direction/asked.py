"""What a fit and a transfer ask of any model, and what they refuse without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.direction.config import DirectionConfig, TransferConfig
from interp.data import LabelledText, dataset_hash, load_texts
from interp.data.labels import require_both_labels, require_folds
from interp.errors import InterpError


@dataclass(frozen=True)
class FitQuestion:
    """The sentences to fit on."""

    config: DirectionConfig
    texts: tuple[LabelledText, ...]
    data_hashes: Mapping[str, str]


@dataclass(frozen=True)
class TransferQuestion:
    """The sets of sentences by the names that tables and figures give them."""

    config: TransferConfig
    sets: Mapping[str, tuple[LabelledText, ...]]
    data_hashes: Mapping[str, str]


def ask_fit(config: DirectionConfig, *, progress: bool = True) -> FitQuestion:
    """The sentences; refuses those of one label, and more folds than groups."""
    texts = load_texts(
        config.texts,
        text=config.text_column,
        label=config.label_column,
        group=config.group_column,
        positive=config.positive,
        limit=config.limit,
        seed=config.seed,
        progress=progress,
    )
    _require_folds(texts, config.folds)
    return FitQuestion(config, texts, {config.texts: dataset_hash(texts)})


def ask_transfer(config: TransferConfig, *, progress: bool = True) -> TransferQuestion:
    """The sets; refuses one that cannot be fitted and split."""
    options: dict[str, Any] = {"limit": config.limit, "seed": config.seed}
    sets = {name: load_texts(name, progress=progress, **options) for name in config.texts}
    for name, texts in sets.items():
        try:
            _require_folds(texts, config.folds)
        except InterpError as error:
            raise InterpError(f"{name}: {error}") from error
    short = short_names(config.texts)
    hashes = {name: dataset_hash(texts) for name, texts in sets.items()}
    return TransferQuestion(config, {short[name]: sets[name] for name in sets}, hashes)


def _require_folds(texts: Sequence[LabelledText], n_folds: int) -> None:
    require_both_labels(texts)
    require_folds({text.group for text in texts}, n_folds)
    from interp.directions.fitting import labels_and_groups  # heavy: the folds themselves

    labels_and_groups(texts, n_folds)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names for tables and figures: without ``bundled:`` or folders, the bare kind where unique."""
    kinds = [name.partition(":")[0] for name in names]
    short = {}
    for name, kind in zip(names, kinds, strict=True):
        rest = Path(name.partition(":")[2]).name
        short[name] = kind if kind != "bundled" and kinds.count(kind) == 1 else rest or name
    return short if len(set(short.values())) == len(names) else {name: name for name in names}
