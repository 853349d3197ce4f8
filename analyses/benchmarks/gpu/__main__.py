"""``python -m analyses.benchmarks.gpu``: see :mod:`analyses.benchmarks.gpu`."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.gpu.measure import Sizes, exact_rows, score_row, sweep_rows
from analyses.benchmarks.gpu.models import SHAPES, TINY, Shape, bridge_of, random_weights
from analyses.benchmarks.machine import device_name, matrix_rate
from interp.data import ChoiceItem, load_items
from interp.models import load_model, model_entry, model_names
from interp.models.limits import out_of_memory

SITES = ("resid_pre", "z")
DTYPES = ("bfloat16", "float32")
TINY_SIZES = Sizes(24, 8, (1, 2), 64 << 20, 6, most_seconds=1.0)
CUT = 4
"""Layers of the shape that is run on the CPU too."""

_FEWEST_SECONDS = 2.0
"""A part with less than this left is not begun."""


@dataclass
class Tables:
    """Rows by table, printed and written as they come; and the time that the parts share."""

    into: Path | None
    ends: float
    parts: int
    """Parts to come; those left share the time that is left."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        """Seconds to the end."""
        return self.ends - time.perf_counter()

    def share(self, sizes: Sizes) -> float:
        """Seconds of the next part."""
        return min(self.left() / max(self.parts, 1), sizes.most_seconds)

    def add(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Print the whole table, which an interrupted run has kept then."""
        self.rows.setdefault(table, []).extend(rows)
        frame = pd.DataFrame(self.rows[table])
        self.say(table)
        print(
            frame.to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3g}"), flush=True
        )
        if self.into is not None:
            self.into.mkdir(parents=True, exist_ok=True)
            frame.to_csv(self.into / f"{table}.csv", index=False)

    def say(self, what: str) -> None:
        """A line with the time since the start."""
        print(f"[{time.perf_counter() - self.started:.0f} s] {what}", flush=True)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """One part; memory that runs out ends it alone."""
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            self.say(f"{what}: not measured, memory ran out")
        finally:
            self.parts -= 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> Tables:
    """Run the benchmark with the sizes given on the command line."""
    asked = _parse(arguments)
    if (
        not asked.tiny
        and torch.device(asked.device).type == "cuda"
        and not torch.cuda.is_available()
    ):
        raise SystemExit("no CUDA device here: --tiny runs the benchmark's code on the CPU")
    device = "cpu" if asked.tiny else asked.device
    torch.set_float32_matmul_precision("highest")  # no TensorFloat-32: float32 is to be exact
    shapes = {shape.name: shape for shape in (TINY if asked.tiny else SHAPES)}
    everything = [*shapes, *(() if asked.tiny else model_names())]
    names = asked.models.split(",") if asked.models else everything
    sizes = TINY_SIZES if asked.tiny else _sizes(asked)
    dtypes = asked.dtypes.split(",")
    sites = asked.sites.split(",")
    ends = time.perf_counter() + 60 * asked.minutes
    tables = Tables(asked.into, ends, 1 + len(names) * len(dtypes) * (1 + len(sites)))
    rates = {dtype: _rate(device, dtype, asked.tiny) for dtype in dtypes}
    said = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {dtype}" for dtype, rate in rates.items())
    tables.say(f"{device_name(device)}, torch {torch.__version__}, matrix rate {said}")
    with tables.part("exactness"):
        first = next(iter(shapes.values()))
        fewer = Sizes(sizes.length, min(sizes.changed, 16), (), sizes.max_bytes)
        tables.add("exactness", exact_rows(first.cut(CUT), device, fewer, sites))
    items = load_items("bundled")
    for name in names:
        for dtype in dtypes:
            _measure(
                tables, name, shapes.get(name), dtype, device, sizes, sites, rates[dtype], items
            )
    tables.say("done")
    return tables


def _measure(
    tables: Tables,
    name: str,
    shape: Shape | None,
    dtype: str,
    device: str,
    sizes: Sizes,
    sites: Sequence[str],
    rate: float,
    items: Sequence[ChoiceItem],
) -> None:
    """All parts of one model in one dtype."""
    label = f"{name}, {dtype}"
    reason = ""
    if shape is None and not model_entry(name).folder.is_dir():
        reason = "its weights are not in the cache"
    elif tables.left() < _FEWEST_SECONDS:
        reason = "the time is over"
    model = None
    if not reason:
        with tables.part(f"{label}, scoring"):
            model = _model(name, shape, dtype, device)
            tables.say(f"{label}: loaded")
            tables.add("scoring", [score_row(model, items, tables.share(sizes))])
    if model is None:
        tables.say(f"{label}: not measured, {reason or 'it does not fit into memory'}")
        tables.parts -= len(sites) + bool(reason)
        return
    for site in sites:
        with tables.part(f"{label}, {site}"):
            tables.add("sweeps", sweep_rows(model, site, sizes, rate, tables.share(sizes)))


def _model(name: str, shape: Shape | None, dtype: str, device: str) -> TransformerBridge:
    gc.collect()  # the one before may be a circle of references
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if shape is None:
        return load_model(name, device=device, dtype=dtype)  # type: ignore[arg-type]
    return bridge_of(random_weights(shape, device, getattr(torch, dtype)), name)


def _rate(device: str, dtype: str, tiny: bool) -> float:
    kind = getattr(torch, dtype)
    return matrix_rate(256, 2, dtype=kind) if tiny else matrix_rate(device=device, dtype=kind)


def _sizes(asked: argparse.Namespace) -> Sizes:
    batches = tuple(int(size) for size in asked.batches.split(","))
    return Sizes(asked.length, asked.changed, batches, asked.max_mib << 20)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The workbench on a graphics card.")
    parser.add_argument(
        "--models", default="", help="of the shapes and the catalogue; default: all"
    )
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--sites", default=",".join(SITES))
    parser.add_argument("--length", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--changed", type=int, default=64, help="of which the last differ, at most")
    parser.add_argument("--batches", default="1,8,32", help="TransformerLens's batch sizes")
    parser.add_argument("--max-mib", type=int, default=8192, help="budget of ours")
    parser.add_argument("--minutes", type=float, default=6.0, help="what the parts share")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--into", type=Path, help="a folder for the rows, one CSV per table")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
