"""The pool that draws are made from: the studies' own rows of many placebos on many items.

Wordings come in pairs of equal token counts: one poses as the instruction, the other as its placebo.
Six pairs make a *round*, which is a condition file with ``instructed`` and ``placebo`` of its own.
The studies that ask every item with every wording (behave, lens, project) run once on all pairs, the
demo's rotating patch once per round: there item ``k`` is asked with pair ``k % 6`` of the round, so a
draw may take each of its six pairs from another round. Patching also runs from the
placebo into the instruction, so that a draw can exchange the two.

A pool's folder holds ``items.jsonl``, the condition files and a run folder per study; items and files
are written first, so a machine without data sets can make the rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import CLAIM_TEXTS, INSTRUCTED, StudyConfig, read_config
from analyses.contrast import CONTROL
from analyses.demo.study import spread_layers
from analyses.registry import load_study
from analyses.runner import run
from interp.data import ChoiceItem
from interp.data.bundle import bundled_instructions
from interp.data.tables import read_jsonl
from interp.errors import InterpError
from interp.prompts import TextBank

ROUND = CLAIM_TEXTS
"""Pairs of a round: what a report needs for a claim."""

ITEMS, ALL = "items.jsonl", "conditions.yaml"

Pair = tuple[str, str]


@dataclass(frozen=True)
class PoolRun:
    """A run of the pool: its folder's name, its study and its options beside the shared ones."""

    name: str
    study: str
    options: dict[str, Any]

    def config(self, folder: Path) -> StudyConfig:
        """The study's configuration in a pool's folder."""
        shared = {"items": str(folder / ITEMS), "limit": count_items(folder)}
        files = {"condition_file": folder / self.options["condition_file"]}
        options = shared | self.options | files | {"out": folder / self.name}
        return read_config(load_study(self.study).Config, **options)


def read_wordings(path: Path | None) -> list[str]:
    """The texts to pair: the bundled placebos, or the field ``text`` of every line of a JSONL file.

    Raises:
        InterpError: a line without a text.
    """
    if path is None:
        return [one.text for one in bundled_instructions() if one.kind == "placebo"]
    texts = []
    for line, row in read_jsonl(path):
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InterpError(f"{path}, line {line}: the field 'text' must be a sentence")
        texts.append(text.strip())
    return list(dict.fromkeys(texts))


def equal_pairs(
    texts: Sequence[str], count: Callable[[str], int], *, usual: int, n_pairs: int, seed: int
) -> list[Pair]:
    """Pairs of equal token counts, the counts nearest to ``usual`` first, in random order.

    Raises:
        InterpError: fewer pairs than a round takes.
    """
    rng = np.random.default_rng([seed, len(texts)])
    by_count: dict[int, list[str]] = defaultdict(list)
    for text in rng.permutation(np.array(texts, dtype=object)):
        by_count[count(text)].append(text)
    found = [
        (abs(n - usual), pair)
        for n, same in by_count.items()
        for pair in zip(same[::2], same[1::2], strict=False)
    ]
    nearest = [pair for _, pair in sorted(found, key=lambda one: one[0])][:n_pairs]
    whole = len(nearest) // ROUND * ROUND
    if not whole:
        raise InterpError(
            f"{len(texts)} wordings give {len(found)} pairs of equal token count, a round takes "
            f"{ROUND}: give more wordings"
        )
    return [nearest[k] for k in rng.permutation(whole)]


def write_pool(
    folder: Path,
    bank: TextBank,
    texts: Sequence[str],
    items: Sequence[ChoiceItem],
    *,
    n_pairs: int,
    seed: int,
) -> None:
    """The files that the runs are made of: items and conditions.

    Raises:
        InterpError: as :func:`equal_pairs`.
    """
    usual = bank.count(bank.wordings(INSTRUCTED, 1)[0].text or "")
    pairs = equal_pairs(texts, bank.count, usual=usual, n_pairs=n_pairs, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    _write_conditions(folder / ALL, pairs)
    for k in range(0, len(pairs), ROUND):
        _write_conditions(folder / round_file(k // ROUND), pairs[k : k + ROUND])
    lines = [json.dumps(asdict(item)) for item in items]
    (folder / ITEMS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def round_file(number: int) -> str:
    """The condition file of a round."""
    return f"round-{number:02d}.yaml"


def count_items(folder: Path) -> int:
    """Items of a pool."""
    return sum(1 for _ in read_jsonl(folder / ITEMS))


def count_rounds(folder: Path) -> int:
    """Rounds of a pool.

    Raises:
        InterpError: no pool there.
    """
    n = len(list(folder.glob("round-*.yaml")))
    if not n:
        raise InterpError(f"{folder}: no pool of rows there: run without --draw-only first")
    return n


def pool_runs(folder: Path, n_layers: int) -> Iterator[PoolRun]:
    """All runs of a pool for a model with so many layers."""
    n_rounds = count_rounds(folder)
    every = {"condition_file": ALL, "texts": n_rounds * ROUND}
    conditions = ("clean", INSTRUCTED, "placebo", CONTROL)
    asked = {"conditions": conditions, "rounds": 0, "other_texts": ROUND}
    yield PoolRun("behaviour", "behave", every | asked)
    yield PoolRun("lens", "lens", every)
    yield PoolRun("project", "project", every)
    for number in range(n_rounds):
        turn = {"condition_file": round_file(number), "texts": ROUND, "rotate": True}
        if number == 0:
            yield PoolRun("attention", "attention", turn)
        there = turn | {"layers": spread_layers(n_layers), "control": number == 0}
        yield PoolRun(f"patch-{number:02d}", "patch", there)
        back = {"condition": "placebo", "against": INSTRUCTED, "control": False}
        yield PoolRun(f"back-{number:02d}", "patch", there | back)


def make_rows(folder: Path, model: TransformerBridge, *, progress: bool = True) -> None:
    """Run every study of the pool, or go on with what is unfinished."""
    for one in pool_runs(folder, model.cfg.n_layers):
        config = one.config(folder)
        run(load_study(one.study), config, model=model, progress=progress)


def _write_conditions(path: Path, pairs: Sequence[Pair]) -> None:
    sides = zip(*pairs, strict=True)
    told = "placebos that pose as the instruction", "the placebos they are compared with"
    conditions = {
        name: {"description": what, "texts": list(texts), "replaces": True}
        for name, what, texts in zip((INSTRUCTED, "placebo"), told, sides, strict=True)
    }
    conditions["placebo"]["control"] = "none"
    text = yaml.safe_dump(conditions, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
