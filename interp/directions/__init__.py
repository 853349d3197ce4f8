"""Directions: learned axes of the residual stream, their held-out scores, and projections."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.directions.baselines import word_baselines
    from interp.directions.decompose import Decomposition, decompose
    from interp.directions.direction import (
        Direction,
        DirectionFacts,
        DirectionStack,
        load_direction,
    )
    from interp.directions.fit import DirectionFits, fit_direction, fit_directions
    from interp.directions.moments import Moments, read_moments
    from interp.directions.names import COMPONENTS, METHODS, Component, FitMethod
    from interp.directions.nulls import contrast_directions, covariance_nulls, placebo_nulls
    from interp.directions.project import Projections, project, project_prompts
    from interp.directions.transfer import Transfer, transfer_matrix
    from interp.prompts import sentence_ids

__all__ = [
    "COMPONENTS",
    "METHODS",
    "Component",
    "Decomposition",
    "Direction",
    "DirectionFacts",
    "DirectionFits",
    "DirectionStack",
    "FitMethod",
    "Moments",
    "Projections",
    "Transfer",
    "contrast_directions",
    "covariance_nulls",
    "decompose",
    "fit_direction",
    "fit_directions",
    "load_direction",
    "placebo_nulls",
    "project",
    "project_prompts",
    "read_moments",
    "sentence_ids",
    "transfer_matrix",
    "word_baselines",
]

attach(__name__)
