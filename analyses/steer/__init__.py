"""Does steering along a direction move the answers more than steering along null directions?

The causal check: the learned direction's layer is moved by +-s class units at every position, and so
it is by steps of the same length along null directions of the same layer and site (drawn with the
covariance of the evaluation prompts' states, differences between placebo texts, non-moral contrasts
fitted the same way). Under each step the same outcomes are measured (:mod:`interp.behaviour.outcomes`),
all paired with the unsteered model's: margins of choice items, the preference for moral over immoral
sentences that the direction was not fitted on, continuations, and what the step costs in likelihood of
plain sentences.

Without a file the direction is fitted here, on one half of the groups of ``bundled:morality``; the
layer is picked by held-out AUC within that half, and the sentences compared are of the other half.

    done = run(Steer(), SteerConfig(items="bbq:Age", out="runs/steer"))
    done.swings
"""
