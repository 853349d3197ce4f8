"""Coverage, size and power of :mod:`interp.stats`, by simulation with known truth.

    python -m analyses.benchmarks.simulations --jobs 2          # all of it; writes docs/methods.md
    python -m analyses.benchmarks.simulations --share 0.1       # a tenth, prints only

Needs numpy, scipy and statsmodels alone. Every row has a seed of its own, so that the table does not
depend on the number of processes.
"""
