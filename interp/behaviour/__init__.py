"""Behaviour: what the model answers, by option text, under every condition, and what it writes."""

from interp.behaviour.generation import complete
from interp.behaviour.likelihood import LogLikelihoods, log_likelihood
from interp.behaviour.scores import Effect, OptionScores, bias_score
from interp.behaviour.scoring import ScoringPlan, score_item, score_options

__all__ = [
    "Effect",
    "LogLikelihoods",
    "OptionScores",
    "ScoringPlan",
    "bias_score",
    "complete",
    "log_likelihood",
    "score_item",
    "score_options",
]
