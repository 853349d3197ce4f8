"""What a scorecard asks of any model, and what it refuses without one."""

from __future__ import annotations

from analyses.contrast import Question, ask_contrast
from analyses.superficiality.config import SuperficialityConfig
from interp.errors import InterpError


def ask(config: SuperficialityConfig, *, progress: bool = True) -> Question[SuperficialityConfig]:
    """Items and conditions; refuses what has no placebos, and items of a single cluster."""
    question = ask_contrast(config, progress=progress)
    if len({item.cluster for item in question.items}) < 2:
        raise InterpError(
            "a changed content is told from a flag by other clusters of items, and the items are of "
            "a single cluster: raise --limit, or name other --items"
        )
    return question
