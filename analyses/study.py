"""What a research question is: a study.

A study declares what is asked (its configuration), gathers everything that can be known or refused
without a model (:meth:`Study.ask`), prepares what the measuring needs (:meth:`Study.bench`), lists the
measurements as tables of plain units (:meth:`Study.steps`), reads the saved tables
(:meth:`Study.read`) and tells the result (:meth:`Study.story`). The last two are pure functions, so a
finished run is reopened from its folder without a model; units are plain data and computed by
module-level functions, so they can be shipped to another process.

:mod:`analyses.runner` runs a study: it makes the folder, drives the steps through ledgers, writes the
tables and the page. A study itself writes nothing.

    done = run(Lens(), LensConfig(items="bbq:Age", out="runs/lens"))
    again = load("runs/lens")       # the same result, without a model
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from analyses.config import StudyConfig
from interp import runs
from interp.errors import InterpError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from transformer_lens.model_bridge import TransformerBridge

    from interp.models import ModelCard
    from interp.runs import Run
    from interp.viz import Section


class Asked(Protocol):
    """What is known before a model is loaded. ``data_hashes`` name what the prompts are made of."""

    @property
    def data_hashes(self) -> Mapping[str, str]:
        """Hashes of data sets, conditions and files by name: part of a run's identity."""


@dataclass(frozen=True)
class Step:
    """One table of the run: its units of work, and how a unit becomes rows.

    ``units`` are plain data that can be pickled; ``key`` describes a unit in JSON values that decide
    its rows (its prompts by :func:`analyses.contrast.digest_prompts`); ``compute`` is a module-level
    function of the bench and a unit. ``stream``: the table is too large for memory, is written unit
    by unit and not handed back to the generator. ``lines``: text files made of a column of text, by
    file name: one line a row, empty cells left out (not with ``stream``).
    """

    table: str
    units: Sequence[Any]
    key: Callable[[Any], Any]
    compute: Callable[[Any, Any], pd.DataFrame]
    stream: bool = False
    lines: Mapping[str, str] = field(default_factory=dict)


Steps: TypeAlias = "Generator[Step, pd.DataFrame, None]"
"""Yields steps; each comes back as its merged table, so a later step may need an earlier one."""


@dataclass(frozen=True)
class Lab:
    """What a bench is built from: a loaded model, and the run's folder for files made once.

    ``folder`` is where files are; ``open_run`` is called by the first file that has to be made (a
    worker has none: whoever built its bench first has made them).
    """

    model: TransformerBridge
    folder: Path
    progress: bool = True
    open_run: Callable[[], Run] | None = None

    def file(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file ``name`` of the run, made by ``make(path)`` where it is not there yet.

        Raises:
            InterpError: a missing file where none can be made.
        """
        path = self.folder / name
        if self.open_run is None:
            if not path.is_file():
                raise InterpError(f"{path}: is missing: run the command again")
            return path
        run = self.open_run()
        if not path.is_file():
            with run.file(name) as temporary:
                make(temporary)
        return path


@dataclass(frozen=True)
class Saved:
    """A run's folder as its reading sees it: tables, files, and the card of the model it ran on.

    ``part`` names the study that the tables belong to, where the run is composed of several;
    ``given`` are tables that its composition made of others.
    """

    folder: Path
    card: ModelCard
    part: str = ""
    given: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """A merged table. Raises InterpError if there is none."""
        own = in_part(self.part, name)
        return self.given[own] if own in self.given else runs.read_table(self.folder, own)

    def has(self, name: str) -> bool:
        """Whether the run made this table."""
        return (self.folder / f"{in_part(self.part, name)}.parquet").is_file()

    def parts(self, name: str) -> Iterator[pd.DataFrame]:
        """A streamed table unit by unit, in constant memory. Raises InterpError if there is none."""
        return runs.read_parts(self.folder, in_part(self.part, name))

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.folder / name

    @property
    def report(self) -> Path:
        """The run's page."""
        return self.path("report.html")


def in_part(part: str, table: str) -> str:
    """The name of a table of one of several studies in a run: ``patch-totals``."""
    return f"{part}-{table}" if part else table


@dataclass(frozen=True)
class Story:
    """How a result is told: the page's sections, and every figure by its file name.

    ``headline`` is the one line that a command ends with and a list of runs shows: the effect asked
    about with its interval, and what it is judged to be. ``pages`` are further HTML pages by their
    file's name, written among the figures; ``copies`` are pages that were asked for elsewhere, by their
    path. ``printed`` is a table that the command prints at its end.
    """

    title: str
    sections: Sequence[Section]
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[Path, str] = field(default_factory=dict)
    printed: pd.DataFrame | None = None
    headline: str = ""


ConfigT = TypeVar("ConfigT", bound=StudyConfig)
AskedT = TypeVar("AskedT", bound=Asked)
BenchT = TypeVar("BenchT")
ResultT = TypeVar("ResultT")


class Study(Protocol[ConfigT, AskedT, BenchT, ResultT]):
    """One research question. Implementations hold no state and can be pickled.

    ``name`` is that of the command and of the manifest; ``Config`` declares what is asked.
    """

    name: str
    Config: type[ConfigT]

    def ask(self, config: ConfigT, *, progress: bool = True) -> AskedT:
        """Items, conditions and hashes, and every refusal that needs no model.

        Raises:
            InterpError: what cannot be asked, in one line.
        """
        ...

    def bench(self, asked: AskedT, lab: Lab) -> BenchT:
        """What the steps compute with: the model, a text bank, fitted files. Rebuilt per worker.

        Raises:
            InterpError: what this model or its tokenizer cannot do, before a folder is made.
        """
        ...

    def steps(self, asked: AskedT, bench: BenchT) -> Steps:
        """The run's tables, in order."""
        ...

    def read(self, asked: AskedT, saved: Saved) -> ResultT:
        """The result: statistics on saved rows. Pure."""
        ...

    def tables(self, result: ResultT) -> Mapping[str, pd.DataFrame]:
        """The tables derived by :meth:`read`, written beside those of the steps (parquet and CSV).

        The first that holds effects with intervals is the main one: what runs are compared by.
        """
        ...

    def story(self, result: ResultT) -> Story:
        """Sections and figures. Pure."""
        ...
