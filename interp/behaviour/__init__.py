"""Behaviour: what the model answers, by option text, under every condition."""

from interp.behaviour.scores import Effect, OptionScores, bias_score
from interp.behaviour.scoring import ScoringPlan, score_item, score_options

__all__ = [
    "Effect",
    "OptionScores",
    "ScoringPlan",
    "bias_score",
    "score_item",
    "score_options",
]
