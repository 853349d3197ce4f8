"""What the studies of directions measured, read from their files and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.direction.asked import FitQuestion, TransferQuestion
from analyses.direction.config import DirectionConfig, TransferConfig
from analyses.study import Saved
from interp.data import LabelledText
from interp.directions import DirectionFits, Transfer, load_direction, word_baselines
from interp.display import short_repr
from interp.models import ModelCard


@dataclass(frozen=True)
class DirectionResult:
    """What was fitted, of which sentences, and where the report is."""

    config: DirectionConfig
    card: ModelCard
    texts: tuple[LabelledText, ...]
    fits: DirectionFits
    report: Path

    __repr__ = short_repr


@dataclass(frozen=True)
class TransferResult:
    """The matrix over the sets, and where the report is."""

    config: TransferConfig
    card: ModelCard
    transfer: Transfer
    report: Path

    __repr__ = short_repr


def file_of(method: str, site: str) -> str:
    """The run's file of one method's directions at one site."""
    return f"directions/{method}-{site}.safetensors"


def read_fits(asked: FitQuestion, saved: Saved) -> DirectionResult:
    """The directions of the run's files; the word baselines need no model and are scored anew."""
    config = asked.config
    fits = DirectionFits(
        stacks={
            (method, site): load_direction(saved.path(file_of(method, site)))
            for method in config.methods
            for site in config.sites
        },
        baselines=word_baselines(asked.texts, n_folds=config.folds, seed=config.seed),
        nulls=saved.table("nulls"),
    )
    return DirectionResult(config, saved.card, asked.texts, fits, saved.report)


def read_transfer(asked: TransferQuestion, saved: Saved) -> TransferResult:
    """The matrix of the saved rows."""
    config = asked.config
    transfer = Transfer(saved.table("transfer"), config.method, config.site)
    return TransferResult(config, saved.card, transfer, saved.report)


def transfer_matrix_table(transfer: Transfer) -> pd.DataFrame:
    """AUC of directions, trained on (rows) by tested on (columns)."""
    table = transfer.table()
    head = table.index.to_series(name="trained on \\ tested on").reset_index(drop=True)
    return pd.concat([head, table.reset_index(drop=True)], axis=1)
