"""Known models as files: weights, cards and truths, where the package looks for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import Tensor
from tqdm.auto import tqdm

from analyses.known.training import places_of, train
from analyses.known.truths import truth_of
from interp.known.arms import ARMS, TrainedArm
from interp.known.registry import program_of
from interp.known.task import CONTENTS
from interp.known.trained import N_SEEDS

TASKS = "tasks.json"


def write_compiled(names: Sequence[str], folder: Path) -> None:
    """Compile programs; one safetensors file and one card each."""
    from analyses.known.compiled import compile_program  # Tracr, of the extra `known`

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        compiled = compile_program(program_of(name))
        tensors: dict[str, npt.NDArray[np.generic]] = {}
        for key, weight in compiled.weights.items():
            flat = weight.astype(np.float32).reshape(-1)
            (where,) = flat.nonzero()
            if len(where):  # compiled weights are mostly zeros
                tensors[f"{key}:where"] = where.astype(np.int32)
                tensors[f"{key}:values"] = flat[where]
        save_file(tensors, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(_card_text(compiled.card), encoding="utf-8")


def write_trained(
    names: Sequence[str], folder: Path, truths: Path, *, jobs: int = 1, progress: bool = True
) -> None:
    """Train ten models of each arm; an arm's files are written when its last model is done.

    Args:
        names: arms.
        folder: of the weights, float16, every parameter ``[seed, ...]``.
        truths: folder of the truth files.
        jobs: processes, one core each.
        progress: show a bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truths.mkdir(parents=True, exist_ok=True)
    write_tasks(folder)
    tasks = [(name, seed) for name in names for seed in range(N_SEEDS)]
    weights: dict[str, list[dict[str, Tensor]]] = {name: [] for name in names}
    with ProcessPoolExecutor(jobs) as pool:
        done = pool.map(_train, *zip(*tasks, strict=True))
        for (name, _), one in tqdm(
            zip(tasks, done, strict=True), total=len(tasks), desc="training", disable=not progress
        ):
            weights[name].append(one)
            if len(weights[name]) == N_SEEDS:
                save_tensors(_stacked(weights.pop(name)), folder / f"{name}.safetensors")
                write_truth(ARMS[name], truths)


def write_tasks(folder: Path) -> None:
    """What a reader of the models is given: the labels of contents, by arm."""
    tasks = {
        arm.name: {c: arm.label(c) for c in CONTENTS if c in arm.contents} for arm in ARMS.values()
    }
    text = ",\n".join(f" {_json(name)}: {_json(labels)}" for name, labels in tasks.items())
    (folder / TASKS).write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def write_truth(arm: TrainedArm, folder: Path) -> None:
    """The truth file of an arm, and the vectors of its places, ``[seed, d_model]`` each."""
    of_seed = [places_of(arm, seed) for seed in range(N_SEEDS)]
    vectors = {}
    for places in zip(*of_seed, strict=True):
        own = [place.vector for place in places if place.vector is not None]
        if own:
            vectors[str(places[0].variable)] = torch.stack(own)
    save_tensors(vectors, folder / f"{arm.name}.safetensors")
    (folder / f"{arm.name}.json").write_text(_card_text(truth_of(arm)), encoding="utf-8")


def _train(name: str, seed: int) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return {key: weight.half() for key, weight in train(ARMS[name], seed).items()}


def _stacked(weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Every parameter ``[seed, ...]``; biases of norms of those that have them."""
    keys = dict.fromkeys(key for one in weights for key in one)
    return {key: torch.stack([one[key] for one in weights if key in one]) for key in keys}


def _card_text(card: dict[str, Any]) -> str:
    """JSON with one entry a line, down to the second level."""
    lines = []
    for key, value in card.items():
        if isinstance(value, dict) and value:
            inner = [f"  {_json(name)}: {_json(entry)}" for name, entry in value.items()]
            lines.append(f" {_json(key)}: {{\n" + ",\n".join(inner) + "\n }")
        elif isinstance(value, list) and value and isinstance(value[0], dict | list):
            inner = [f"  {_json(entry)}" for entry in value]
            lines.append(f" {_json(key)}: [\n" + ",\n".join(inner) + "\n ]")
        else:
            lines.append(f" {_json(key)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
