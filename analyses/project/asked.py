"""What a projection run asks of any model, and what it refuses without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyses.contrast import Question, ask_contrast, require_position
from analyses.project.config import ProjectConfig
from interp.data import dataset_hash, load_texts
from interp.directions.stored import read_header
from interp.errors import InterpError
from interp.fetch.cache import sha256_of

if TYPE_CHECKING:
    from interp.directions import DirectionStack


@dataclass(frozen=True)
class ProjectQuestion(Question[ProjectConfig]):
    """What is asked, with the direction of the user's file where there is one."""

    given: DirectionStack | None


def ask(config: ProjectConfig, *, progress: bool = True) -> ProjectQuestion:
    """Items, conditions and the direction given; a file is identified by its content."""
    if config.direction is not None:
        read_header(config.direction)  # refuses what is none
    for position in config.positions:
        require_position(position, ("last", "all", "mean"))
    question = ask_contrast(config, progress=progress)
    if "mean" in config.positions:
        raise InterpError(
            "--positions mean: includes positions before the instruction, which cannot change; "
            "choose last, a span or span:last"
        )
    given, hashes = None, dict(question.data_hashes)
    if config.direction is None:
        hashes["bundled:morality"] = dataset_hash(load_texts("bundled:morality"))
    else:
        from interp.directions import load_direction  # heavy: only a file that can be one

        given = load_direction(config.direction)
        hashes["direction"] = sha256_of(config.direction)
    return ProjectQuestion(question.config, question.items, question.specs, hashes, given)
