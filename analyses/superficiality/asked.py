"""What a scorecard asks of any model, and what it refuses without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyses.asking import require_clusters
from analyses.contrast import Question, ask_contrast
from analyses.superficiality.config import SuperficialityConfig
from interp.directions.stored import read_header
from interp.fetch.cache import sha256_of

if TYPE_CHECKING:
    from interp.directions import DirectionStack


@dataclass(frozen=True)
class CardQuestion(Question[SuperficialityConfig]):
    """What is asked, with the direction of the user's file where there is one."""

    given: DirectionStack | None


def ask(config: SuperficialityConfig, *, progress: bool = True) -> CardQuestion:
    """Items, conditions, the direction given; refuses what has no placebos, and a single cluster."""
    if config.direction is not None:
        read_header(config.direction)  # refuses what is none
    question = ask_contrast(config, progress=progress)
    require_clusters(
        question.items, "a changed content is told from a flag by other clusters of items"
    )
    given, hashes = None, dict(question.data_hashes)
    if config.direction is not None:
        from interp.directions import load_direction  # heavy: only a file that can be one

        given = load_direction(config.direction)
        hashes["direction"] = sha256_of(config.direction)
    return CardQuestion(question.config, question.items, question.specs, hashes, given)
