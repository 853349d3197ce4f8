"""What the machine can do: its matrix rate, its threads, the memory a call takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


def matrix_rate(size: int = 2048, repeats: int = 10) -> float:
    """FLOP/s of a float32 matrix product."""
    matrix = torch.randn(size, size)
    matrix @ matrix
    started = time.perf_counter()
    for _ in range(repeats):
        matrix @ matrix
    return repeats * 2 * size**3 / (time.perf_counter() - started)


def threads() -> str:
    """``2 threads``."""
    n = torch.get_num_threads()
    return f"{n} thread" + ("s" if n > 1 else "")


@dataclass
class Peak:
    """Bytes of resident memory above the beginning, filled in at the end; NaN without /proc."""

    n_bytes: float = float("nan")


@contextmanager
def peak_memory(every: float = 0.002) -> Iterator[Peak]:
    """The largest growth of the process's resident memory inside the block (sampled)."""
    peak, done = Peak(), threading.Event()
    if not Path("/proc/self/statm").exists():
        yield peak
        return
    start = _resident()
    largest = [start]

    def sample() -> None:
        while not done.wait(every):
            largest[0] = max(largest[0], _resident())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.n_bytes = float(max(largest[0], _resident()) - start)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
