"""What the machine can do: its matrix rate, its threads, the time and the memory that a call takes."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_SIZES = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of a product that fills the device."""


def clock(device: str | torch.device = "cpu") -> float:
    """Seconds of a clock, read when all that was asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_rate(
    size: int | None = None,
    repeats: int = 10,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """FLOP/s of a square matrix product, by default of a size that fills the device."""
    size = size or _SIZES.get(torch.device(device).type, _SIZES["cpu"])
    matrix = torch.randn(size, size, device=device).to(dtype)
    for _ in range(1 if torch.device(device).type == "cpu" else repeats):
        matrix @ matrix  # a card takes some products to choose a kernel and to raise its clock
    started = clock(device)
    for _ in range(repeats):
        matrix @ matrix
    return repeats * 2 * size**3 / (clock(device) - started)


def threads() -> str:
    """``2 threads``."""
    n = torch.get_num_threads()
    return f"{n} thread" + ("s" if n > 1 else "")


def device_name(device: str | torch.device) -> str:
    """The card's name, or the processor's architecture with the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {threads()}"


@dataclass
class Peak:
    """Bytes above the beginning, filled in at the end; of the CPU NaN off Linux."""

    n_bytes: float = float("nan")


@contextmanager
def peak_memory(device: str | torch.device = "cpu") -> Iterator[Peak]:
    """The largest growth inside the block: of resident memory as Linux counts it, or of the memory
    that torch has allocated on a card."""
    peak = Peak()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        yield peak
        peak.n_bytes = float(torch.cuda.max_memory_allocated(device) - held)
        return
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
