"""Behaviour: what the model answers and writes, over conditions and rounds, and its readings."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.behaviour.answers import (
        calibration,
        calibration_error,
        flip_matrix,
        gain_by_rank,
        letter_bias,
    )
    from interp.behaviour.completions import strip_echo
    from interp.behaviour.distinguish import CompletionPair, distinguish_items, less_toxic_items
    from interp.behaviour.edits import edit_shares, edits_over_rounds
    from interp.behaviour.fairness import bbq_metrics, winogender_bias
    from interp.behaviour.generation import Decoding, complete, generate
    from interp.behaviour.history import (
        RoundHistory,
        history_line,
        load_histories,
        rounds_frame,
        save_histories,
    )
    from interp.behaviour.likelihood import LogLikelihoods, completion_nll, log_likelihood
    from interp.behaviour.outcomes import Outcomes
    from interp.behaviour.protocol import (
        RoundProtocol,
        condition_protocols,
        placebo_protocol,
        placebo_protocols,
        study_protocol,
    )
    from interp.behaviour.round_pair import round_pair
    from interp.behaviour.rounds import run_rounds
    from interp.behaviour.scorers import require_scorer
    from interp.behaviour.scores import Effect, OptionScores, bias_score
    from interp.behaviour.scoring import ScoringPlan, score_item, score_options, score_variants
    from interp.behaviour.toxicity import (
        ToxicityScorer,
        expected_maximum,
        mean_toxicity,
        scorer,
    )

__all__ = [
    "CompletionPair",
    "Decoding",
    "Effect",
    "LogLikelihoods",
    "OptionScores",
    "Outcomes",
    "RoundHistory",
    "RoundProtocol",
    "ScoringPlan",
    "ToxicityScorer",
    "bbq_metrics",
    "bias_score",
    "calibration",
    "calibration_error",
    "complete",
    "completion_nll",
    "condition_protocols",
    "distinguish_items",
    "edit_shares",
    "edits_over_rounds",
    "expected_maximum",
    "flip_matrix",
    "gain_by_rank",
    "generate",
    "history_line",
    "less_toxic_items",
    "letter_bias",
    "load_histories",
    "log_likelihood",
    "mean_toxicity",
    "placebo_protocol",
    "placebo_protocols",
    "require_scorer",
    "round_pair",
    "rounds_frame",
    "run_rounds",
    "save_histories",
    "score_item",
    "score_options",
    "score_variants",
    "scorer",
    "strip_echo",
    "study_protocol",
    "winogender_bias",
]

attach(__name__)
