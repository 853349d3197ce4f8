"""Where the units of a step are computed: in this process, or in several.

An executor takes a :class:`Job` and the bench of this process, and gives a mapper: like ``map``, lazily
and in order. The ledger stores each unit before it asks for the next, so an interrupted run loses at
most what is under way. Tables do not depend on the executor: batches are a function of the plan, and
worker processes use the threads of this one.

    run(study, config, executor=processes(2))
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from analyses.config import StudyConfig
from analyses.study import Lab, Study
from interp.errors import InterpError
from interp.models import load_model
from interp.runs.ledger import Mapper

Compute = Callable[[Any, Any], pd.DataFrame]


@dataclass(frozen=True)
class Job:
    """What a process needs to compute units of a run; ``model_loaded_by_name``: not a live object."""

    study: Study[Any, Any, Any, Any]
    config: StudyConfig
    folder: Path
    model_loaded_by_name: bool


class Bound(Protocol):
    """Turns a step's ``compute`` into a function of the unit alone, and says how to map it."""

    def __call__(self, compute: Compute, /) -> tuple[Callable[[Any], pd.DataFrame], Mapper]:
        """The function and its mapper."""


class Executor(Protocol):
    """Opens whatever computes the units; closed when the run ends."""

    def __call__(self, job: Job, bench: Any, /) -> AbstractContextManager[Bound]:
        """A context in which steps are bound to a bench."""


@contextlib.contextmanager
def in_process(job: Job, bench: Any) -> Iterator[Bound]:
    """One unit after the other, here."""
    yield lambda compute: (partial(compute, bench), map)


def processes(n: int) -> Executor:
    """``n`` worker processes, each with a bench of its own.

    Raises:
        InterpError: (when the run begins) a model that is a live object and cannot be shipped.
    """

    @contextlib.contextmanager
    def executor(job: Job, bench: Any) -> Iterator[Bound]:
        if not job.model_loaded_by_name:
            raise InterpError(
                "a model in memory cannot be shipped to other processes: name it in the "
                "configuration (model=...), or compute in this process"
            )
        context = multiprocessing.get_context("spawn")
        threads = torch.get_num_threads()
        with context.Pool(n, initializer=_build_bench, initargs=(job, threads)) as pool:

            def mapper(
                compute: Callable[[Any], pd.DataFrame], units: Sequence[Any]
            ) -> Iterator[pd.DataFrame]:
                return pool.imap(compute, units)

            yield lambda compute: (partial(_compute_in_worker, compute), mapper)

    return executor


def loading_options(config: StudyConfig) -> dict[str, Any]:
    """How a configuration's model is loaded."""
    return {
        "device": config.device,
        "dtype": config.dtype,
        "compatibility_mode": config.compatibility_mode,
        "template_date": config.template_date,
    }


_bench: Any = None
"""The bench of a worker process."""


def _build_bench(job: Job, threads: int) -> None:
    global _bench
    torch.set_num_threads(threads)
    config = job.config
    model = load_model(config.model, progress=False, **loading_options(config))
    asked = job.study.ask(config, progress=False)
    _bench = job.study.bench(asked, Lab(model, job.folder, progress=False))


def _compute_in_worker(compute: Compute, unit: Any) -> pd.DataFrame:
    return compute(_bench, unit)
