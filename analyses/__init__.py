"""One folder per research question on one small protocol, and the command line.

from analyses import compare, load

load("runs/age").totals                     # a finished run, without a model
compare(["runs/small", "runs/large"])       # one table of several runs, side by side
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {"compare": "analyses.comparison", "load": "analyses.runner", "run": "analyses.runner"}

__all__ = ["compare", "load", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
