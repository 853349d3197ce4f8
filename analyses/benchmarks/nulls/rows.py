"""The rows of a pool: every item under every wording, as the studies read it.

Items are independent of each other and are read in several processes; an item's folder appears when it
is complete, so an interrupted pool goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.nulls.pool import SLOTS, Plan, pool_items, variants
from analyses.config import INSTRUCTED, read_config
from analyses.demo.study import spread_layers
from analyses.patch.config import PatchConfig
from analyses.patch.study import PairUnit, PatchBench, patch_pair
from analyses.project.config import ProjectConfig
from analyses.project.study import REFERENCE_PROMPTS
from interp.activations import read_attention
from interp.behaviour import score_variants
from interp.data import ChoiceItem, load_texts
from interp.directions import fit_direction, load_direction
from interp.directions.contrast_reader import ContrastReader, contrast_reader
from interp.lens import lens_item
from interp.models import load_model, model_card
from interp.patching.sites import SweepSite
from interp.prompts import Condition, TextBank, condition_prompt, pair_of_conditions

SITE: SweepSite = "resid_pre"
DIRECTION, CARD = "direction.safetensors", "card.json"
CELLS, PARTS = "cells.parquet", "parts.parquet"
SCORES, MAPS, ARRAYS = "scores.parquet", "maps.parquet", "arrays.safetensors"

_CLEAN = Condition("clean", "clean", None)


@dataclass(frozen=True)
class Bench:
    """What items are read with: the model, the texts, and project's reader."""

    model: TransformerBridge
    bank: TextBank
    plan: Plan
    reader: ContrastReader


def make_rows(folder: Path, *, device: str, jobs: int, threads: int, deadline: float) -> int:
    """Read the items that are missing; returns how many are missing still.

    Args:
        folder: of the pool.
        device: where the model runs.
        jobs: processes; each loads the model.
        threads: of each process, where there are several.
        deadline: no item is begun after this (seconds since the epoch).
    """
    todo = missing_items(folder)
    if not todo:
        return 0
    prepare(folder, device)
    tasks = [(folder, device, number, deadline) for number in todo]
    if jobs == 1:
        for task in tqdm(tasks, desc="items"):
            _make_item(task)
        return len(missing_items(folder))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when a process starts
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        for _ in tqdm(pool.map(_make_item, tasks), total=len(tasks), desc="items"):
            pass
    return len(missing_items(folder))


def item_folder(folder: Path, number: int) -> Path:
    """Where the rows of an item are."""
    return folder / "rows" / f"{number:03d}"


def missing_items(folder: Path) -> list[int]:
    """The numbers of the items that were not read yet."""
    n = len(pool_items(folder))
    return [number for number in range(n) if not item_folder(folder, number).is_dir()]


def prepare(folder: Path, device: str) -> None:
    """The morality direction and the model's card, made once for all processes."""
    if (folder / DIRECTION).is_file() and (folder / CARD).is_file():
        return
    model, plan = _model(Plan.load(folder).model, device), Plan.load(folder)
    stack = fit_direction(model, load_texts("bundled:morality"), seed=plan.seed, progress=False)
    stack.save(folder / DIRECTION)
    (folder / CARD).write_text(json.dumps(model_card(model).to_dict()), encoding="utf-8")


