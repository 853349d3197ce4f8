"""Which heads and MLPs carry an instruction: a circuit, how faithful it is, and which tests it passes.

Nodes, or with ``unit="edges"`` the edges between them, are scored on one half of the items' clusters. On
the other half the model is run with only those of the largest scores and the
placebo's outputs everywhere else, beside random circuits.

    done = run(Circuit(), CircuitConfig(items="bbq:Age", out="runs/circuit"))
    done.areas
"""
