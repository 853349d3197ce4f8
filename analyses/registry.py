"""The studies of the command line, by name: an entry each, nothing imported until it is asked for.

An entry names the study's configuration and what asks, which are light (the command's options, help and
refusals come from them), and the study, which is not. A name of two words is a subcommand of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from analyses.config import StudyConfig
from interp.errors import InterpError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """Where a study is: ``package.module:Class`` of its configuration, and of itself.

    ``ask``: the function behind :meth:`analyses.study.Study.ask` in a module that loads neither torch
    nor pandas, so that what is asked wrongly is answered at once; empty where it has none.
    """

    config: str
    study: str
    ask: str = ""


STUDIES: dict[str, Entry] = {
    "demo": Entry(
        "analyses.demo.config:DemoConfig", "analyses.demo.study:Demo", "analyses.demo.asked:ask"
    ),
    "behave": Entry(
        "analyses.behaviour.config:BehaviourConfig",
        "analyses.behaviour.study:Behaviour",
        "analyses.behaviour.asked:ask",
    ),
    "patch": Entry(
        "analyses.patch.config:PatchConfig",
        "analyses.patch.study:Patch",
        "analyses.patch.asked:ask",
    ),
    "lens": Entry(
        "analyses.lens.config:LensConfig",
        "analyses.lens.study:Lens",
        "analyses.contrast:ask_contrast",
    ),
    "project": Entry(
        "analyses.project.config:ProjectConfig",
        "analyses.project.study:Project",
        "analyses.project.asked:ask",
    ),
    "attention": Entry(
        "analyses.attention.config:AttentionConfig",
        "analyses.attention.study:Attention",
        "analyses.contrast:ask_contrast",
    ),
    "circuit": Entry(
        "analyses.circuit.config:CircuitConfig",
        "analyses.circuit.study:Circuit",
        "analyses.circuit.asked:ask",
    ),
    "superficiality": Entry(
        "analyses.superficiality.config:SuperficialityConfig",
        "analyses.superficiality.study:Superficiality",
        "analyses.superficiality.asked:ask",
    ),
    "direction fit": Entry(
        "analyses.direction.config:DirectionConfig",
        "analyses.direction.study:FitDirection",
        "analyses.direction.asked:ask_fit",
    ),
    "direction transfer": Entry(
        "analyses.direction.config:TransferConfig",
        "analyses.direction.study:TransferDirections",
        "analyses.direction.asked:ask_transfer",
    ),
    "direction steer": Entry(
        "analyses.steer.config:SteerConfig",
        "analyses.steer.study:Steer",
        "analyses.steer.asked:ask",
    ),
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


def load_ask(name: str) -> Callable[..., Any]:
    """What a study asks with, ``ask(config, progress=...)``, without loading the study.

    Raises:
        InterpError: no study of this name.
    """
    place = _entry(name).ask
    found: Callable[..., Any] = _load(place) if place else load_study(name).ask
    return found


def _entry(name: str) -> Entry:
    if name not in STUDIES:
        raise InterpError(f"no study {name!r}: {did_you_mean(name, STUDIES)}")
    return STUDIES[name]


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
