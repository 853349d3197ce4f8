"""The studies of directions: fitting them with every control, and transfer between data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.direction import story, tables
from analyses.direction.asked import FitQuestion, TransferQuestion, ask_fit, ask_transfer
from analyses.direction.config import DirectionConfig, TransferConfig
from analyses.direction.tables import DirectionResult, TransferResult, file_of
from analyses.study import Lab, Saved, Step, Steps, Story
from interp.activations import Site, hook_name
from interp.directions import (
    DirectionFits,
    FitMethod,
    fit_directions,
    sentence_ids,
    transfer_matrix,
)


@dataclass(frozen=True)
class FitBench:
    """The sentences and the model; nothing is fitted before it is needed."""

    asked: FitQuestion
    model: TransformerBridge
    progress: bool

    @cached_property
    def fits(self) -> DirectionFits:
        """All directions and their nulls: the sentences are read once for both."""
        config = self.asked.config
        return fit_directions(
            self.model,
            self.asked.texts,
            methods=config.methods,
            sites=config.sites,
            n_folds=config.folds,
            n_shuffles=config.shuffles,
            seed=config.seed,
            progress=self.progress,
        )


class FitDirection:
    """See :mod:`analyses.direction`."""

    name = "direction fit"
    Config = DirectionConfig

    def ask(self, config: DirectionConfig, *, progress: bool = True) -> FitQuestion:
        """See :mod:`analyses.direction.asked`."""
        return ask_fit(config, progress=progress)

    def bench(self, asked: FitQuestion, lab: Lab) -> FitBench:
        """One file per method and site; refuses a site the model lacks and texts it cannot read."""
        for site in asked.config.sites:
            hook_name(lab.model, site, 0)
        sentence_ids(lab.model, asked.texts)
        bench = FitBench(asked, lab.model, lab.progress)
        for method in asked.config.methods:
            for site in asked.config.sites:
                lab.file(file_of(method, site), partial(_save, bench, method, site))
        return bench

    def steps(self, asked: FitQuestion, bench: FitBench) -> Steps:
        """The null directions' scores, one unit."""
        yield Step("nulls", [asked.config.texts], key=str, compute=null_rows)

    def read(self, asked: FitQuestion, saved: Saved) -> DirectionResult:
        """The directions of the files beside their nulls and word baselines."""
        return tables.read_fits(asked, saved)

    def tables(self, result: DirectionResult) -> Mapping[str, pd.DataFrame]:
        """Scores of each method and site at its best layer, and of every layer."""
        return {"best": result.fits.best, "scores": result.fits.to_dataframe()}

    def story(self, result: DirectionResult) -> Story:
        """What it has to beat: shuffled labels, words, null directions."""
        return story.tell_fit(result)


def _save(bench: FitBench, method: FitMethod, site: Site, path: Path) -> None:
    bench.fits[method, site].save(path)


def null_rows(bench: FitBench, unit: str) -> pd.DataFrame:
    """How well null directions separate the same sentences."""
    return bench.fits.nulls


@dataclass(frozen=True)
class TransferBench:
    """The sets and the model."""

    asked: TransferQuestion
    model: TransformerBridge
    progress: bool


class TransferDirections:
    """See :mod:`analyses.direction`."""

    name = "direction transfer"
    Config = TransferConfig

    def ask(self, config: TransferConfig, *, progress: bool = True) -> TransferQuestion:
        """See :mod:`analyses.direction.asked`."""
        return ask_transfer(config, progress=progress)

    def bench(self, asked: TransferQuestion, lab: Lab) -> TransferBench:
        """Refuses a site the model lacks and texts it cannot read."""
        hook_name(lab.model, asked.config.site, 0)
        for texts in asked.sets.values():
            sentence_ids(lab.model, texts)
        return TransferBench(asked, lab.model, lab.progress)

    def steps(self, asked: TransferQuestion, bench: TransferBench) -> Steps:
        """Every set against every other, one unit: their states are read once."""
        yield Step("transfer", ["all sets"], key=str, compute=transfer_rows)

    def read(self, asked: TransferQuestion, saved: Saved) -> TransferResult:
        """The matrix."""
        return tables.read_transfer(asked, saved)

    def tables(self, result: TransferResult) -> Mapping[str, pd.DataFrame]:
        """The matrix as a table."""
        return {"matrix": tables.transfer_matrix_table(result.transfer)}

    def story(self, result: TransferResult) -> Story:
        """How many tests off the diagonal lie above chance."""
        return story.tell_transfer(result)


def transfer_rows(bench: TransferBench, unit: str) -> pd.DataFrame:
    """The rows of :class:`interp.directions.Transfer`."""
    config = bench.asked.config
    return transfer_matrix(
        bench.model,
        bench.asked.sets,
        method=config.method,
        site=config.site,
        n_folds=config.folds,
        seed=config.seed,
        progress=bench.progress,
    ).frame
