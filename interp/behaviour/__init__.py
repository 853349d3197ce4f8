"""Behaviour: what the model answers and writes, over conditions and rounds, and its readings."""

from interp.behaviour.answers import calibration, flip_matrix, gain_by_rank, letter_bias
from interp.behaviour.edits import edit_shares, edits_over_rounds
from interp.behaviour.fairness import bbq_metrics, winogender_bias
from interp.behaviour.generation import Decoding, complete, generate
from interp.behaviour.history import RoundHistory, load_histories, rounds_frame, save_histories
from interp.behaviour.likelihood import LogLikelihoods, log_likelihood
from interp.behaviour.protocol import RoundProtocol, placebo_protocol, study_protocol
from interp.behaviour.rounds import run_rounds
from interp.behaviour.scores import Effect, OptionScores, bias_score
from interp.behaviour.scoring import ScoringPlan, score_item, score_options
from interp.behaviour.toxicity import ToxicityScorer, expected_maximum, mean_toxicity, scorer

__all__ = [
    "Decoding",
    "Effect",
    "LogLikelihoods",
    "OptionScores",
    "RoundHistory",
    "RoundProtocol",
    "ScoringPlan",
    "ToxicityScorer",
    "bbq_metrics",
    "bias_score",
    "calibration",
    "complete",
    "edit_shares",
    "edits_over_rounds",
    "expected_maximum",
    "flip_matrix",
    "gain_by_rank",
    "generate",
    "letter_bias",
    "load_histories",
    "log_likelihood",
    "mean_toxicity",
    "placebo_protocol",
    "rounds_frame",
    "run_rounds",
    "save_histories",
    "score_item",
    "score_options",
    "scorer",
    "study_protocol",
    "winogender_bias",
]
