"""The studies of the command line, by name: one line each, nothing imported until it is asked for.

A line names the study's configuration, which is light (the command's options and help are derived from
it), and the study, which is not. A name of two words is a subcommand of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from analyses.config import StudyConfig
from interp.errors import InterpError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """Where a study's configuration and the study itself are: ``package.module:Class``."""

    config: str
    study: str


STUDIES: dict[str, Entry] = {
    "behave": Entry(
        "analyses.behaviour.config:BehaviourConfig", "analyses.behaviour.study:Behaviour"
    ),
    "lens": Entry("analyses.lens.config:LensConfig", "analyses.lens.study:Lens"),
}


def load_config_class(name: str, studies: Mapping[str, Entry] = STUDIES) -> type[StudyConfig]:
    """The configuration of a study.

    Raises:
        InterpError: no study of this name.
    """
    found: type[StudyConfig] = _load(_entry(name, studies).config)
    return found


def load_study(name: str, studies: Mapping[str, Entry] = STUDIES) -> Any:
    """A study.

    Raises:
        InterpError: no study of this name.
    """
    return _load(_entry(name, studies).study)()


def _entry(name: str, studies: Mapping[str, Entry]) -> Entry:
    if name not in studies:
        raise InterpError(f"no study {name!r}: {did_you_mean(name, studies)}")
    return studies[name]


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
