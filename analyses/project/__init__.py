"""What an instruction does to the projection: per layer, component and position, beside null directions.

Every item is asked clean, with each wording of the condition asked about and its length-matched
placebo, and with a revealing instruction (the positive control) and its placebo. One pass over an
item's prompts reads their projections on the direction, the exact parts they are the sum of, and their
projections on null directions of the same site and position: drawn with the covariance of the placebo
prompts' states, differences between placebo texts, and directions of non-moral contrasts fitted the
same way. What grows with the sample is a few numbers per prompt.

    done = run(Project(), ProjectConfig(items="bbq:Age", placement="before", positions="last,options"))
    done.contrasts
"""
