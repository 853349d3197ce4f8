"""The studies of the command line, by name: one line each, nothing imported until it is asked for.

A line names the study's configuration, which is light (the command's options and help are derived from
it), and the study, which is not. A name of two words is a subcommand of the first.
"""

from __future__ import annotations

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
    "demo": Entry("analyses.demo.config:DemoConfig", "analyses.demo.study:Demo"),
    "behave": Entry(
        "analyses.behaviour.config:BehaviourConfig", "analyses.behaviour.study:Behaviour"
    ),
    "patch": Entry("analyses.patch.config:PatchConfig", "analyses.patch.study:Patch"),
    "lens": Entry("analyses.lens.config:LensConfig", "analyses.lens.study:Lens"),
    "project": Entry("analyses.project.config:ProjectConfig", "analyses.project.study:Project"),
    "attention": Entry(
        "analyses.attention.config:AttentionConfig", "analyses.attention.study:Attention"
    ),
    "circuit": Entry("analyses.circuit.config:CircuitConfig", "analyses.circuit.study:Circuit"),
    "superficiality": Entry(
        "analyses.superficiality.config:SuperficialityConfig",
        "analyses.superficiality.study:Superficiality",
    ),
    "direction fit": Entry(
        "analyses.direction.config:DirectionConfig", "analyses.direction.study:FitDirection"
    ),
    "direction transfer": Entry(
        "analyses.direction.config:TransferConfig", "analyses.direction.study:TransferDirections"
    ),
    "direction steer": Entry("analyses.steer.config:SteerConfig", "analyses.steer.study:Steer"),
}


def load_config_class(name: str) -> type[StudyConfig]:
    """The configuration of a study.

    Raises:
        InterpError: no study of this name.
    """
    found: type[StudyConfig] = _load(_entry(name).config)
    return found


def load_study(name: str) -> Any:
    """A study.

    Raises:
        InterpError: no study of this name.
    """
    return _load(_entry(name).study)()


def _entry(name: str) -> Entry:
    if name not in STUDIES:
        raise InterpError(f"no study {name!r}: {did_you_mean(name, STUDIES)}")
    return STUDIES[name]


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
