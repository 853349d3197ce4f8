"""What the machine can do: its matrix rate, its threads, the memory a call takes."""

from __future__ import annotations

import ctypes
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
    """Bytes of resident memory above the beginning, filled in at the end; NaN off Linux."""

    n_bytes: float = float("nan")


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """The largest growth of the process's resident memory inside the block, as Linux counts it."""
    peak = Peak()
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        start = _kib("VmRSS")
    except OSError:
        yield peak
        return
    yield peak
    peak.n_bytes = 1024.0 * (_kib("VmHWM") - start)


def _give_back() -> None:
    """Freed memory that the allocator still holds goes back, so that its reuse is counted."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