def make_bench(folder: Path, model: TransformerBridge) -> Bench:
    """The bench of a pool: its reader's moments are those of the first items under six placebos."""
    plan, items, config = Plan.load(folder), pool_items(folder), read_config(ProjectConfig)
    bank = TextBank(model.tokenizer, n_ctx=model.cfg.n_ctx, seed=plan.seed)
    stack = load_direction(folder / DIRECTION)
    sample = items[: -(-REFERENCE_PROMPTS // SLOTS)]
    texts = [variants(bank, plan, item)[:SLOTS] for item in sample]
    reader = contrast_reader(
        model,
        stack,
        [
            [condition_prompt(model, item, own[k]) for item, own in zip(sample, texts, strict=True)]
            for k in range(SLOTS)
        ],
        None,  # no null directions: what exceeds them has to differ from zero first
        components=list(dict.fromkeys([stack.site, *config.components])),
        position=config.positions[0],
        seed=plan.seed,
    )
    for name, table in ((CELLS, reader.cells), (PARTS, reader.parts)):
        temporary = folder / f".{os.getpid()}-{name}"
        table.to_parquet(temporary)
        temporary.replace(folder / name)
    return Bench(model, bank, plan, reader)


def read_item(bench: Bench, number: int, item: ChoiceItem) -> Mapping[str, pd.DataFrame]:
    """The tables of an item: ``scores`` alone where no token tells its options apart, else ``maps``.

    Every wording is a slot of the condition asked about; of maps the slot is that of the pair in the
    plan's :meth:`~analyses.benchmarks.nulls.pool.Plan.pairs_of`.
    """
    texts = variants(bench.bank, bench.plan, item)
    scores = score_variants(bench.model, item, [_CLEAN, *texts])
    if scores["margin"].isna().any():
        return {SCORES: scores}
    return {SCORES: scores, MAPS: _read_maps(bench, number, item, texts)}


def read_arrays(bench: Bench, item: ChoiceItem) -> dict[str, np.ndarray]:
    """What is read at every wording: ``lens [wording, layer]`` (margin, nats), ``measured [wording,
    cell, measure]`` and ``parts [wording, part]`` along the direction, and ``attention [wording, layer,
    head]`` of later positions to the instruction."""
    model, texts = bench.model, variants(bench.bank, bench.plan, item)
    prompts = [condition_prompt(model, item, text) for text in texts]
    lens = lens_item(model, item, texts).sort_values(["slot", "layer"])
    values = bench.reader.read(prompts)
    masses = [read_attention(model, prompt).to_span("instruction") for prompt in prompts]
    return {
        "lens": lens["margin"].to_numpy(np.float64).reshape(len(texts), -1),
        "measured": np.ascontiguousarray(values.measured, dtype=np.float32),
        "parts": np.ascontiguousarray(values.parts, dtype=np.float32),
        "attention": torch.stack(masses).float().cpu().numpy(),
    }


def _read_maps(bench: Bench, number: int, item: ChoiceItem, texts: list[Condition]) -> pd.DataFrame:
    config = read_config(PatchConfig, layers=spread_layers(bench.model.cfg.n_layers), rotate=True)
    pairs = {
        (item.id, slot): pair_of_conditions(bench.model, item, texts[a], texts[b])
        for slot, (a, b) in enumerate(bench.plan.pairs_of(number))
    }
    patched = PatchBench(config, bench.model, {INSTRUCTED: pairs}, {})
    units = [PairUnit(INSTRUCTED, SITE, *name, "", "") for name in pairs]
    return pd.concat([patch_pair(patched, unit) for unit in units], ignore_index=True)


@cache
def _model(name: str, device: str) -> TransformerBridge:
    return load_model(name, device=device)


@cache
def _bench(folder: Path, device: str) -> Bench:
    """The bench of a process."""
    return make_bench(folder, _model(Plan.load(folder).model, device))


def _make_item(task: tuple[Path, str, int, float]) -> None:
    folder, device, number, deadline = task
    if time.time() >= deadline:
        return
    write_item(folder, number, _bench(folder, device))


def write_item(folder: Path, number: int, bench: Bench) -> None:
    """Read an item and write its folder, whole or not at all."""
    item, place = pool_items(folder)[number], item_folder(folder, number)
    temporary = place.with_name(f".{place.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tables = read_item(bench, number, item)
    for name, table in tables.items():
        table.to_parquet(temporary / name, index=False)
    if MAPS in tables:
        save_file(read_arrays(bench, item), temporary / ARRAYS)
    temporary.replace(place)
