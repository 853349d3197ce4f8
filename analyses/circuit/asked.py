"""What a circuit run asks of any model, and what it refuses without one."""

from __future__ import annotations

from analyses.circuit.config import CircuitConfig
from analyses.contrast import Question, ask_contrast
from interp.errors import InterpError


def ask(config: CircuitConfig, *, progress: bool = True) -> Question[CircuitConfig]:
    """Items and conditions; refuses what has no placebos, and a sample that cannot be halved."""
    question = ask_contrast(config, progress=progress)
    if len({item.cluster for item in question.items}) < 2:
        raise InterpError(
            "scores are made on other clusters of items than circuits are run on, and the items "
            "are of a single cluster: raise --limit, or name other --items"
        )
    return question
