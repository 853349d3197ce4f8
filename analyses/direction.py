"""The morality direction: learned by several methods at several sites, with every control.

The labelled sentences are read once; every (method, site) gives one file of directions, one per
layer, with its held-out AUC, the same under shuffled labels, and beside it a bag of words, the
length, random directions with the states' covariance and non-moral contrasts fitted the same way.
Layer and site are selected here, on sentences, and nowhere else. :func:`run_transfer` asks every set
of sentences about every other.

    done = run(DirectionConfig(texts="bundled:morality", out="runs/direction"))
    done.fits.best
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import IGNORED, listed
from interp.activations import Site
from interp.data import LabelledText, dataset_hash, load_texts
from interp.directions import (
    METHODS,
    DirectionFits,
    FitMethod,
    Transfer,
    fit_directions,
    load_direction,
    transfer_matrix,
    word_baselines,
)
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.runs import Run, open_run


class DirectionConfig(BaseModel):
    """What is fitted; stored in the manifest and compared on resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    texts: str = "bundled:morality"
    positive: str | None = Field(default=None, description="the label that becomes + in a table")
    limit: int | None = Field(default=None, ge=4, description="texts, drawn by whole groups")
    methods: tuple[FitMethod, ...] = Field(default=METHODS, min_length=1)
    sites: tuple[Site, ...] = Field(default=("resid_post", "attn_out", "mlp_out"), min_length=1)
    folds: int = Field(default=5, ge=2)
    shuffles: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = False
    out: Path = Path("runs/direction")

    _lists = field_validator("methods", "sites", mode="before")(listed)


class TransferConfig(BaseModel):
    """Which sets are compared; stored in the manifest and compared on resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    texts: tuple[str, ...] = Field(
        default=(
            "bundled:morality",
            "bundled:statements",
            "bundled:contrasts:sentiment",
            "crows-pairs",
            "stereoset",
        ),
        min_length=2,
    )
    limit: int | None = Field(default=400, ge=4, description="texts of each set, by whole groups")
    method: FitMethod = "mean_difference"
    site: Site = "resid_post"
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = False
    out: Path = Path("runs/transfer")

    _lists = field_validator("texts", mode="before")(listed)


@dataclass(frozen=True)
class DirectionRun:
    """What was fitted, of which sentences, and where the report is."""

    config: DirectionConfig
    card: ModelCard
    texts: tuple[LabelledText, ...]
    fits: DirectionFits
    report: Path


@dataclass(frozen=True)
class TransferRun:
    """The matrix over the sets, and where the report is."""

    config: TransferConfig
    card: ModelCard
    transfer: Transfer
    report: Path


def run(config: DirectionConfig, *, progress: bool = True) -> DirectionRun:
    """Fit (or take the finished fit of the folder) and write the run folder.

    Raises:
        InterpError: texts that cannot be read or split, a site the model does not have, or a folder
            that holds another run.
    """
    from analyses.direction_story import write_fit_story

    texts = load_texts(
        config.texts,
        positive=config.positive,
        limit=config.limit,
        seed=config.seed,
        progress=progress,
    )
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data={config.texts: dataset_hash(texts)},
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        fits = _fits(folder, model, texts, config, progress)
        done = DirectionRun(config, card, texts, fits, config.out / "report.html")
        for name, frame in (("scores", fits.to_dataframe()), ("best", fits.best)):
            folder.save_table(name, frame)
            folder.save_text(f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_fit_story(folder, done)
    return done


def _fits(
    folder: Run,
    model: TransformerBridge,
    texts: Sequence[LabelledText],
    config: DirectionConfig,
    progress: bool,
) -> DirectionFits:
    """One unit of the ledger: the null directions' table; the directions are files beside it."""

    def compute(unit: str) -> pd.DataFrame:
        fits = fit_directions(
            model,
            texts,
            methods=config.methods,
            sites=config.sites,
            n_folds=config.folds,
            n_shuffles=config.shuffles,
            seed=config.seed,
            progress=progress,
        )
        for (method, site), stack in fits.stacks.items():
            with folder.file(_file_of(method, site)) as path:
                stack.save(path)
        return fits.nulls

    table = folder.ledger("nulls")
    table.run([config.texts], key=str, compute=compute, progress=False)
    return DirectionFits(
        stacks={
            (method, site): load_direction(folder.path / _file_of(method, site))
            for method in config.methods
            for site in config.sites
        },
        baselines=word_baselines(texts, n_folds=config.folds, seed=config.seed),
        nulls=table.merge(),
    )


def _file_of(method: str, site: str) -> str:
    return f"directions/{method}-{site}.safetensors"


def run_transfer(config: TransferConfig, *, progress: bool = True) -> TransferRun:
    """Fit on every set, test on every set, and write the run folder.

    Raises:
        InterpError: see :func:`run`; names the set.
    """
    from analyses.direction_story import write_transfer_story

    sets = {
        name: load_texts(name, limit=config.limit, seed=config.seed, progress=progress)
        for name in config.texts
    }
    short = _short_names(config.texts)
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data={name: dataset_hash(texts) for name, texts in sets.items()},
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:

        def compute(unit: str) -> pd.DataFrame:
            return transfer_matrix(
                model,
                {short[name]: texts for name, texts in sets.items()},
                method=config.method,
                site=config.site,
                n_folds=config.folds,
                seed=config.seed,
                progress=progress,
            ).frame

        table = folder.ledger("transfer")
        table.run(["all sets"], key=str, compute=compute, progress=False)
        frame = table.merge()
        folder.save_text("transfer.csv", frame.to_csv(index=False, lineterminator="\n"))
        transfer = Transfer(frame, config.method, config.site)
        done = TransferRun(config, card, transfer, config.out / "report.html")
        write_transfer_story(folder, done)
    return done


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Names for tables and figures: without ``bundled:`` or folders, the bare kind where unique."""
    kinds = [name.partition(":")[0] for name in names]
    short = {}
    for name, kind in zip(names, kinds, strict=True):
        rest = Path(name.partition(":")[2]).name
        short[name] = kind if kind != "bundled" and kinds.count(kind) == 1 else rest or name
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def show(path: Path) -> pd.DataFrame:
    """What a direction file says about itself: property and value.

    Raises:
        InterpError: not a direction file.
    """
    stack = load_direction(path)
    facts = stack.facts
    best = stack.auc.at(stack.layers.index(stack.best_layer))
    null = stack.shuffled
    row = stack.layers.index(stack.best_layer)
    shuffled = (
        f"{null.mean[row]:.3f} [{null.low[row]:.3f}, {null.high[row]:.3f}], p = {null.p[row]:.3g} "
        f"({null.n_shuffles} shuffles)"
        if null.n_shuffles
        else "not shuffled"
    )
    rows = [
        ("method", facts.method),
        ("learned from", f"{facts.n_texts} texts of {facts.source}"),
        ("data hash", facts.data_hash),
        ("sign", facts.sign),
        ("site", stack.site),
        ("layers", f"{stack.layers[0]} to {stack.layers[-1]} ({len(stack)})"),
        ("width", str(stack.vectors.shape[-1])),
        ("weights", facts.fingerprint),
        ("processing mode", facts.mode),
        ("best layer", str(stack.best_layer)),
        ("held-out AUC there", str(best)),
        ("under shuffled labels", shuffled),
    ]
    return pd.DataFrame(rows, columns=["property", "value"])
