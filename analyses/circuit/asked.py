"""What a circuit run asks of any model, and what it refuses without one."""

from __future__ import annotations

from analyses.asking import require_clusters
from analyses.circuit.config import CircuitConfig
from analyses.contrast import Question, ask_contrast


def ask(config: CircuitConfig, *, progress: bool = True) -> Question[CircuitConfig]:
    """Items and conditions; refuses what has no placebos, and a sample that cannot be halved."""
    question = ask_contrast(config, progress=progress)
    require_clusters(
        question.items, "scores are made on other clusters of items than circuits are run on"
    )
    return question
