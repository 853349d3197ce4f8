"""Directions: learned axes of the residual stream, their held-out scores, and projections."""

from interp.directions.baselines import word_baselines
from interp.directions.direction import Direction, DirectionStack, load_direction
from interp.directions.fit import fit_direction, held_out_auc, sentence_ids
from interp.directions.project import Projections, project, project_prompts

__all__ = [
    "Direction",
    "DirectionStack",
    "Projections",
    "fit_direction",
    "held_out_auc",
    "load_direction",
    "project",
    "project_prompts",
    "sentence_ids",
    "word_baselines",
]
