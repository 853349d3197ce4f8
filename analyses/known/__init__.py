"""How the compiled models of :mod:`interp.known` were made: RASP programs through Tracr.

Needs the extra ``known`` (jax and tracr-pypi); the models themselves do not. ``python -m
analyses.known`` writes the weights and cards again.
"""
