"""What a scorecard asks of any model, and what it refuses without one."""

from __future__ import annotations

from analyses.asking import require_clusters
from analyses.contrast import Question, ask_contrast
from analyses.superficiality.config import SuperficialityConfig


def ask(config: SuperficialityConfig, *, progress: bool = True) -> Question[SuperficialityConfig]:
    """Items and conditions; refuses what has no placebos, and items of a single cluster."""
    question = ask_contrast(config, progress=progress)
    require_clusters(
        question.items, "a changed content is told from a flag by other clusters of items"
    )
    return question
