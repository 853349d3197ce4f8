"""Placebo against placebo: how often would a report print an effect of nothing?

``python -m analyses.benchmarks.nulls --out runs/nulls`` asks every report of the command line that
speaks of an instruction's effect (behave, lens, project, patch, and the demo that is composed of
them) about instructions that are none: six placebos pose as the instruction, six others as its
placebos. Whatever the reports then print as an effect is false, so at a level of .05 about one
draw in twenty may print one.

:mod:`.pool` runs the studies once on all wordings and items (the only part that needs a model;
resumable, and a folder that was made on another machine is read as well); :mod:`.draws` draws items
and wordings from these rows and lets the studies read and tell them; :mod:`.claims` looks for
effects in what was told.
"""
